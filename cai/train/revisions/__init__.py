"""What a principle does to a revision: the same drafts under it, its opposite and a placebo."""

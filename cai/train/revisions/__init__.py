"""What a principle does to a revision: the same drafts under it, its opposite and a placebo.

instructions.py  under which texts a draft is revised; controlled.py: the drawing of them, and the asking
decided.py       how much of a revision its principle decides; command.py: `python -m cai.constitution revise`
"""

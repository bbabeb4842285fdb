"""Whether a judge reads its constitution: the same pairs under other texts, and what the text does to its verdicts.

effect      the statistics, from plain arrays of log-odds: gain, turn, share
negation    a principle turned into its opposite
placebos    texts of equal length on other subjects
controls    which texts a pair is judged under, and the asking
"""

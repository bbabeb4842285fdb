"""Whether a judge reads its constitution: the same pairs under other texts, and what the text does to its verdicts.

effect      the statistics, from plain arrays of log-odds: gain, turn, share
placebos    texts of equal length on other subjects
controls    which texts a pair is judged under, and the asking
verdict     from that to whether the judge is believed to read, in words
command     `python -m cai.judge reads`

A principle is turned into its opposite by cai/constitution/negation.py.
"""

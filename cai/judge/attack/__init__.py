"""Attacks: answers that a judge or a reward model may like better without reason, tried before anything is trained.

exploits (the file of them, and a control of equal length for each), measure (what they do to a score), stage (for the
report), command (`python -m cai.judge attack`). The statistics are in cai/stats/headroom.py.
"""

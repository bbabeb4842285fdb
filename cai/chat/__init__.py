"""Talking to the policies of a finished run in the terminal: `python -m cai.chat RUN`.

policies.py finds who speaks and who scores, talk.py is the conversation (no terminal in it), screen.py shows it and
saved.py writes pairs to label. May import every room above; no room imports this one.
"""

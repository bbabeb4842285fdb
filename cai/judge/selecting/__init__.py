"""Which way of asking a judge agrees best with people: chosen on one part of labelled pairs, measured on the other.

`ways` asks, splits and measures; `command` is `python -m cai.judge select`. May import everything in cai/judge/ but the
other programs' commands.
"""

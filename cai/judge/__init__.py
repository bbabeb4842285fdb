"""Tools for AI judges, one file a sub-command of `python -m cai.judge`.

bench: how good a judge is. reads: whether it reads its constitution. The judge itself is cai/judging.py, and how it
asks is cai/methods.py.
"""

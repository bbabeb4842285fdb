"""Tools for AI judges, one file a sub-command: `python -m cai.judge bench`, ...

bench: how good a judge is. The judge itself is cai/judging.py, and how it asks is cai/methods.py.
"""

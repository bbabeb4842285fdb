"""An experiment from end to end: pipeline (the story), evaluate, budgets, plan, checks.

Run it with `python -m cai.experiment FILE`. Imports the rooms above: core to compare.
"""

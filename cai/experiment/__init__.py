"""An experiment from end to end: pipeline (the story), sampling, labelling, evaluate, budgets, plan, checks.

Run it with `python -m cai.experiment FILE`; with `--plan` it only says what it would do. check_data and check_models
find what cannot work before the first stage. Imports the rooms above: core to compare.
"""

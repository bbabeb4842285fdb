"""Rows of data: every form in which people keep prompts and comparisons, read by one reader with one check.

    files.py       JSON lines, arrays, CSV, Parquet: where each row stands, and its value
    forms.py       what a row is, by its fields; a family of forms each: pairs, versus, several, trees, evaluation
    turns.py       conversations; prompts.py: which columns hold them; values.py: what a cell may hold
    reader.py      the reader

To add a form: a family file with `reads` and `read`, and a line in forms.py.
"""

"""Teaching a judge to read: lessons whose truth is computed from the answers and labelled by nobody.

principles.py  what can be checked (principles.yaml), and what it says of two answers
wording.py     a principle and its opposite, as a constitution would put them
answers.py     answers that a model gave or that rules made, and how they are changed
lessons.py     two answers under many standards, each with the P(a better) that follows
learn.py       a LoRA judge learns from them by the log-odds of `channel`
exam.py        what it learnt: principles, wordings and answers that were in no lesson
command.py     `python -m cai.judge train`
"""

"""Read a constitution back out of labels, or out of a policy's choices (inverse constitutional AI, arXiv 2406.06560).

labelled: pairs and what somebody preferred. candidates: principles that may explain it. voting: what each makes of each
pair. inference: which of them do (cai/stats/selection.py). proposing: a model's own candidates. written: the outcome as
a constitution file. page, command: `python -m cai.constitution infer`.
"""

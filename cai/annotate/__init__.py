"""The pages where people label and teach, and their server: `python -m cai.annotate`.

File formats are in cai/data. Imports the rooms above: core to experiment.
"""

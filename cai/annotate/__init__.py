"""The pages where people label and teach, and their server: `python -m cai.annotate`.

desk and live are what the pages may ask, without any HTTP; server.py serves them; talk.py finds the policy to talk to.
File formats are in cai/data. Imports the rooms above: core to experiment.
"""

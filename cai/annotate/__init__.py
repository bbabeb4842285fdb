"""Labelling by people: the page where they compare answers, its server, and the log of what they said.

Nothing is imported here, so that `cai.annotate.labels`, which other modules read logs with, stays light.
"""

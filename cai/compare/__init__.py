"""From what the stages left to results.json and the report: measures, sections/, table, plots, report.

results.py puts them together; the schema of results.json is in report.py. `python -m cai.compare RUN RUN...` sets
finished runs beside one another. Imports the rooms above: core to train.
"""

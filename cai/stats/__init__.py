"""Numbers in, estimates out: intervals, paired and crossed differences, people and judge together, agreement, games.

Every figure of a report is an `Estimate` from intervals.py, with its interval, rows and independent units. No file,
model or setting is known here. Imports the room core alone.
"""

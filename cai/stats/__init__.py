"""Numbers in, estimates out: intervals, paired and crossed differences, agreement, calibration, games.

Every figure of a report is an `Estimate` from intervals.py, with its interval, rows and independent units. No file,
model or setting is known here. Imports the room core alone.
"""

"""Numbers in, estimates out: intervals, paired and crossed differences, agreement, calibration, games.

No file, model or setting is known here. Imports cai.core alone.
"""

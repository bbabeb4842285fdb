"""Is a slimmed judge good enough? Measured before and after, on the same pairs, and on this machine.

`acceptance.py` is the measurement, `stages.py` the two stages of an experiment (`judge.slim`), `command.py` the same by
hand (`python -m cai.models slim`). How models are made smaller is in cai/models/slim/.
"""

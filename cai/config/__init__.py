"""One YAML file -> frozen, typed settings: tree (YAML with places), validation, sections, labels, rl, sweep, load.

Imports cai.core. Begin with `load.read_experiment`; what may be set is in sections.py, rl.py and labels.py.
"""

"""One YAML file -> frozen, typed settings: tree (YAML with places), validation, sections, labels, rl, sweep, load.

Begin with `load.read_experiment`; what may be set is in sections.py, rl.py and labels.py. Every fault of a file is told
at once, each with its line. Imports the room above: cai.core.
"""

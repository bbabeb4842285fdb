"""Models: references (what a name means), loading, chat (text -> ids), engines/ (generate and choose), score.

The workbench is what a stage is handed: engines behind the call cache, reward models, the device. Models without a hub
are in embedded.py, LoRA folders in adapters.py, and how they take turns on one base in resident.py; what all
of them share below LoRA is read once (trunk.py). Imports the rooms above: core, config, constitution.
"""

"""Models: references (what a name means), loading, chat (text -> ids), engines/ (generate and choose), score.

The workbench is what a stage is handed: engines, reward models, the device. Imports cai.core, config, constitution.
"""

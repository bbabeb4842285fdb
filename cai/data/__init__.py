"""Prompts, pairs and what people said of them: sources, rows/ (every form of file), label files and logs.

Imports the rooms above: core, config, constitution, models. `sources.load_data` is the stage that begins a run.
"""

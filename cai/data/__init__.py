"""Prompts, pairs and what people said of them: sources/ (one file each), rows/ (every form of file), labels and logs.

`sources.load_data` is the stage that begins a run. label_log and feedback are what the pages of cai/annotate append to;
votes turns rankings and ratings into pairs. Imports the rooms above: core, config, constitution, models.
"""

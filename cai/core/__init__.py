"""What every other room stands on: errors, records, draws, the store, progress, prompt templates, texts.

Nothing here knows what an experiment, a judge or a model is. It imports nothing of `cai` but itself.
"""

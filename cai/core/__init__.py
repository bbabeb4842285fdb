"""What every other room stands on: errors, records, draws and seeds, the store, progress, prompt templates, texts.

Here too: the hub and pip packages that data and weights come from (hub, packages), files that are whole or not there
(durable, owned), who makes a stage (lease), a store looked after (upkeep: `python -m cai.core`), and whether an answer
refuses (refusals). Nothing here knows what an experiment, a judge or a model is, and it imports only itself.
"""

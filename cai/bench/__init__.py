"""Benchmarks of one's own machine: `python -m cai.bench labels|reads|ppo|card|report|refusals`, one a file.

labels and ppo run beside the usual ways to do the same; card measures the rates of a device; refusals measures
cai/core/refusals.py on answers that people annotated, and makes its weights. Imports every room, and no room imports
it.
"""

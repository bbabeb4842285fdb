"""Smaller models made of given ones: quantised, pruned, or factorised, and how their folders are told and loaded.

`make.py` tells the story. Whether one is good enough is measured by whoever asks it (cai/judge/slimming/). May be
imported from here: nothing; its modules are imported by name.
"""

"""The AI judge: methods (how to ask), asking, combine, and the stages preflight, label, rate, play and items.

bench, reads/ and teaching/ measure and teach it: `python -m cai.judge bench|reads|train`. trial and flips try a
constitution. Imports the rooms above: core to stats.
"""

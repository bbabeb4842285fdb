"""The AI judge: methods (how to ask), asking, combine, and the stages preflight, label, rate, play and items.

bench, reads/ and teaching/ measure and teach it: `python -m cai.judge bench|reads|train`. trial, flips and following
try a constitution on pairs; diagnostics and conduct measure labels. Imports the rooms above: core to stats.
"""

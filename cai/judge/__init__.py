"""The AI judge: methods (how to ask), asking, combine, and the stages preflight, label, rate, play and items.

bench, reads/ and teaching/ measure and teach it, calculator what a tool does for a model: `python -m cai.judge
bench|reads|train|calculator`. trial, flips and following try a constitution on pairs, checkers/ compute votes;
diagnostics and conduct measure labels, inferring/ explains them. Imports the rooms above: core to stats.
"""

"""A reward model that writes before it judges: rationale, then verdict (`reward: {kind: generative}`).

asking.py     how it is asked: rationales drawn, the verdict read after each, and voted
selection.py  which rationales led to the right verdict, and what is preferred to what
written.py    the tokens that are learnt of a rationale and its verdict
stages.py     drawn, learnt by SFT, preferred by DPO: the stages; training.py: their order
comparing.py  its verdicts on held-out pairs, also after the rationales of others: is what it writes read?
picking.py    the best of several answers by its verdicts (`rl.method: best_of_n`)

Sources: Generative Verifiers (Zhang et al. 2024, arXiv 2408.15240): the verdict as a token's probability after a
rationale, several of which vote. GenRM (Mahan et al. 2024, arXiv 2410.12832): rationales that the model wrote itself,
those kept that led to the label (STaR, Zelikman et al. 2022), then DPO on right against wrong ones. DeepSeek-GRM (Liu
et al. 2025, arXiv 2504.02495): more samples, a better verdict.
"""

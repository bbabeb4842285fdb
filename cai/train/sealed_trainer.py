"""transformers' Trainer, with checkpoints that say whether they are whole (cai/train/checkpoints.py)."""

from transformers import Trainer

from cai.train.own_trainer import OwnTrainer


class SealedTrainer(OwnTrainer, Trainer):
    """Trainer's own steps; its loss is the mean over the tokens of a whole step, in however many parts that is read."""

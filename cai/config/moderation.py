"""`moderation:` a filter on what is trained on, on what models wrote for training, and on what is said in a chat.

moderation:
  words: experiments/data/blocked.txt      a file with one pattern a line (cai/judge/moderation.py), or
  classifier: {model: FOLDER, above: 0.5}  a model with one number for a text, such as a run's harmfulness model, or
  judge: {constitution: FILE, below: 0}    a judge by a constitution, in log-odds (lowest: 0.1 removes the worst tenth
                                           of the rows whatever the scale); or several filters: any removes a row
  at: [prompts, pairs]                     where; everywhere unless it says so

Off unless it stands there. Held-out prompts are never filtered: all arms answer the same ones, whether an arm filters
or not, and an experiment that left out what its filter finds would look the more harmless for it.
"""

from typing import Literal

from pydantic import Field, model_validator

from cai.config.section import Positive, Section
from cai.config.sections import Judge
from cai.config.validation import Fault

At = Literal["prompts", "revisions", "everyday", "pairs", "queries"]
AT: tuple[At, ...] = ("prompts", "revisions", "everyday", "pairs", "queries")
FILTERS: tuple[Literal["words", "classifier", "judge"], ...] = ("words", "classifier", "judge")


class ModerationClassifier(Section):
    """model: a folder with a reward model or a harmfulness model (runs/store/train_harm-.../model), or a hub id.

    above, below: the score beyond which a text is removed; one of them. A prompt is scored with an empty answer.
    max_length: in tokens; a text that is longer is not read, and kept and counted.
    """

    model: str
    above: float | None = None
    below: float | None = None
    max_length: Positive = 512

    @model_validator(mode="after")
    def _one_threshold(self) -> "ModerationClassifier":
        if (self.above is None) == (self.below is None):
            problem = "a classifier removes what is above a score, or what is below one"
            raise Fault(problem, "write above: 0.5 (of a model of harm), or below: 0 (of a reward model)")
        return self


class ModerationJudge(Judge):
    """A judge that removes what it rates below a threshold, in log-odds, the mean over its principles.

    An answer is rated as everywhere (`rate`); of a prompt it is asked whether a full answer would break the principle.
    lowest: instead, the share of the rows looked at together that it rates lowest, prompts and answers each by
    themselves: a small judge's log-odds may all lie on one side of 0, and another side for each question.
    """

    constitution: str = Field(exclude=True)  # its principles are in the keys, and not where they stand
    below: float = 0.0
    lowest: float | None = Field(default=None, gt=0, lt=1, exclude_if=lambda share: share is None)
    principles: Positive | Literal["all"] = "all"

    @model_validator(mode="after")
    def _rates(self) -> "ModerationJudge":
        if self.lowest is not None and "below" in self.model_fields_set:
            raise Fault("moderation.judge removes below a threshold, or the lowest share", "leave one out", "lowest")
        if self.method != "rate":
            problem = "moderation.judge looks at single texts by method: rate"
            raise Fault(problem, "leave method out", "method")
        if self.shots:
            raise Fault("moderation.judge is shown no examples that are drawn", "use examples: a file", "shots")
        return self


class Moderation(Section):
    """At least one filter. at: training prompts; revisions; answers to everyday prompts; sampled pairs, each removed
    where either answer is found; what is typed in `python -m cai.chat`."""

    words: str | None = None
    classifier: ModerationClassifier | None = None
    judge: ModerationJudge | None = None
    at: tuple[At, ...] = AT

    @model_validator(mode="after")
    def _filters_something(self) -> "Moderation":
        if not any(getattr(self, name) for name in FILTERS):
            remedy = "add words: experiments/data/blocked.txt, or leave moderation out"
            raise Fault(f"moderation has no filter: it needs {', '.join(FILTERS[:-1])} or {FILTERS[-1]}", remedy)
        if not self.at or len(set(self.at)) < len(self.at):
            raise Fault("moderation.at names each place once, and one at least", f"of {', '.join(AT)}", "at")
        if self.judge and self.judge.lowest is not None and "queries" in self.at:
            problem = "a lowest share is one of many rows, and in a chat (queries) there is one text at a time"
            raise Fault(problem, f"write at: [{', '.join(AT[:-1])}], or a threshold (below)", "at")
        return self

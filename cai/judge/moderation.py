"""A filter on texts: a list of words, a classifier with a threshold, or a judge with one. It says which texts, and why.

    words       one pattern a line: a word or a phrase, whole words only. Both sides are put into one form (NFKC, no
                characters that show nothing, small letters, one space for any gap), and `*` stands for the rest of a
                word. Lines that begin with # are notes.
    classifier  a model with one number for a text (a reward model, or one of harm)
    judge       `rate` for an answer, prompts/moderate.jinja for a message before it is answered; a mean over principles

A text that a filter cannot read (too long, no readable vote) is not removed, and counted. How often each filter is
wrong is measured on XSTest (cai/train/moderate.py): safe prompts that look unsafe show its false alarms.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from cai.config.moderation import FILTERS, Moderation, ModerationClassifier, ModerationJudge
from cai.config.sections import Policy
from cai.constitution import Judging, read_constitution
from cai.core.draws import normal
from cai.core.errors import UserError, UserErrors, input_text
from cai.core.records import Chat, Prompt
from cai.core.shipped import locate
from cai.core.templates import load_template
from cai.judge.asked import AskedJudge
from cai.judge.asking import JudgeEngine, ask_once, drawn, judge_answers
from cai.judge.ballots import rendered
from cai.judge.combine import weighted, weights_of
from cai.models.chat import answered
from cai.models.engines import Question
from cai.models.loading import shared_tokenizer
from cai.models.references import Dtype, ModelRef, find
from cai.models.workbench import Workbench

Filter = Literal["words", "classifier", "judge"]
TOO_LONG = "too long to be read"
UNREAD = "no readable vote"


@dataclass(frozen=True, slots=True)
class ModeratedText:
    """A text to be looked at: a conversation that ends with a person's message, and an answer to it, if there is one.

    With an answer, the answer is what may be removed.
    """

    prompt: Prompt
    answer: str | None = None

    @property
    def text(self) -> str:
        """What a list of words is held against: the answer, or all that the person said."""
        if self.answer is not None:
            return self.answer
        return "\n".join(message.content for message in self.prompt.messages if message.role == "user")


@dataclass(frozen=True, slots=True)
class Flag:
    """Why a filter removes a text. reason: the pattern, or the threshold; value: the score, where there is one.

    unread: the filter could not read the text, which it then does not remove.
    """

    filter: Filter
    reason: str
    value: float | None = None
    unread: bool = False


@dataclass(frozen=True, slots=True)
class Classifier:
    settings: ModerationClassifier
    model: ModelRef
    policy: Policy
    dtype: Dtype


@dataclass(frozen=True, slots=True)
class Moderator:
    """The filters of `moderation:`, with what they read. words: patterns in their one form; None for no list."""

    words: tuple[str, ...] | None = None
    classifier: Classifier | None = None
    judge: AskedJudge | None = None
    below: float = 0.0

    @classmethod
    def of(cls, settings: Moderation, work: Workbench, policy: Policy, dtype: Dtype, seed: int) -> "Moderator":
        """policy: under whose system prompt texts are scored. Raises UserError(s) for what is not there."""
        judge = None
        if settings.judge:
            judge = AskedJudge.of(settings.judge, work.constitution(settings.judge.constitution), dtype, seed)
            judge = AskedJudge(
                settings=judge.settings, model=judge.model, principles=judge.principles,
                templates={**judge.templates, "moderate": load_template("moderate")}, dtype=dtype, seed=seed,
            )  # fmt: skip
        classifier = settings.classifier
        return cls(
            words=read_words(settings.words) if settings.words else None,
            classifier=Classifier(classifier, find(classifier.model), policy, dtype) if classifier else None,
            judge=judge,
            below=settings.judge.below if settings.judge else 0.0,
        )

    @property
    def filters(self) -> tuple[Filter, ...]:
        return tuple(name for name in FILTERS if getattr(self, name) is not None)

    def flags(self, work: Workbench, texts: Sequence[ModeratedText]) -> list[list[Flag]]:
        """What each filter has to say of each text; nothing of a text that passes it."""
        flags: list[list[Flag]] = [[] for _ in texts]
        for look, there in (
            (self._by_words, self.words),
            (self._by_score, self.classifier),
            (self._by_judge, self.judge),
        ):
            for mine, flag in zip(flags, look(work, texts) if there is not None and texts else [], strict=False):
                mine += [flag] if flag else []
        return flags

    def _by_words(self, work: Workbench, texts: Sequence[ModeratedText]) -> list[Flag | None]:
        hits = [hit(text.text, self.words or ()) for text in texts]
        return [Flag("words", pattern) if pattern else None for pattern in hits]

    def _by_score(self, work: Workbench, texts: Sequence[ModeratedText]) -> list[Flag | None]:
        from cai.models.score import score  # heavy

        assert self.classifier
        by, settings = self.classifier, self.classifier.settings
        values = score(
            work.reward_model(by.model, by.dtype), shared_tokenizer(by.model),
            [answered(text.prompt.messages, text.answer or "", by.policy.system) for text in texts],
            max_length=settings.max_length, batch_tokens=work.runtime.batch_tokens,
        )  # fmt: skip
        if settings.above is not None:
            reason, beyond = f"above {settings.above:g}", lambda value: value > settings.above
        else:
            reason, beyond = f"below {settings.below:g}", lambda value: value < settings.below
        return [_flag("classifier", reason, value, TOO_LONG, value is not None and beyond(value)) for value in values]

    def _by_judge(self, work: Workbench, texts: Sequence[ModeratedText]) -> list[Flag | None]:
        assert self.judge
        engine = self.judge.engine(work)
        alone = [place for place, text in enumerate(texts) if text.answer is None]
        with_answer = [place for place, text in enumerate(texts) if text.answer is not None]
        given = [(texts[place].prompt, str(texts[place].answer)) for place in with_answer]
        rated = judge_answers(engine, given, self.judge, title="moderate the answers") if given else []
        asked = judge_messages(engine, [texts[place].prompt for place in alone], self.judge)
        values = dict(zip([*with_answer, *alone], [*rated, *asked], strict=True))
        settings = self.judge.settings
        share = settings.lowest if isinstance(settings, ModerationJudge) else None
        if share is None:
            reason = f"below {self.below:g}"
            beyond = {place for place, value in values.items() if value is not None and value < self.below}
        else:
            reason = f"of the lowest {share:.0%}"
            beyond = {place for some in (with_answer, alone) for place in lowest(share, some, values)}
        return [_flag("judge", reason, values[place], UNREAD, place in beyond) for place in range(len(texts))]


def _flag(name: Filter, reason: str, value: float | None, unread: str, beyond: bool) -> Flag | None:
    if value is None:
        return Flag(name, unread, unread=True)
    return Flag(name, reason, value) if beyond else None


def lowest(share: float, places: Sequence[int], values: Mapping[int, float | None]) -> list[int]:
    """The `share` of `places` with the lowest values, rounded to whole ones; what has no value is not counted."""
    rated = sorted((value, place) for place in places if (value := values[place]) is not None)
    return [place for _, place in rated[: round(share * len(rated))]]


def removes(flags: Sequence[Flag]) -> bool:
    return any(not flag.unread for flag in flags)


def judge_messages(engine: JudgeEngine, prompts: Sequence[Prompt], judge: AskedJudge) -> list[float | None]:
    """For each message before it is answered, log-odds of No to "would a full answer go against this?", the weighted
    mean over its principles: below 0 the judge would rather not have it answered. None where no vote can be read."""
    weights = weights_of(judge.principles, judge.settings)
    asked = [
        (place, principle, _question(judge, prompt.messages, principle))
        for place, prompt in enumerate(prompts)
        for principle in drawn(prompt, judge.principles, judge)
    ]
    readings = ask_once(engine, [question for *_, question in asked], judge.settings, "moderate the prompts")
    votes: list[list[tuple[float, float]]] = [[] for _ in prompts]
    for place, principle, question in asked:
        reading = readings[question]
        if reading and not reading.fault and reading.mass >= judge.settings.min_mass:
            yes, no = reading.logprobs
            votes[place].append((weights[principle.name], no - yes))
    return [weighted(mine) if mine else None for mine in votes]


def _question(judge: AskedJudge, messages: Chat, principle: Judging) -> Question:
    return Question(rendered("moderate", judge.templates, messages, principle), ("Yes", "No"))


def filter_files(settings: Moderation) -> list[Any]:
    """What the files of the filters hold. Raises UserError, or UserErrors, for what is not there or wrong in them."""
    judged = settings.judge and read_constitution(settings.judge.constitution).text
    patterns = read_words(settings.words) if settings.words else None
    return [patterns, judged, load_template("moderate") if judged else None]


# Lists of words -------------------------------------------------------------------------------------------------------


def read_words(file: str) -> tuple[str, ...]:
    """The patterns of a list, in their one form and without repetitions. Raises UserErrors with the lines at fault."""
    path = locate(file)
    try:
        lines = input_text(path).splitlines()
    except OSError as error:
        remedy = "give a plain text file, one word or phrase a line: experiments/data/blocked.txt is one"
        raise UserError(f"there is no list of words: {error.strerror}", f"moderation.words: {file}", remedy) from None
    patterns = [(number, plain(line)) for number, line in enumerate(lines, 1) if not line.strip().startswith("#")]
    patterns = [(number, pattern) for number, pattern in patterns if pattern]
    faults = [
        UserError(f'"{pattern}" would be found in any text', f"{Path(path)}:{number}", "write a word before the *")
        for number, pattern in patterns
        if any(not any(char.isalnum() for char in word) for word in pattern.split() if "*" in word)
        or not any(char.isalnum() for char in pattern)
    ]
    if faults:
        raise UserErrors(faults)
    if not patterns:
        raise UserError("no pattern in this list", str(path), "write one word or phrase a line, or leave words out")
    return tuple(dict.fromkeys(pattern for _, pattern in patterns))


def plain(text: str) -> str:
    """The one form in which patterns and texts are compared."""
    return normal(text.replace("’", "'")).casefold()


def hit(text: str, patterns: tuple[str, ...]) -> str:
    """The first pattern, in the order of the list, that the text holds as whole words; "" for none."""
    form = plain(text)
    whole, each = _compiled(patterns)
    if not whole.search(form):
        return ""
    return next(pattern for pattern, expression in each if expression.search(form))


@lru_cache(maxsize=8)
def _compiled(patterns: tuple[str, ...]) -> tuple[re.Pattern, list[tuple[str, re.Pattern]]]:
    words = [re.escape(pattern).replace(re.escape("*"), r"\w*") for pattern in patterns]
    expressions = [rf"(?<!\w){word}(?!\w)" for word in words]
    each = [(pattern, re.compile(text)) for pattern, text in zip(patterns, expressions, strict=True)]
    return re.compile("|".join(expressions)), each

"""The sections of an experiment's YAML file, typed and checked: what may be set, and what it is unless set.

cai/config/load.py puts them together to arms and reads the file; `rl:` is in cai/config/rl.py.
"""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from cai.config.chat_template import ChatTemplate
from cai.config.checkers import Checkers
from cai.config.generative import RewardKind
from cai.config.methods import NAMES, SHOWN, UNSAID
from cai.config.preflight import Preflight
from cai.config.rubric import RUBRIC
from cai.config.section import Count, Positive, Rate, Section, Share, Temperature, Warm
from cai.config.served import DRAWS, Served, check_server_of_policy
from cai.config.slim import Slimming
from cai.config.validation import Fault


class Policy(Section):
    """The model that is trained. model: an embedded name (smollm2-135m), a local folder, or a hub id.

    An adapter's folder is a model too, on the base that it names: with `training: lora` it goes on learning as it is,
    so `lora_rank` must be its own. template: see above (`template: plain` for a base model).
    """

    model: str = "smollm2-135m"
    template: ChatTemplate = None
    # Where it is served, for all that it only writes (cai/models/README.md); it is trained on its weights here.
    server: Served = None
    system: str | None = "You are a helpful assistant."
    training: Literal["lora", "full"] = "lora"
    lora_rank: Positive = 16
    # LoRA on the last n layers only (null: all): the layers below then need no backward pass.
    lora_layers: Positive | None = None

    @model_validator(mode="after")
    def _can_be_served(self) -> "Policy":
        check_server_of_policy(self.server, self.training)
        return self


class Data(Section):
    """Prompts, and the human-labelled pairs that come with them.

    source: rated-answers (human-rated answers carried by a pip package), hh-rlhf (the hub), or a .jsonl(.gz) file of
    prompts, of pairs, or of HH-RLHF rows. Splits are by prompt: no prompt is in both train and test.
    """

    source: str
    test: Share = 0.3
    # Share of the prompts that nothing is trained on and no result is reported of: on these the judge is chosen and
    # calibrated, and `rl.gold` looks at the policy.
    calibration: Share = 0.0
    # Pairs from ratings: the least difference between the two mean ratings. Of any source: how many pairs one prompt
    # may give; K ranked answers give K(K-1)/2, and what is over the limit is counted.
    min_gap: Share = 0.25
    pairs_per_prompt: Positive = 6
    max_words: Positive = 400
    train_pairs: Positive | None = None
    calibration_pairs: Positive | None = None
    test_pairs: Positive | None = None

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> "Data":
        if self.test + self.calibration >= 1 and self.calibration:
            problem = f"test ({self.test}) and calibration ({self.calibration}) leave no prompt to train on"
            raise Fault(problem, "lower one of them", "calibration")
        return self


class Helpful(Section):
    """Harmless everyday prompts: the helpfulness mix of SFT and PPO, and the check for over-refusal."""

    source: str = "experiments/data/helpful.jsonl"


class Revise(Section):
    """Drafts, then rounds of critique and revision (Bai et al. 2022, section 3.1).

    critique: false asks for each revision without a critique first (figure 7). principles: how many of the
    constitution's the rounds draw from (figure 6), nested: 4 are 3 and one more; null: all. The judge reads all.
    model: who criticises and revises, null for the policy's own start model; the drafts are the policy's either way, so
    that arms with other revisers revise the same drafts; server: where it is served. examples: worked rounds that are
    shown before every critique and revision, a file of turns as prompts/examples/revise.jinja. audit: so many drafts
    are revised again under the opposites and placebos of their principles, for the report to say what a principle
    decides (cai/train/revisions/decided.py).
    """

    prompts: Positive = 64
    rounds: Positive = 2
    # No part of a key: the templates, the principles and the model that the stages are given say as much.
    critique: bool = Field(default=True, exclude=True)
    principles: Positive | None = Field(default=None, exclude=True)
    model: str | None = Field(default=None, exclude=True)
    server: Served = None
    examples: str | None = Field(default=None, exclude=True)
    audit: Count = Field(default=0, exclude=True)
    max_new_tokens: Positive = 96
    temperature: Temperature = 1.0

    @model_validator(mode="after")
    def _somebody_is_served(self) -> "Revise":
        if self.server and not self.model:
            raise Fault("a server, and no name of the model that it serves", "add revise.model", "server")
        if self.server and self.server.same:
            raise Fault(DRAWS, "remove it", "server")
        return self


LESSONS = ("revisions", "drafts", "preferred", "nothing")


class Sft(Section):
    """Supervised fine-tuning, on answers alone. helpful: share of rows that answer a helpful prompt.

    learns: what the policy is to answer, a word or a file.
    revisions  the last revisions of `revise:` (Bai et al. 2022, section 3.1)
    drafts     what these revisions were made of, on the very same prompts: the control
    preferred  of the training pairs, the answers that people preferred
    nothing    no SFT: the arm goes on from the start model, of which its drafts are kept to normalise rewards on
    FILE       demonstrations: prompts and answers, in every form that cai/data/rows/answered.py reads
    """

    learns: str = Field(default="revisions", exclude=True)  # no part of a key: the stage is given it
    epochs: Rate = 1
    learning_rate: Rate = 1e-4
    batch_size: Positive = 8
    helpful: Annotated[float, Field(ge=0, lt=1)] = 0.0
    max_length: Positive = 512

    @property
    def revises(self) -> bool:
        """Whether anything is drafted and revised for it."""
        return self.learns in ("revisions", "drafts")

    @property
    def drafts(self) -> bool:
        """Whether the start model drafts for this arm, whether or not it revises."""
        return self.revises or self.learns == "nothing"

    @property
    def file(self) -> str | None:
        return None if self.learns in LESSONS else self.learns


class Pairs(Section):
    """data: the labelled pairs of `data:`. policy: two fresh answers of the SFT policy to each training prompt.

    opposed: the SFT policy answers once told to keep to a principle and once told to go against it (Yang et al. 2023,
    RLCD); `judge.method: provenance` then labels each pair by which answer was written under which instruction.
    """

    source: Literal["data", "policy", "opposed"] = "data"
    prompts: Positive | None = None
    max_new_tokens: Positive = 96
    temperature: Temperature = 1.0


class Reason(Section):
    """Chain of thought before the choice (Bai et al. 2022, section 4.1): its length, and how the outcome is tamed."""

    max_new_tokens: Positive = 96
    temperature: Temperature = 1.0
    # Thoughts drawn for each order; the probabilities they lead to are averaged.
    samples: Positive = 1
    # After a thought a model is surer than it is right; the paper found 0.4 to 0.6 best.
    clamp: Annotated[tuple[Share, Share], Field(min_length=2, max_length=2)] = (0.4, 0.6)


# A file in cai/judge/methods/.
if TYPE_CHECKING:
    Method = str
else:
    Method = Literal[NAMES]
Mix = Annotated[dict[Method, Rate], Field(min_length=1)]


class Judge(Section):
    """How a model is asked which answer is better; each method is a file in cai/judge/methods/.

    template: which chat template, or what it is told, as in `policy:`. A thinking model can judge only where its
    template opens an answer without a thought: {enable_thinking: false}. server: where the model is served; null: it
    runs in process.
    """

    model: str = "smollm2-135m"
    template: ChatTemplate = None
    server: Served = None
    method: Method | Mix = "rate"  # one, or several with a weight each
    # read: off the log-probabilities of its options. sampled: asked so many times, and counted; for models that give no
    # log-probabilities, and for methods that end in words (all but contrast and channel).
    verdict: Literal["read", "sampled"] = Field(default="read", exclude_if=lambda held: held == "read")
    samples: Positive = Field(default=5, exclude_if=lambda held: held == 5)
    # How many principles are drawn for a prompt; the paper draws one.
    principles: Positive | Literal["all"] = 1
    # Of several principles: the mean of their log-odds, or the share of them that prefer an answer.
    combine: Literal["average", "vote"] = "average"
    # `Priority:`: a level of principles ties, and the next one is heard, where its P is this near to one half.
    tie: Annotated[float, Field(ge=0, lt=0.5, exclude_if=lambda held: held == 0.05)] = 0.05
    # `Never:`: an answer breaks a limit where the judge's P of Yes (of Yes or No) is at least this.
    breach: Share = Field(default=0.5, exclude_if=lambda held: held == 0.5)
    # Worked examples for a method, shown before its question: a file of turns, as in prompts/examples/.
    examples: dict[Method, str] = Field(default={})
    # Behind those, so many of people's verdicts on training pairs (cai/data/shots.py): it then reads more than a text.
    shots: Count = Field(default=0, exclude_if=lambda held: held == 0)
    reason: Reason = Reason()
    # A vote whose options hold less than this share of the probability is not read; no readable vote, no label.
    min_mass: Share = 0.02
    # Divides the log-odds: below 1 it sharpens the timid probabilities of a small judge; it never turns a verdict.
    temperature: Warm = 1.0
    system: str | None = None
    # How much of a conversation the judge reads: this many turns of the human from the last one back, with what was
    # answered between them; null: all. A small judge loses the answer it is to judge behind a long conversation.
    turns: Positive | None = None
    # Longest question in tokens; a pair that needs more is abstained and counted, never cut.
    max_length: Positive = 1024
    checkers: Checkers = Field(default=(), exclude_if=lambda named: not named)  # what `Check:` may run

    @property
    def spoken(self) -> bool:
        """Whether its verdicts are words alone, or the few likeliest ones: no text's likelihood can be asked for."""
        return self.verdict == "sampled" or bool(self.server and self.server.api == "chat")

    @model_validator(mode="after")
    def _can_be_asked(self) -> "Judge":
        methods = {self.method} if isinstance(self.method, str) else {*self.method}
        if RUBRIC in methods and (len(methods) > 1 or "rubric" not in type(self).model_fields):
            problem = "method: rubric scores by criteria, which the judge of an arm alone has"
            raise Fault(problem, "name another method here; write judge: {rubric: FILE.jsonl} for the arm's", "method")
        if len(methods) > 1 and "check" in methods:
            raise Fault("`Check:` votes by every method, and is no share of a mix", "leave check out", "method")
        if self.spoken and (silent := sorted(methods & {*UNSAID})):
            why = "verdict: sampled counts words" if self.verdict == "sampled" else "a chat API gives words"
            problem = f"{why}, and {silent[0]} asks how likely a given text is"
            raise Fault(problem, "use rate, choice, score or reason", "method")
        if self.spoken and "auto" in methods:
            problem = "auto tries methods that ask how likely a text is, which cannot be asked here"
            raise Fault(problem, "name one: rate, choice, score or reason", "method")
        if self.shots and (others := sorted(methods - {*SHOWN})):
            shown = f"judge.shots are shown by {' and '.join(SHOWN)}, and not by {others[0]}"
            raise Fault(shown, "name one of these, or use judge.examples", "shots")
        if self.server and self.server.same and (self.verdict == "sampled" or "reason" in methods):
            raise Fault(DRAWS, "remove it, or read the verdicts of another method", "server")
        return self


class Labeller(Judge):
    """The judge that stands in for people. auto: of the methods that read, the best on the calibration split."""

    method: Method | Mix | Literal["auto"] = "rate"  # pyrefly: ignore (frozen, so a wider type does no harm)
    # Fit slope and bias (Platt 1999) on the calibration split, so that a P of 0.8 is right 80% of the time.
    calibrate: bool = False
    preflight: Preflight | None = Preflight()  # null: label without looking first
    # A smaller model is made of the judge's and asked in its place. No part of a key: the model that is asked is.
    slim: Slimming = Field(default=None, exclude=True)
    # On so many held-out pairs it is seen which exploits (prompts/attacks.txt) turn its labels; for the report alone.
    attacks: Count = Field(default=0, exclude=True)


class Simulated(Section):
    """Simulated people (AlpacaFarm, Dubois et al. 2023, section 3): each pair goes to one of a pool of judges.

    A judge of the pool is written as what it changes of `judge:`. It names one answer, as a person would; a share
    `flip` of the choices is then turned round, for people contradict one another and themselves.
    """

    pool: tuple[Judge, ...] = ()
    flip: Share = 0.25


class Reward(RewardKind):
    """The reward model. kind, and what a generative one reads: cai/config/generative.py.

    group: what stands together in one batch element, of which a step takes `batch_size`. pair: one comparison. prompt:
    all comparisons among the answers to one prompt, each answer read once (Ouyang et al. 2022, section 3.5); where
    prompts have many answers a batch then holds many, so lower `batch_size`.
    """

    group: Literal["pair", "prompt"] = "pair"
    epochs: Rate = 1
    learning_rate: Rate = 1e-4
    batch_size: Positive = 8
    max_length: Positive = 384


class Harmfulness(Section):
    """Absolute harmfulness (Bai et al. 2022, section 4.4): a model is fitted to people's ratings of single answers.

    The start model is trained as in `policy:`, on the ratings of training prompts, and scores every policy's answers.
    """

    # Whose ratings: null for those of `data:`, which must have some; else another source, which is then split anew.
    source: str | None = Field(default=None, exclude=True)  # no part of a key: the stages are given the ratings
    # At most this many rated answers to learn from, chosen by hash; null: all.
    answers: Positive | None = None
    epochs: Rate = 2
    learning_rate: Rate = 5e-4
    batch_size: Positive = 8
    # Tokens of conversation and answer; longer ones are dropped and counted, in training and where they are scored.
    max_length: Positive = 512


class Evaluate(Section):
    """Held-out prompts that every policy answers, and the judge that compares answers, by a yardstick of its own."""

    constitution: str = "constitutions/yardstick.txt"
    # By what the judge rates the answers to helpful prompts.
    helpfulness: str = "constitutions/helpfulness.txt"
    prompts: Positive = 60
    helpful: Count = 30
    # Held-out prompts whose critiques and revisions are made as well, for the report.
    transcripts: Count = 20
    max_new_tokens: Positive = 64
    temperature: Temperature = 1.0
    # So many training prompts with the answers that people prefer stand before every prompt; judge: as in judge.shots.
    shots: Count | Literal["judge"] = 0
    judge: Judge = Judge(principles="all")
    # XSTest (Röttger et al. 2024), safe prompts that look unsafe and their unsafe contrasts: its prompts file, or
    # Paul/XSTest for the hub's copy. Every policy answers all 450.
    xstest: str | None = None
    # Files of comparisons that people have decided, such as the paper's multiple-choice evaluations, in any form that
    # `python -m cai.judge bench` reads: reward models score them, and policies and the judge choose.
    comparisons: tuple[str, ...] = ()
    # null: no policy is scored for absolute harmfulness.
    harmfulness: Harmfulness | None = None
    # A difference between two arms' shares that would not matter; "equivalent" in the report means shown to be smaller.
    margin: Annotated[float, Field(gt=0, le=1)] = 0.05

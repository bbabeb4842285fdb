"""What sources hand over: prompts and pairs, and on which side of the split each is.

Splits are by what a person said first, so that no prompt is in both train and test; the order in which the two
answers of a pair are shown is drawn by hash, so that "a" is not the better one more often than "b".
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from cai.config.sections import Data
from cai.core.draws import identity, normal, uniform
from cai.core.records import Pair, Prompt, Rating, SetAside, Split


@dataclass
class Material:
    """What a source holds. counts: what was read and why rows were left out."""

    prompts: dict[str, Prompt] = field(default_factory=dict)
    pairs: dict[str, Pair] = field(default_factory=dict)
    ratings: list[Rating] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)
    aside: list[SetAside] = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """Where data comes from. A file in cai/data/sources/ declares one as its `SOURCE`.

    example: what an experiment may write as `data.source`, for the message that there is no such. answers: whether that
    name is this source's. digest: (name, the key of the config that it stands at) -> what stands for its contents in a
    stage's key; raises UserError where it is not to be had. at_hand: whether it can be read without fetching anything.
    read: raises UserError. rates: whether people rated single answers in it (`Material.ratings`).
    """

    example: str
    answers: Callable[[str], bool]
    digest: Callable[[str, str], str]
    at_hand: Callable[[str], bool]
    read: Callable[[Data, int], Material]
    rates: bool = False


def split_of(prompt_id: str, data: Data, seed: int) -> Split:
    spot = uniform("split", seed, prompt_id)
    return "test" if spot < data.test else "calibration" if spot < data.test + data.calibration else "train"


class Openings:
    """Which side of the split a conversation is on, by its opening: what the person said first.

    Conversations that grow out of one opening, and openings that differ by Unicode form, by white space, by characters
    without width or by case alone, are on one side.
    """

    def __init__(self, data: Data, seed: int) -> None:
        self.data, self.seed = data, seed
        self.forms: dict[str, set[tuple[str, str]]] = {}

    def add(self, text: str, kind: str) -> None:
        """kind: what the identities of its form are made with."""
        self.forms.setdefault(self.key(text), set()).add((kind, normal(text)))

    def key(self, text: str) -> str:
        return normal(text).casefold()

    def split(self, text: str) -> Split:
        """The side of an opening that was added. Alone it depends on nothing else in the file; of several kinds, or of
        several that differ by case, the first by the alphabet decides."""
        return split_of(identity(*min(self.forms[self.key(text)])), self.data, self.seed)


def make_pair(
    prompt: Prompt, better: str, worse: str, human: float, votes: Iterable[float], seed: int, raters: Iterable[str] = ()
) -> Pair:
    """A pair whose order is drawn by hash, whoever won. human, votes: P(`better` is better)."""
    pair_id = identity("pair", prompt.id, *sorted((better, worse)))
    a, b = sorted((better, worse), reverse=uniform("order", seed, pair_id) < 0.5)
    if a != better:
        human, votes = 1 - human, [1 - vote for vote in votes]
    return Pair(id=pair_id, prompt=prompt, a=a, b=b, human=human, votes=tuple(votes), raters=tuple(raters))

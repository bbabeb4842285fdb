"""What one row of a file says, before it is a prompt or a pair: the same record for every form."""

from dataclasses import dataclass

from cai.core.records import Chat, RaterVote


@dataclass(frozen=True, slots=True)
class Choice:
    """A multiple choice as a file has it. chat: what is asked. options: the right one first. lead: how it begins."""

    chat: Chat
    options: tuple[str, str]
    lead: str


@dataclass(frozen=True, slots=True)
class Judged:
    """Two answers, and how people judged them.

    votes:    each judgement, P(a better), by a rater whose name may be "" (unknown).
    human:    P(a better) by the row itself; None: the mean of `votes`, or nobody judged them.
    id:       the pair's own name, "" for none. own_order: which answer is called a is the file's, not drawn by hash.
    prompted: P(a better) by the instruction that each was written under (see cai/core/records.py, Pair).
    """

    a: str
    b: str
    votes: tuple[RaterVote, ...] = ()
    human: float | None = None
    id: str = ""
    own_order: bool = False
    prompted: float | None = None


@dataclass(frozen=True, slots=True)
class FileRow:
    """What a row says. form: the name of its form.

    messages:  the conversation, which ends with the person's turn.
    judged:    pairs of answers to it; () for a bare prompt.
    id, subset, split: the prompt's, as the row gives them; "" for a split that is to be drawn.
    aside:     why parts of the row cannot be used.
    choice:    the multiple choice as given. opening: what a pair is counted under where `messages` is only about a
               conversation. conduct: that conversation up to its last answer, and the answer.
    """

    form: str
    messages: Chat
    judged: tuple[Judged, ...] = ()
    id: str = ""
    subset: str = "all"
    split: str = ""
    aside: tuple[str, ...] = ()
    choice: Choice | None = None
    opening: str = ""
    conduct: tuple[Chat, str] | None = None


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """One answer that was rated by itself; it becomes a pair with another rated answer to the same conversation.

    value: higher is better.
    """

    row: FileRow
    answer: str
    rater: str
    value: float


@dataclass(frozen=True, slots=True)
class Node:
    """One message of a tree that stands in a file as a table. rank: 0 for the best of its siblings."""

    id: str
    parent: str
    role: str
    text: str
    rank: int | None
    split: str = ""

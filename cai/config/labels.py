"""Who says which answer is better: `labels:` is a word, or one section.

labels: ai             the judge of `judge:`
labels: human          the people whose labels came with the pairs
labels: simulated      the judges of `simulated:`, who stand for people and err like them
labels: shuffled       a coin, tossed for each pair and seed: the null, what labels give that say nothing
labels: shorter        length alone: the answer with fewer words (as many: nobody labels the pair), a trivial baseline

labels:
  default: ai          who labels what nothing below says; without it, a pair that nothing names is an error
  subsets: {helpful: human}        by the pair's subset (Bai et al. 2022), or
  shares: {ai: 0.9, human: 0.1}    by share, drawn for each pair by hash, or
  budget: 200                      people for so many training pairs,
  order: uncertain                 those that the judge is least sure of (random, the default: drawn)
  file: labels.jsonl   where people's labels come from (cai/data/labels.py), if not with the pairs
  raters: [ann, bob]   whose labels in the file are known; others are set aside
  groups: {brief: [ann, bob], long: [cleo]}        instead: known by groups, each of which counts alike (publics.py)
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from cai.config.publics import Raters, fault_of_groups
from cai.config.sections import Positive, Section, Share
from cai.config.tree import show
from cai.config.validation import Fault
from cai.core.errors import some, suggest

Who = Literal["ai", "human", "simulated", "shuffled", "shorter"]
WHO = ("ai", "human", "simulated", "shuffled", "shorter")  # shares are drawn in this order: add at the end
WORDS = {
    "ai": "the AI judge",
    "human": "people",
    "simulated": "simulated people",
    "shuffled": "a coin",
    "shorter": "the rule that the shorter answer is better",
}
FORMS = f"write {', '.join(WHO)}, or the section that cai/config/labels.py describes"


class Sources(Section):
    """Who labels which pair. At most one of subsets, shares and budget."""

    default: Who | None = None
    subsets: dict[str, Who] = Field(default={})
    shares: dict[Who, Share] = Field(default={})
    budget: Positive | None = None
    order: Literal["random", "uncertain"] = "random"
    file: str | None = None
    raters: Raters = ()
    groups: dict[str, Raters] = Field(default={}, exclude_if=lambda given: not given)

    @model_validator(mode="after")
    def _everything_given_is_used(self) -> "Sources":
        rules = [name for name in ("subsets", "shares", "budget") if getattr(self, name)]
        if len(rules) > 1:
            raise Fault(f"labels.{rules[0]} and labels.{rules[1]} each say who labels", "leave one out", rules[1])
        if not rules and self.default is None:
            remedy = f"add default: human (or another of {', '.join(WHO)}), or subsets, shares or budget"
            raise Fault("labels says nobody who labels", remedy)
        if self.shares:
            self._shares_add_up()
        if self.budget:
            self._budget_has_a_rest()
        elif self.order != "random":
            raise Fault("labels.order is that of labels.budget, and there is none", "write budget: 200", "order")
        if self.file is not None and not self.file.endswith(".jsonl"):
            raise Fault(f"a file of labels is a .jsonl file, not {show(self.file)}", FORMS, "file")
        if self.file and "human" not in self.all:
            raise Fault("labels.file is where people's labels come from, and nobody asks them", "leave it out", "file")
        for key in ("raters", "groups"):
            if getattr(self, key) and not self.file:
                problem = f"labels.{key} says whose labels in a file are known, and there is none"
                raise Fault(problem, "name a file", key)
        if self.groups and (self.raters or (why := fault_of_groups(self.groups))):
            problem = "labels.raters and labels.groups each say whose labels are known" if self.raters else why
            raise Fault(problem, "write groups: {one: [ann, bob], other: [cleo]}, or raters alone", "groups")
        return self

    def _shares_add_up(self) -> None:
        for who, share in self.shares.items():
            if not share:
                raise Fault(f"labels.shares.{who} is a share, above 0 and up to 1, not 0", "leave it out", "shares")
        if abs(sum(self.shares.values()) - 1) > 1e-6:
            problem = f"the shares of labels add up to {sum(self.shares.values()):g}, not 1"
            raise Fault(problem, "make them add up to 1", "shares")
        if self.default:
            raise Fault("labels.shares leave nothing for labels.default", "leave it out", "default")

    def _budget_has_a_rest(self) -> None:
        if self.default is None:
            raise Fault("labels.budget is of people's labels, and nobody labels the rest", "add default: ai", "budget")
        if self.default == "human":
            raise Fault("labels.default: human: people label them all already", "write default: ai", "default")
        if self.order == "uncertain" and self.default != "ai":
            problem = f"labels.default: {self.default}: nobody says how sure the judge is"
            raise Fault(problem, "write default: ai", "default")

    @property
    def all(self) -> tuple[Who, ...]:
        """Everybody who labels something."""
        used = {self.default, *self.subsets.values(), *self.shares, *(["human"] if self.budget else [])}
        return tuple(who for who in WHO if who in used)  # pyrefly: ignore

    @property
    def name(self) -> str:
        return self.all[0] if self.rule is None else "mixed"

    @property
    def comes_with_pairs(self) -> bool:
        """True where the labels are those that people gave the pairs in the data, and nothing else."""
        return self.all == ("human",) and self.file is None

    @property
    def rule(self) -> "Sources | None":
        """What decides who labels which pair, less what decides what they say; None where one source labels all."""
        if len(self.all) == 1 and not self.budget:
            return None
        return self.model_copy(update={"file": None, "raters": (), "groups": {}})

    @property
    def known(self) -> tuple[str, ...]:
        """Whose labels in the file count; () for anybody's."""
        return self.raters or tuple(rater for raters in self.groups.values() for rater in raters)

    def __str__(self) -> str:
        """`90% the AI judge, 10% people (labels.jsonl)`"""
        whom = (
            f", {some(self.raters)}" if self.raters else f", {' and '.join(self.groups)} alike" if self.groups else ""
        )
        people = f"people ({self.file}{whom})" if self.file else "people"
        words = {**WORDS, "human": people}
        if self.budget:
            order = "that the judge is least sure of" if self.order == "uncertain" else "drawn at random"
            return f"{people} for {self.budget} training pairs {order}, {words[self.default or 'ai']} elsewhere"
        if self.shares:
            return ", ".join(f"{100 * share:g}% {words[who]}" for who, share in self.shares.items())
        if self.subsets:
            rest = [f"{words[self.default]} for the rest"] if self.default else []
            return ", ".join([f"{words[who]} for {subset}" for subset, who in self.subsets.items()] + rest)
        return words[self.default or "ai"]


def parse(given: Any) -> Any:
    """A word as the section that says the same. Raises Fault, reported at its line, for what is neither."""
    if isinstance(given, str):
        if given in WHO:
            return {"default": given}
        near = suggest(given, WHO)
        choices = ", ".join(f'"{who}"' for who in WHO)
        problem = f"labels must be one of {choices}, or a section, not {show(given)}"
        raise Fault(problem, near if near.startswith("did you mean") else FORMS)
    if not isinstance(given, dict | Sources) or not given:
        raise Fault(f"labels must be {FORMS.removeprefix('write ')}, not {show(given)}", FORMS)
    if isinstance(given, dict) and (now := _respelled(given)):
        raise Fault("labels is written otherwise now", f"write labels: {_flow(now)}")
    if isinstance(given, dict):  # what is no longer JSON is read strictly
        return {key: _names(value) if key in ("raters", "groups") else value for key, value in given.items()}
    return given


def _names(given: Any) -> Any:
    """Lists as tuples, in a mapping or alone."""
    if isinstance(given, dict):
        return {key: _names(value) for key, value in given.items()}
    return tuple(given) if isinstance(given, list) else given


def check_given(labels: Sources, pairs: str, pool: bool, key: str) -> None:
    """Is there what these labellers label, and what they label by? Raises Fault at `key`, which is that of the labels.

    pairs: `pairs.source`. pool: whether `simulated.pool` names anybody.
    """
    if "human" in labels.all and labels.file is None and pairs != "data":
        problem = f"labels: human needs pairs that people have judged, and pairs.source: {pairs} makes fresh ones"
        raise Fault(problem, "use pairs.source: data, or labels: ai, or name a file of labels", key)
    if "simulated" in labels.all and not pool:
        problem = "labels: simulated needs the judges that stand for people"
        raise Fault(problem, "add `simulated: {pool: [{method: rate}, {method: choice}]}`", key)


Labels = Annotated[Sources, BeforeValidator(parse)]


def _respelled(given: Mapping[Any, Any]) -> dict[str, Any] | None:
    """One of the four shapes that the section had before it was one, as it is written now; None for any other."""
    rest = {key: value for key, value in given.items() if key not in ("file", "raters", "default", "order")}
    kept = {key: given[key] for key in ("default", "order", "file", "raters") if key in given}
    if not rest.keys() - Sources.model_fields.keys():
        return None
    if "else" in rest:
        return {"budget": rest.get("human"), "default": rest["else"], **kept}
    if isinstance(rest.get("human"), str) and rest["human"].endswith(".jsonl"):
        return {"default": "human", "file": rest["human"], **kept}
    if rest.keys() <= set(WHO):
        return {"shares": rest, **kept} if all(isinstance(value, int | float) for value in rest.values()) else None
    if all(value in WHO for value in rest.values()):
        slips = [key for key in rest if suggest(str(key), ["default"]).startswith("did you mean")]
        return None if slips else {"subsets": rest, **kept}
    return None


def _flow(value: Any) -> str:
    """`{shares: {ai: 0.9, human: 0.1}}`: a section on one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    return "[" + ", ".join(map(_flow, value)) + "]" if isinstance(value, list) else str(value)

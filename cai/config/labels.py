"""Who says which answer is better: the forms that `labels:` may take, and the one form they all come to.

    labels: ai                                       the judge of `judge:`
    labels: human                                    the people whose labels came with the pairs
    labels: simulated                                the judges of `simulated:`, who stand for people and err like them
    labels: {human: labels.jsonl}                    people, from a file of labels (cai/data/labels.py)
    labels: {harmless: ai, helpful: human}           by the pair's subset (Bai et al. 2022); `default: ai` for the rest
    labels: {ai: 0.9, human: 0.1}                    by share, drawn for each pair by hash
    labels: {human: 200, else: ai, order: uncertain} people for 200 training pairs, here those that the judge is least
                                                     sure of (`order: random`, the default: drawn), the judge elsewhere

Beside the last three, `file: labels.jsonl` names where people's labels come from; beside any file, `raters: [ann, bob]`
says whose labels are known, and others are set aside.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from cai.config.sections import Positive, Section, Share
from cai.config.tree import show
from cai.config.validation import Fault
from cai.core.errors import suggest

Who = Literal["ai", "human", "simulated"]
WHO = ("ai", "human", "simulated")
WORDS = {"ai": "the AI judge", "human": "people", "simulated": "simulated people"}
FORMS = "write ai, human, simulated, or one of the sections that cai/config/labels.py lists"


class Sources(Section):
    """default: who labels what nothing else says (null: that is an error). A budget is of training pairs."""

    default: Who | None = None
    subsets: dict[str, Who] = Field(default={})
    shares: dict[Who, Share] = Field(default={})
    budget: Positive | None = None
    order: Literal["random", "uncertain"] = "random"
    file: str | None = None
    raters: tuple[str, ...] = ()

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
        return self.model_copy(update={"file": None, "raters": ()})

    def __str__(self) -> str:
        """`90% the AI judge, 10% people (labels.jsonl)`"""
        people = f"people ({self.file})" if self.file else "people"
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


def parse(held: Any) -> Any:
    """Any form of `labels:` as `Sources`. Raises Fault, which cai/config/validation.py reports at the line at fault."""
    if isinstance(held, Sources):
        return held
    if isinstance(held, str):
        return Sources(default=_who(held, "labels", ""))
    if not isinstance(held, dict) or not held:
        raise Fault(f"labels must be {FORMS.removeprefix('write ')}, not {show(held)}", FORMS)
    rest = {key: value for key, value in held.items() if key not in ("file", "raters")}
    file, raters = held.get("file"), _raters(held.get("raters", []))
    if "else" in rest:
        found: dict[str, Any] = _budget(rest)
    elif isinstance(rest.get("human"), str) and rest["human"] not in WHO:
        if file is not None or len(rest) > 1:
            problem = (
                f"labels.human names a file ({rest['human']}), so it labels all pairs, and nothing stands beside it"
            )
            raise Fault(problem, "to mix people with others, name the file as `file:`", "human")
        found, file = {"default": "human"}, rest["human"]
    elif rest and all(isinstance(value, int | float) and not isinstance(value, bool) for value in rest.values()):
        found = _shares(rest)
    else:
        found = _subsets(rest)
    if file is not None and (not isinstance(file, str) or not file.endswith(".jsonl")):
        raise Fault(
            f"a file of labels is a .jsonl file, not {show(file)}", FORMS, "file" if "file" in held else "human"
        )
    sources = Sources.model_validate({**found, "file": file, "raters": raters})
    if sources.file and "human" not in sources.all:
        raise Fault("labels.file is where people's labels come from, and nobody asks them", "leave it out", "file")
    if sources.raters and not sources.file:
        raise Fault("labels.raters says whose labels in a file are known, and there is none", "name a file", "raters")
    return sources


Labels = Annotated[Sources, BeforeValidator(parse)]


def _who(word: Any, name: str, key: str) -> Any:
    if word in WHO:
        return word
    near = suggest(word, WHO) if isinstance(word, str) else ""
    choices = ", ".join(f'"{who}"' for who in WHO)
    problem = f"{name} must be one of {choices}{', or a section' if not key else ''}, not {show(word)}"
    raise Fault(problem, near if near.startswith("did you mean") else FORMS, key)


def _raters(held: Any) -> tuple[str, ...]:
    if not isinstance(held, list) or not all(isinstance(name, str) and name for name in held):
        raise Fault("labels.raters must be a list of names", "write raters: [ann, bob]", "raters")
    return tuple(held)


def _budget(held: dict) -> dict[str, Any]:
    for key in held:
        if key not in ("human", "else", "order"):
            raise Fault(f'unknown key "{key}" in labels', suggest(key, ("human", "else", "order", "file")), key)
    budget, order = held.get("human"), held.get("order", "random")
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
        problem = f"labels.human, beside `else`, is how many pairs people label: at least 1, not {show(budget)}"
        raise Fault(problem, "write {human: 200, else: ai}", "human" if "human" in held else "")
    other = _who(held["else"], "labels.else", "else")
    if order not in ("random", "uncertain"):
        near = suggest(order, ("random", "uncertain")) if isinstance(order, str) else ""
        raise Fault(f'labels.order must be one of "random", "uncertain", not {show(order)}', near, "order")
    if other == "human" or (order == "uncertain" and other != "ai"):
        problem = "people label them all already" if other == "human" else "nobody says how sure the judge is"
        raise Fault(f"labels.else: {other}: {problem}", "write else: ai", "else")
    return {"default": other, "budget": budget, "order": order}


def _shares(held: dict) -> dict[str, Any]:
    for key, value in held.items():
        _who(key, "a key of labels", key)
        if not 0 < value <= 1:
            remedy = f"for a number of pairs write {{human: {value}, else: ai}}" if key == "human" else ""
            raise Fault(f"labels.{key} is a share, above 0 and up to 1, not {show(value)}", remedy, key)
    if abs(sum(held.values()) - 1) > 1e-6:
        raise Fault(f"the shares of labels add up to {sum(held.values()):g}, not 1", "make them add up to 1")
    return {"shares": {key: float(value) for key, value in held.items()}}


def _subsets(held: dict) -> dict[str, Any]:
    found = {key: _who(value, f"labels.{key}", key) for key, value in held.items()}
    default = found.pop("default", None)
    if not found:
        raise Fault("labels names no subset", FORMS)
    return {"subsets": found, "default": default}

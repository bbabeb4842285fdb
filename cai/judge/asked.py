"""A judge as it is asked: what always travels together; and `judge.shots`, the examples that are drawn for a prompt.

Those are people's verdicts on training pairs, shown before the question in the question's own form. They stand where
the worked examples of a file do (`judge.examples`), behind those if there are both. Each is asked by a principle that
is drawn for its prompt as the judge draws them; right answers alternate between the two options, so that as many of
each are shown and no letter is taught. A method says how it shows one (`Method.worked`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cai.config.rubric import RUBRIC
from cai.config.sections import Judge
from cai.constitution import Constitution, Judging, Order, draw
from cai.core.draws import uniform
from cai.core.errors import UserError
from cai.core.records import Chat, Message, Pair, Prompt
from cai.core.store import Artifact
from cai.core.templates import load_template
from cai.data.input_file import InputFile
from cai.data.shots import Shots
from cai.judge.ballots import NEVER, WHY, Templates
from cai.judge.checkers import check_allowed, digests
from cai.judge.methods import METHODS, methods_of, principles_for, templates_for
from cai.judge.methods.channel import both_sides
from cai.models.engines.cached import CachedEngine
from cai.models.references import Dtype, ModelRef, model_of
from cai.models.workbench import Workbench


@dataclass(frozen=True, slots=True)
class AskedJudge:
    """settings: `judge:`, the method among them. model: who is asked. principles: by what. templates: in which words.

    seed: draws the principles of a prompt, and the thoughts of a method that thinks. shots: `judge.shots`. order: what
    stands above what; the limits in it are no principles, and none is drawn: all that apply are asked about. rubric:
    whose criteria it scores answers by (cai/judge/rubric.py), in the place of principles.
    """

    settings: Judge
    model: ModelRef
    principles: tuple[Judging, ...]
    templates: Templates
    dtype: Dtype
    seed: int
    shots: Shots | None = None
    order: Order = field(default_factory=Order)
    rubric: InputFile | Artifact | None = None

    @classmethod
    def of(
        cls, settings: Judge, constitution: Constitution, dtype: Dtype, seed: int, judged: Artifact | None = None
    ) -> "AskedJudge":
        """The judge of a section of the config, with what its methods read. judged: the data whose pairs people have
        judged, for `judge.shots`. Raises UserError for what is not there."""
        assert judged or not settings.shots, "nobody gave this judge the pairs that its examples are drawn from"
        shots = Shots(judged, settings.shots, seed) if judged and settings.shots else None
        return cls(settings, model_of(settings), (), {}, dtype, seed, shots).under(constitution)

    def keyed(self) -> Mapping[str, Any]:
        """As a stage's key has it (cai/core/store.py)."""
        parts = {
            "judge": self.settings, "model": self.model, "judging": self.principles, "templates": self.templates,
            "dtype": self.dtype, "seed": self.seed,
        } | ({"shots": self.shots} if self.shots else {}) | ({"order": self.order} if self.order else {})  # fmt: skip
        parts |= {"rubric": self.rubric} if self.rubric else {}
        functions = digests((*self.principles, *self.order.checked))
        return parts | {"checks": functions} if functions else parts

    def by(self, method: Any) -> "AskedJudge":
        """The same, asked by another method (or a mix), of which it must have the templates."""
        return replace(self, settings=self.settings.model_copy(update={"method": method}))

    def under(self, constitution: Constitution) -> "AskedJudge":
        """The same, by the principles of a constitution as its methods read them, and with their templates.

        Raises UserError(s) for a check that may not run here, priorities that nothing reads, and templates.
        """
        principles, templates = principles_for(constitution, self.settings), templates_for(self.settings)
        if self.settings.method == RUBRIC:
            return replace(self, principles=(), templates=templates, order=Order())
        order = order_for(constitution, self.settings)
        check_allowed((*principles, *order.checked), self.settings, str(constitution.path))
        read = {NEVER: order.limits, WHY: [p for p in principles if getattr(p, WHY, "")]}
        templates |= {name: load_template(name) for name, those in read.items() if those}
        return replace(self, principles=principles, templates=templates, order=order)

    def engine(self, work: Workbench) -> CachedEngine:
        return work.engine(self.model, dtype=self.dtype, system=self.settings.system)


def order_for(constitution: Constitution, settings: Judge) -> Order:
    """What stands above what. Raises UserError where one principle alone is drawn, which leaves nothing to order, and
    where limits stand beside what has no zero to be below."""
    order = constitution.order
    named = settings.method if isinstance(settings.method, dict) else (settings.method,)
    for principle in constitution.contrasting if order.limits and "channel" in named else ():
        if len(both_sides(principle)) == 1:
            problem = (
                f'"{principle.name}" has no opposite: channel then compares two answers and rates none by itself, '
            )
            problem += "as one that breaks a limit must be"
            raise UserError(problem, str(constitution.path), "write its Against:, or name another judge.method")
    if order.levels and settings.principles == 1:
        ranked = next(p for p in constitution.principles if p.priority is not None)
        problem = f'"{ranked.name}" has a "Priority:", and judge.principles: 1 draws one principle for each prompt'
        remedy = "set judge.principles: all, or remove the priorities: alone, no principle goes before another"
        raise UserError(problem, f"{constitution.path}:{ranked.line}", remedy)
    return order


@dataclass(frozen=True, slots=True)
class DrawnExamples:
    """Turns in the place of a template of worked examples."""

    turns: Chat

    def render(self) -> Chat:
        return self.turns


class FewShot:
    """The templates by which a judge is asked about each prompt: its own, and the examples drawn for that prompt."""

    def __init__(self, judge: AskedJudge) -> None:
        self.judge, self.shots = judge, judge.shots
        self._made: dict[tuple[str, ...], Mapping[str, Any]] = {}

    def templates(self, prompt: Prompt) -> Mapping[str, Any]:
        """Raises UserError where too few pairs have been judged."""
        if self.shots is None:
            return self.judge.templates
        pairs = self.shots.pairs(prompt)
        names = tuple(pair.id for pair in pairs)
        if names not in self._made:
            self._made[names] = {**self.judge.templates, **self._examples(pairs, self.shots.seed)}
        return self._made[names]

    def _examples(self, pairs: Sequence[Pair], seed: int) -> dict[str, DrawnExamples]:
        made = {}
        for name in methods_of(self.judge.settings):
            file, begins = self.judge.templates.get(f"examples/{name}"), uniform("first shot", seed, name) < 0.5
            turns = file.render() if file else ()
            for place, pair in enumerate(pairs):
                turns = (*turns, *self._turns(name, pair, (place % 2 == 0) == begins))
            made[f"examples/{name}"] = DrawnExamples(turns)
        return made

    def _turns(self, name: str, pair: Pair, first: bool) -> Chat:
        """first: the right answer is the first of the method's options."""
        worked = METHODS[name].worked
        assert worked, f"{name} shows no examples: cai/config/sections.py refuses it"
        judge, prompt = self.judge, pair.prompt
        (principle,) = draw(judge.principles, seed=judge.seed, key=prompt.id, subset=prompt.subset)
        chat, answer = worked(pair, principle, judge.templates, first)
        return (*(turn for turn in chat if turn.role != "system"), Message("assistant", answer))

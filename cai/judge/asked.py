"""A judge as it is asked: what always travels together."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cai.config.sections import Judge
from cai.constitution import Constitution, Judging
from cai.judge.ballots import Templates
from cai.judge.checkers import check_allowed, digests
from cai.judge.methods import principles_for, templates_for
from cai.models.engines.cached import CachedEngine
from cai.models.references import Dtype, ModelRef, model_of
from cai.models.workbench import Workbench


@dataclass(frozen=True, slots=True)
class AskedJudge:
    """settings: `judge:`, the method among them. model: who is asked. principles: by what. templates: in which words.

    seed: draws the principles of a prompt, and the thoughts of a method that thinks.
    """

    settings: Judge
    model: ModelRef
    principles: tuple[Judging, ...]
    templates: Templates
    dtype: Dtype
    seed: int

    @classmethod
    def of(cls, settings: Judge, constitution: Constitution, dtype: Dtype, seed: int) -> "AskedJudge":
        """The judge of a section of the config, with what its methods read. Raises UserError for what is not there."""
        principles = principles_for(constitution, settings)
        check_allowed(principles, settings, str(constitution.path))
        return cls(settings, model_of(settings), principles, templates_for(settings), dtype, seed)

    def keyed(self) -> Mapping[str, Any]:
        """As a stage's key has it (cai/core/store.py)."""
        parts = {
            "judge": self.settings, "model": self.model, "judging": self.principles, "templates": self.templates,
            "dtype": self.dtype, "seed": self.seed,
        }  # fmt: skip
        functions = digests(self.principles)
        return parts | {"checks": functions} if functions else parts

    def by(self, method: Any) -> "AskedJudge":
        """The same, asked by another method (or a mix), of which it must have the templates."""
        return replace(self, settings=self.settings.model_copy(update={"method": method}))

    def under(self, constitution: Constitution) -> "AskedJudge":
        """The same, by the principles of a constitution as its methods read them, and with their templates."""
        principles, templates = principles_for(constitution, self.settings), templates_for(self.settings)
        check_allowed(principles, self.settings, str(constitution.path))
        return replace(self, principles=principles, templates=templates)

    def engine(self, work: Workbench) -> CachedEngine:
        return work.engine(self.model, dtype=self.dtype, system=self.settings.system)

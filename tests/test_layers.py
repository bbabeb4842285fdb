"""Imports point one way, and nothing heavy is imported before there is work to do."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "cai"
# From the bottom up: a module may import only what stands on its own line or above.
LAYERS = (
    ("errors", "textstats", "refusal_patterns", "batching", "tamer", "shipped"),
    ("refusals",),
    ("records", "yamlfile", "progress", "durable", "owned", "places"),
    ("validation", "settings", "rl_settings", "label_sources", "templates", "sweep", "config", "store", "calls"),
    ("compare", "compare.statistics", "compare.calibration", "compare.overoptimisation"),
    tuple(f"compare.{name}" for name in ("agreement", "crossed", "crossing", "games", "paired")),
    tuple(f"constitution{name}" for name in ("", ".records", ".parse", ".drawing", ".lint", ".changes", ".paper")),
    ("reads", "reads.effect", "reads.negation", "reads.placebos"),
    ("teaching", "teaching.answers", "teaching.wording"),
    ("teaching.principles",),
    ("reads.instructions",),
    ("packages", "rows", "rows.values", "hub"),
    ("votes", "annotate", "annotate.rows", "annotate.labels", "annotate.guard", "annotate.feedback"),
    ("embedded", "data", "memo", "chat_templates", "architectures", "adapters"),
    ("chat",),
    ("rated_answers",),
    tuple(f"rows.{name}" for name in ("files", "records", "turns", "prompts")),
    tuple(f"rows.{name}" for name in ("pairs", "versus", "several", "trees", "evaluation")),
    ("rows.forms",),
    ("rows.reader",),
    ("models", "starting", "sources", "engines", "engines.cached", "engines.tree", "engines.transformers"),
    ("methods", "judging", "comparisons", "labels", "xstest", "revising"),
    ("reads.verdict",),
    ("diagnostics", "conduct", "workbench", "reads.controls", "reads.controlled"),
    ("reads.revisions",),
    ("trainers", "trainers.common", "trainers.still", "trainers.score", "trainers.reward"),
    ("trainers.ppo_math", "trainers.ppo_config"),
    ("trainers.critic", "trainers.backbone", "trainers.reward_models", "trainers.rollouts", "trainers.ppo"),
    ("trainers.groups", "trainers.dpo", "trainers.collapse", "trainers.watch", "trainers.human"),
    ("trainers.rating", "gold", "rewarding"),
    tuple(f"stages.{name}" for name in ("revise", "controlled", "sft", "preflight", "label", "respond")),
    tuple(f"stages.{name}" for name in ("reward", "policy", "dpo", "evaluate")),
    tuple(f"stages.{name}" for name in ("rate", "benchmarks", "harm")),
    ("check_data", "check_models"),
    ("cells", "plan", "measuring", "budgets", "checks"),
    ("compare.table",),
    ("compare.plots",),
    ("compare.training_plots",),
    ("compare.report_plots",),
    tuple(f"compare.{name}" for name in ("report", "measures", "judges", "lineage", "headline", "watched")),
    tuple(f"compare.{name}" for name in ("curves", "examples", "notes", "opinions", "provenance", "reading")),
    tuple(f"compare.{name}" for name in ("audit", "policies", "rewards", "harmfulness", "budgets", "facets", "runs")),
    ("compare.snapshots",),
    ("compare.results", "compare.sweep"),
    ("constitution.trial", "constitution.revise"),
    ("constitution.following",),
    ("constitution.diff",),
    ("annotate.sheet",),
    ("annotate.desk", "annotate.export"),
    ("annotate.agreement",),
    ("annotate.voice",),
    ("annotate.live",),
    ("annotate.server",),
    ("bench", "bench.common", "bench.ppo_run"),
    ("bench.labels", "bench.ppo", "bench.report", "bench.refusals"),
    ("bench.reads",),
    ("teaching.lessons",),
    ("teaching.exam", "teaching.learn"),
    ("judge", "judge.common"),
    ("judge.bench",),
    ("judge.reads",),
    ("judge.train",),
    ("experiment", "judge.__main__", "annotate.talk", "bench.__main__", "constitution.__main__", "annotate.__main__"),
    ("compare.__main__",),
)  # fmt: skip
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
MODULES = sorted(
    path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py"
)


def imported(name: str) -> set[str]:
    """Modules of `cai` that a module imports anywhere in it, also inside functions."""
    path = PACKAGE / (name.replace(".", "/") + ".py")
    path = path if path.is_file() else PACKAGE / name.replace(".", "/") / "__init__.py"
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cai."):
            module = (node.module or "").removeprefix("cai.")
            found |= {f"{module}.{a.name}" if f"{module}.{a.name}" in RANK else module for a in node.names}
    return {module for module in found if module in RANK} - {name}


@pytest.mark.parametrize("name", MODULES or ["none"])
def test_imports_point_down(name):
    if name in ("stages",):
        return
    assert name in RANK, f"give cai/{name} a place in LAYERS"
    assert [other for other in imported(name) if RANK[other] > RANK[name]] == []


def test_stages_never_import_one_another():
    stages = [name for name in MODULES if name.startswith("stages.")]
    assert len(stages) > 5
    assert {name: [o for o in imported(name) if o.startswith("stages.")] for name in stages} == {n: [] for n in stages}


PROGRAMS = [
    "cai.experiment",
    "cai.constitution.__main__",
    "cai.judge.__main__",
    "cai.bench.__main__",
    "cai.plan",
    "cai.annotate.__main__",
    "cai.compare.__main__",
]


@pytest.mark.parametrize("module", PROGRAMS)
def test_nothing_heavy_is_imported_early(module):
    heavy = ("torch", "transformers", "trl", "peft", "datasets", "numpy", "plotly", "sklearn")
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

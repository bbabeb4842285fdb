"""Whether what `pretrain:` is told can be done, before the first minute of it."""

from collections.abc import Callable
from types import SimpleNamespace

from cai.config.load import Arm
from cai.config.runtime import Runtime
from cai.core.errors import UserError
from cai.core.hub import is_unreachable
from cai.data.texts import KEY, at_hand, read_corpus, text_digest
from cai.experiment.check_models import check_lengths
from cai.models.chat_templates import PLAIN_NAME


def pretrain_checks(arm: Arm, runtime: Runtime, plan: bool) -> list[Callable[[], object]]:
    """Each raises UserError. plan: nothing is fetched, so a text that is not here yet is not looked at."""
    settings = arm.pretrain
    if settings is None:
        return []
    limits = SimpleNamespace(max_position_embeddings=settings.context)
    limits.get_text_config = lambda: limits
    return [
        lambda: check_processes(runtime),
        lambda: check_template(arm),
        lambda: check_lengths(arm, limits),
        *(lambda name=name: check_reachable(name, plan) for name in settings.text),
        lambda: (
            all(at_hand(name) or not plan for name in settings.text)
            and read_corpus(settings.text, settings.held_out, arm.seed)
        ),
    ]


def check_processes(runtime: Runtime) -> None:
    if runtime.ranks > 1:
        raise UserError(
            f"pretrain: works in one process, and there are to be {runtime.ranks}",
            "runtime.accelerate" if runtime.accelerate else "runtime.processes",
            "pretrain in a run of its own first, without it: the next run finds the model in the store",
        )


def check_template(arm: Arm) -> None:
    """Its own template's marks are special tokens, which no text can forge; with words for marks it would lose that."""
    if arm.policy.template == PLAIN_NAME:
        problem = "a model that is made here has a chat template of its own, which no text can forge"
        raise UserError(problem, "policy.template", "remove it")


def check_reachable(name: str, plan: bool) -> None:
    """Raises UserError for a text that is not there, or is the hub's, which cannot be reached."""
    if is_unreachable(text_digest(name)) and not plan:
        problem = f'cannot reach the hub for "{name}", and it is not in the local cache'
        raise UserError(problem, KEY, "check the network, or give a local file")

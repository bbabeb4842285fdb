"""Whether the servers that an experiment names are there and can do what they must, before its first stage."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

from cai.config.load import Arm, Experiment
from cai.config.panel import is_labeller
from cai.config.sections import Judge
from cai.config.serve import OwnServer
from cai.core.store import Artifact
from cai.models.references import ModelRef, drafting, model_of
from cai.models.serving import check_program, nothing_to_serve
from cai.train.revising import reviser_of


def judges_of(arm: Arm) -> dict[str, Judge]:
    """The section that names a judge -> the judge."""
    pool = arm.simulated.pool if "simulated" in arm.labellers else ()
    simulated = {f"simulated.pool.{number}": judge for number, judge in enumerate(pool)}
    filters = {"moderation.judge": arm.moderation.judge} if arm.moderation and arm.moderation.judge else {}
    return {**arm.judge.asked, **simulated, "evaluate.judge": arm.evaluate.judge, **filters}


def asked_judges(arm: Arm) -> dict[str, Judge]:
    """Of these, those that are asked anything."""
    return {key: judge for key, judge in judges_of(arm).items() if arm.asks_judge or not is_labeller(key)}


def servers_of(arm: Arm) -> dict[str, ModelRef]:
    """The section that names a served model -> the model."""
    served = {section: model_of(judge) for section, judge in asked_judges(arm).items() if judge.server}
    served = {section: model for section, model in served.items() if model.server}
    if arm.sft.revises and (reviser := reviser_of(arm.revise)) and reviser.server:
        served["revise"] = reviser
    if arm.policy.server:
        served["policy"] = drafting(arm.policy)
    return served


def with_revisers(experiment: Experiment, ledger: Iterable[Artifact]) -> list[Artifact]:
    """The ledger of a plan, in whose inputs a reviser has its name: keys know it by its digest alone."""
    arms = [arm for arm in experiment.arms.values() if arm.sft.revises]
    names = {reviser.digest: reviser.name for arm in arms if (reviser := reviser_of(arm.revise))}

    def named(artifact: Artifact) -> Artifact:
        reviser = artifact.inputs.get("reviser")
        if not reviser or reviser["digest"] not in names:
            return artifact
        return replace(artifact, inputs={**artifact.inputs, "reviser": {**reviser, "name": names[reviser["digest"]]}})

    return list(map(named, ledger))


def asked_servers(experiment: Experiment) -> list[str]:
    """A line for each server that a run asks, for the plan: nothing is sent to any of them."""
    lines: dict[str, None] = {}
    for name, arm in experiment.arms.items():
        for section, model in servers_of(arm).items():
            if isinstance(model.server, OwnServer):
                lines[f"  {section} of arm {name}: {model.server.name}, which the run serves itself"] = None
            elif model.server:
                where = f"{model.server.name or model.name} at {', '.join(model.server.url)}"
                lines[f"  {section} of arm {name}: {where}"] = None
    return ["servers that the run will ask (this plan asks none):", *lines] if lines else []


def server_checks(experiment: Experiment) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """(arm, section, check) for each served model, once: it is asked what it can do (cai/models/engines/probing.py).

    Of those that the run starts itself: is the program there, and is there anything for it to serve?
    """
    serve = experiment.runtime.serve
    if serve:
        yield "", "", lambda: check_program(serve)
        if not any(
            isinstance(model.server, OwnServer)
            for arm in experiment.arms.values()
            for model in servers_of(arm).values()
        ):
            yield "", "", lambda: nothing_to_serve(serve)
    seen: set[tuple[object, ...]] = set()
    for name, arm in experiment.arms.items():
        for section, model in servers_of(arm).items():
            if isinstance(model.server, OwnServer):
                continue
            from cai.models.engines.server import look_at  # the client: only where something is served

            key = (model.digest, section == "policy", *(model.server.url if model.server else ()))
            if key not in seen:
                seen.add(key)
                given = section == "policy" and arm.policy.server is not None and arm.policy.server.adapters
                yield name, section, partial(look_at, model, experiment.runtime, given)

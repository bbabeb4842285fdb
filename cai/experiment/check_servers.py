"""Whether the servers that an experiment names are there and can do what they must, before its first stage."""

from collections.abc import Callable, Iterator
from functools import partial

from cai.config.load import Arm, Experiment
from cai.config.sections import Judge
from cai.config.serve import OwnServer
from cai.models.references import ModelRef, model_of
from cai.models.serving import check_program, nothing_to_serve
from cai.train.revising import reviser_of


def judges_of(arm: Arm) -> dict[str, Judge]:
    """The section that names a judge -> the judge."""
    pool = arm.simulated.pool if "simulated" in arm.labels.all else ()
    simulated = {f"simulated.pool.{number}": judge for number, judge in enumerate(pool)}
    return {"judge": arm.judge, **simulated, "evaluate.judge": arm.evaluate.judge}


def servers_of(arm: Arm) -> dict[str, ModelRef]:
    """The section that names a served model -> the model."""
    served = {section: model_of(judge) for section, judge in judges_of(arm).items() if judge.server}
    served = {section: model for section, model in served.items() if model.server}
    if "ai" not in arm.labels.all:  # nobody asks that one
        served.pop("judge", None)
    if (reviser := reviser_of(arm.revise)) and reviser.server:
        served["revise"] = reviser
    return served


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
    seen: set[tuple[str, ...]] = set()
    for name, arm in experiment.arms.items():
        for section, model in servers_of(arm).items():
            if isinstance(model.server, OwnServer):
                continue
            from cai.models.engines.server import look_at  # the client: only where something is served

            key = (model.digest, *(model.server.url if model.server else ()))
            if key not in seen:
                seen.add(key)
                yield name, section, partial(look_at, model, experiment.runtime)

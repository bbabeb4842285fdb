"""`runtime.serve`: servers that a run starts for its own models, and stops again."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from cai.config.section import Section
from cai.config.served import Server

ServingEngine = Literal["llama.cpp", "vllm"]


class Serve(Section):
    """Models that are only asked (judges, `revise.model`) are served by an engine that the run starts itself.

    `serve: llama.cpp` is short for `serve: {engine: llama.cpp}`. The device is shared by turns: a server is up from the
    first question that the cache cannot answer until something else is loaded. A section with a `server:` of its own
    keeps it, and a model that the engine cannot serve (`servable` in cai/models/references.py) answers in process.
    What is served is another model than the one in process, as with `server:`; which engine, where and by what command
    is in no key.
    """

    engine: ServingEngine
    # The program, where it is not on the PATH: `vllm` of an environment of its own.
    command: str | None = None
    # More arguments for it.
    args: tuple[str, ...] = ()
    # As in `server:`.
    revision: str | None = None
    same: bool = False


class OwnServer(Server):
    """A server that the run starts when it is first asked: its address is known then."""

    url: tuple[str, ...] = ()
    serve: Serve


def _short(value: Any) -> Any:
    """`serve: vllm`. What has been looked at here counts as Python, whose lists are no tuples."""
    if isinstance(value, str):
        return {"engine": value}
    if isinstance(value, dict) and isinstance(value.get("args"), list):
        return {**value, "args": tuple(value["args"])}
    return value


Serving = Annotated[Serve | None, BeforeValidator(_short)]


def served_by_run(arms: Mapping[str, Any], serve: Serve) -> dict[str, Any]:
    """The arms (`Arm` of load.py, which reads this file), their judges and revisers served by the run where they name
    no server."""
    return {name: _served(arm, serve) for name, arm in arms.items()}


def _served(arm: Any, serve: Serve) -> Any:
    evaluation, simulated, revise = arm.evaluate, arm.simulated, arm.revise
    pool = tuple(_judge(judge, serve) for judge in simulated.pool)
    if revise.model and not revise.server:  # it writes, and a server writes other words than the model in process
        revise = revise.model_copy(update={"server": _own(serve, same=False)})
    changed = {
        "judge": _panel(_judge(arm.judge, serve), serve),
        "simulated": simulated.model_copy(update={"pool": pool}),
        "evaluate": evaluation.model_copy(update={"judge": _judge(evaluation.judge, serve)}),
        "revise": revise,
    }
    return arm.model_copy(update=changed)


def _panel(judge: Any, serve: Serve) -> Any:
    """`judge:` with the judges of its panel served, where it has one."""
    if judge.panel is None:
        return judge
    judges = tuple(_judge(each, serve) for each in judge.panel.judges)
    return judge.model_copy(update={"panel": judge.panel.model_copy(update={"judges": judges})})


def _judge(judge: Any, serve: Serve) -> Any:
    if judge.server:
        return judge
    methods = {judge.method} if isinstance(judge.method, str) else {*judge.method}
    draws = judge.verdict == "sampled" or bool(methods & {"reason", "auto"})
    return judge.model_copy(update={"server": _own(serve, same=serve.same and not draws)})


def _own(serve: Serve, same: bool) -> OwnServer:
    return OwnServer(serve=serve, revision=serve.revision, same=same)

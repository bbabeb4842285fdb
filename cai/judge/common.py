"""What the sub-commands of `python -m cai.judge` have in common: arguments, their checks, and the judge to ask."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from cai.config.runtime import Runtime
from cai.config.sections import Judge
from cai.config.served import Server
from cai.core.errors import UserError, suggest
from cai.core.places import check_folder
from cai.judge.methods import ASKING, METHODS
from cai.models.engines.cached import CachedEngine
from cai.models.loading import pick_dtype
from cai.models.references import Dtype, ModelRef
from cai.models.workbench import Workbench, check_device

NUMBERS = ("limit", "max_length", "turns", "lessons", "questions", "rank", "layers")  # each from 1 on, where given


# 1. Arguments ---------------------------------------------------------------------------------------------------------
NAMED = 5  # malformed rows that are named in full; --json has all


def add_common(parser: argparse.ArgumentParser, *, seed: str, model: str = "", cache: str = "") -> None:
    """What every sub-command takes. seed: what it is of; model: what the model is for; cache: what is kept there."""
    named = "an embedded name, a folder, or a hub id"
    parser.add_argument("--model", default="smollm2-135m", help=f"{model}: {named}" if model else named)
    parser.add_argument("--seed", type=int, default=0, help=f"of {seed}")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, ...")
    parser.add_argument("--cache", default="runs", metavar="FOLDER", help=cache or "where the judge's answers are kept")


def add_asking(parser: argparse.ArgumentParser, methods: Sequence[str], rows: str) -> None:
    """What those take that ask a judge about a file of `rows` by some of `methods`."""
    parser.add_argument("--method", default="all", help=f"all, or some of {','.join(methods)}")
    parser.add_argument("--principles", default="all", help="how many are drawn for each prompt: all, or a number")
    parser.add_argument("--limit", type=int, help=f"judge a sample of this many {rows} (default: all)")
    parser.add_argument("--max-length", type=int, default=1024, help="longest question in tokens; longer is abstained")
    parser.add_argument("--server", metavar="URL", help="ask it at an OpenAI-compatible endpoint: http://HOST:PORT/v1")
    parser.add_argument("--served-as", metavar="NAME", help="what it is called there (default: as in --model)")
    parser.add_argument("--json", action="store_true", help="print one JSON object with everything instead of tables")


# 2. Checks, before a model is loaded ----------------------------------------------------------------------------------


def check_numbers(args: argparse.Namespace) -> None:
    """Raises UserError for a number below 1."""
    for name in NUMBERS:
        if getattr(args, name, None) is not None:
            count(getattr(args, name), f"--{name.replace('_', '-')}")


def check_machine(args: argparse.Namespace) -> None:
    """Raises UserError for a device that is not there, and for a cache that cannot be written."""
    check_device(args.device, "--device")
    check_folder(Path(args.cache) / "calls", "make it writable, or name another folder: --cache FOLDER")


def judge_for(args: argparse.Namespace) -> Judge:
    """The judge as far as `add_asking` says; its method is named later. Raises UserError for a number below 1."""
    check_numbers(args)
    principles = "all" if args.principles == "all" else count(args.principles, "--principles")
    turns = getattr(args, "turns", None)
    server = server_of(args)
    return Judge(model=args.model, server=server, principles=principles, max_length=args.max_length, turns=turns)


def server_of(args: argparse.Namespace) -> Server | None:
    """Where the judge is served; None for a model in process. Raises UserError for what is no address."""
    if args.server is None:
        return None
    try:
        return Server(url=(args.server,), name=args.served_as)
    except ValidationError:
        problem, remedy = f'"{args.server}" is no address', "write it like http://127.0.0.1:8080/v1, without a key"
        raise UserError(problem, "--server", remedy) from None


def methods_named(text: str) -> tuple[str, ...]:
    """The methods named, in order; empty for `all`. Raises UserError for one that does not exist."""
    if text == "all":
        return ()
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in METHODS:
            raise UserError(f'there is no method "{name}"', "--method", suggest(name, ["all", *METHODS]))
    return tuple(names)


def asking_methods(text: str, so: str) -> tuple[str, ...]:
    """`methods_named`, all that ask the judge by default. Raises UserError for one that does not: `so` it is no use."""
    methods = methods_named(text) or ASKING
    if silent := [method for method in methods if method not in ASKING]:
        problem = f"{silent[0]} asks the judge nothing, so {so}"
        raise UserError(problem, "--method", f"name one of {', '.join(ASKING)}")
    return methods


def count(given: str | int, option: str) -> int:
    """A number given on the command line. Raises UserError for one below 1."""
    try:
        number = int(given)
    except ValueError:
        number = 0
    if number < 1:
        raise UserError(f"{given} is not a number from 1 on", option, "give a whole number, 1 or more")
    return number


# 3. The judge ---------------------------------------------------------------------------------------------------------


def open_judge(args: argparse.Namespace, source: ModelRef) -> tuple[CachedEngine, Dtype, str]:
    """(the model behind the call cache, its dtype, its device). Raises UserError for a server that cannot do it."""
    work = Workbench.open(Runtime(root=args.cache, device=args.device))
    dtype = pick_dtype(args.dtype, work.device)
    if source.server:
        from cai.models.engines.server import look_at  # the client: only where something is served

        look_at(source, work.runtime)
    return work.engine(source, dtype=dtype, system=None), dtype, work.device


def computed(args: argparse.Namespace, dtype: Dtype, device: str) -> str:
    """In what and where, for headings: a server decides that by itself."""
    return f"served at {args.server}" if args.server else f"{dtype} on {device}"


def malformed(faults: Sequence[tuple[str, str]]) -> list[str]:
    """How many rows of a file were left out, and the first of them by place and reason."""
    lines = [f"malformed rows: {len(faults)}", *(f"  {where}: {why}" for where, why in faults[:NAMED])]
    more = len(faults) - NAMED
    return [*lines, f"  and {more} more (--json names them all)"] if more > 0 else lines

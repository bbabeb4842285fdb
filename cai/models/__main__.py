"""`python -m cai.models slim MODEL`: a smaller model (cai/judge/slimming/command.py).

`python -m cai.models export MODEL --gguf FILE`: as one file for llama.cpp (cai/models/export/command.py).

`python -m cai.models serve MODEL`: a model behind an OpenAI-compatible endpoint until Ctrl-C, by llama.cpp or vLLM.
For judges that are asked by `server:`, and for two runs at once that share one. `runtime.serve` does the same for one
run (serving.py). Other servers (SGLang) will do; they are started by their own commands.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from cai.config.serve import Serve
from cai.core.errors import UserError, run_main
from cai.core.shipped import at_home
from cai.judge.slimming import command as slimming
from cai.models.embedded import EMBEDDED
from cai.models.export import command as exporting
from cai.models.references import find, servable
from cai.models.serving import command_of, program, start


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m cai.models", description="Models served, exported, made smaller.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="a model behind an OpenAI-compatible endpoint, by llama.cpp or vLLM")
    serve.add_argument("model", help=f"one of {', '.join(EMBEDDED)}; llama.cpp: a .gguf file; vLLM: a folder or hub id")
    serve.add_argument("--engine", choices=("llama.cpp", "vllm"), default="llama.cpp")
    serve.add_argument("--host", default="127.0.0.1", help="who may ask: this machine alone (default), or 0.0.0.0: all")
    serve.add_argument("--port", type=int, default=8080)
    llama = serve.add_argument_group("llama.cpp")
    llama.add_argument("--threads", type=int, default=2)
    llama.add_argument("--slots", type=int, default=2, help="requests answered at once (default: 2)")
    llama.add_argument("--context", type=int, default=2048, help="tokens that each slot holds (default: 2048)")
    vllm = serve.add_argument_group("vLLM (more of its own arguments: after --)")
    vllm.add_argument("--with", dest="program", help="the vllm program of another environment (default: on the PATH)")
    vllm.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"))
    slimming.add_command(commands)
    exporting.add_command(commands)
    own = argv.index("--") if "--" in argv else len(argv)
    args = parser.parse_args(argv[:own])
    if args.command != "serve":
        return args.run(args)
    return serve_vllm(args, argv[own + 1 :]) if args.engine == "vllm" else serve_llama(args)


def gguf_of(model: str) -> Path:
    """The weights' file. Raises UserError where there is none."""
    if model in EMBEDDED:
        return EMBEDDED[model].gguf()
    path = at_home(model)
    if path.suffix != ".gguf" or not path.is_file():
        remedy = f"name a .gguf file or one of {', '.join(EMBEDDED)}; other weights: --engine vllm"
        raise UserError(f'"{model}" is no GGUF file', "MODEL", remedy)
    return path


def serve_llama(args: argparse.Namespace) -> int:
    """In this process. Raises UserError for a port that is taken, and for a file that llama.cpp cannot load."""
    try:
        llama: Any = import_module("xllamacpp")
    except ImportError:
        raise UserError("llama.cpp is not installed", "xllamacpp", "pip install xllamacpp") from None
    path = gguf_of(args.model)
    name = args.model if args.model in EMBEDDED else path.stem
    settings = llama.CommonParams()
    settings.model.path, settings.model_alias, settings.warmup = str(path), {name}, False
    settings.verbosity = 2  # warnings: else there are five lines a request
    settings.hostnames, settings.port = [args.host], args.port
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = args.threads
    settings.n_parallel, settings.n_ctx = args.slots, args.slots * args.context  # llama.cpp shares one among the slots
    try:
        server = llama.Server(settings)
    except (RuntimeError, ValueError) as error:
        remedy = "name another --port, or look at what llama.cpp printed above"
        raise UserError(f"llama.cpp cannot serve {path}: {error}", "MODEL", remedy) from None
    try:
        tell(str(path), args.model if args.model in EMBEDDED else "", f"{server.listening_address}/v1", name)
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return 0


def serve_vllm(args: argparse.Namespace, more: Sequence[str]) -> int:
    """As a process of its own, whose output is shown here. Raises UserError where vLLM or the model is not there, and
    where the server ends before it is interrupted."""
    program(args.program)
    if not servable(args.model, "vllm"):
        raise UserError(
            f'"{args.model}" cannot be served', "MODEL", "name a folder with weights (no adapter), or a hub id"
        )
    model, url = find(args.model), f"http://{args.host}:{args.port}"
    serve = Serve(engine="vllm", command=args.program, args=tuple(more))
    command = command_of(model, args.model, (args.host, args.port), args.dtype, serve)
    running = start(command, args.model, url, None)
    try:
        tell(args.model, args.model, running.url, args.model)
        running.process.wait()
    except KeyboardInterrupt:
        running.stop()
        return 0
    fault = running.ended()
    assert fault
    raise fault


def tell(what: str, tokenizer: str, url: str, name: str) -> None:
    """tokenizer: the `model:` that renders the questions; empty where it is not known."""
    print(f"serving {what} as {name}; stop it with Ctrl-C. In an experiment:\n", flush=True)
    model = tokenizer or "FOLDER OR HUB ID OF ITS TOKENIZER"
    print(f'    judge: {{model: {model}, server: {{url: "{url}", name: {name}}}}}', flush=True)


if __name__ == "__main__":
    sys.exit(run_main(main))

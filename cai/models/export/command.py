"""`python -m cai.models export MODEL --gguf FILE`: a model as one file for llama.cpp, loaded again and compared.

load (an adapter merged)  ->  write  ->  read back by transformers, and by llama.cpp where it is installed
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.config.runtime import Runtime
from cai.core.durable import make_folders, sync
from cai.core.errors import UserError, suggest
from cai.core.places import check_folder
from cai.core.progress import quiet
from cai.core.shipped import at_home
from cai.models.adapters import adapter_settings, is_adapter
from cai.models.loading import load_tokenizer, loading_from
from cai.models.references import NO_CODE, ModelRef, beneath, find, local
from cai.models.slim.state import READ_ONLY, slimmed

if TYPE_CHECKING:
    from cai.models.export.write import WeightType

WEIGHT_TYPES = ("f32", "bf16", "f16", "q8_0", "q4_1")  # `WeightType` of write.py, which takes a second to import


def add_command(commands: Any) -> None:
    """commands: what argparse's `add_subparsers` returned."""
    export = commands.add_parser("export", help="a model as one GGUF file, for llama.cpp and what is built on it")
    export.add_argument("model", help="an embedded name, a folder (a LoRA adapter is merged into its base), a hub id")
    export.add_argument("--gguf", required=True, metavar="FILE", help="where it goes: NAME.gguf; not there yet")
    export.add_argument("--type", default="bf16", help=f"of the weights: {', '.join(WEIGHT_TYPES)} (default: bf16)")
    export.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    file = at_home(args.gguf)
    if args.type not in WEIGHT_TYPES:
        raise UserError(f'there is no type of weights "{args.type}"', "--type", suggest(args.type, WEIGHT_TYPES))
    if file.suffix != ".gguf":
        raise UserError(f'"{file.name}" does not end in .gguf', "--gguf", f"name it {file.name}.gguf")
    if file.exists():
        raise UserError("something stands here already", str(file), "name a file that is not there yet: --gguf")
    check_folder(file.parent, "make it writable, or name another folder: --gguf")
    model = find(args.model)
    quiet()
    check_model(model)
    make_folders(file.parent.absolute())
    for line in exported(model, file, args.type):
        print(line, flush=True)
    return 0


def check_model(model: ModelRef) -> None:
    """Raises UserError for what cannot be a GGUF file, before any weight is read."""
    from transformers import AutoConfig

    from cai.models.export.write import check_exportable

    note = slimmed(model)
    if note and note["how"]["how"] in READ_ONLY:
        problem = f'"{model.name}" is slimmed ({note["how"]["how"]}): its layers are of a kind that GGUF does not have'
        raise UserError(
            problem, "MODEL", "export the model that it was made of; --type q8_0 or q4_1 rounds its weights"
        )
    place, base = Path(local(model)), beneath(model)
    with loading_from(place):
        config = AutoConfig.from_pretrained(local(base), revision=base.commit, **NO_CODE)
    kind = adapter_settings(place).get("task_type") if is_adapter(place) else str(config.architectures)
    if "SEQ_CLS" in str(kind) or "SequenceClassification" in str(kind):
        raise UserError(f'"{model.name}" is a reward model: it has no words', "MODEL", "export a language model")
    check_exportable(config, model.name)


def exported(model: ModelRef, file: Path, kind: "WeightType") -> Iterator[str]:
    """Writes the file, loads it again, and says what came of it, line by line.

    What is not whole, or is another model, is never found at `file`. Raises UserError.
    """
    from cai.models.export.check import TEXT, check_file, log_probabilities
    from cai.models.export.vocabulary import vocabulary_of
    from cai.models.export.write import write_gguf
    from cai.models.slim.make import whole

    # 1. What goes in.
    tokenizer: Any = load_tokenizer(model)
    network = whole(model, "cpu")
    vocabulary = vocabulary_of(tokenizer, network.config.vocab_size)
    ids = tokenizer(TEXT)["input_ids"]
    before = log_probabilities(network, ids)

    # 2. Written aside, loaded again, and only then moved to its place.
    with tempfile.TemporaryDirectory(dir=file.parent) as aside:
        made = Path(aside) / file.name
        written = write_gguf(network, vocabulary, tokenizer.chat_template, made, kind, Path(model.name).name)
        apart = check_file(made, network, tokenizer, vocabulary.normalises)
        rounded = float((log_probabilities(network, ids) - before).abs().max())
        sync(made)
        made.replace(file)
        sync(file.parent)
    left = f"; {written.left} whose rows are no whole blocks in f16" if written.left else ""
    yield f"{model.name} -> {file}, {kind}: {file.stat().st_size / 1e6:.0f} MB, {written.tensors} tensors{left}"
    yield f"rounding moves log-probabilities by at most {rounded:.2g} nats"
    yield f"loaded again by transformers: differs by at most {apart:.2g} nats; reads hostile texts as the folder does"
    if vocabulary.normalises:
        yield "note: its tokenizer normalises texts first (NFC), and what reads GGUF does not"
    del network

    # 3. As llama.cpp serves it.
    yield from _by_llama(model, file, vocabulary.normalises)
    yield f"\nserve it: python -m cai.models serve {file}"


def _by_llama(model: ModelRef, file: Path, normalises: bool) -> Iterator[str]:
    from cai.models.engines.transformers import open_engine
    from cai.models.export.check import by_llama
    from cai.models.serving import llama_installed

    if not llama_installed():
        yield "llama.cpp is not installed (pip install xllamacpp): not tried"
        return
    here = open_engine(model, dtype="float32", system=None, device="cpu", runtime=Runtime())
    found = by_llama(file, model, here, normalises)
    yield (
        f"served by llama.cpp: Yes and No differ by at most {found.apart:.2g} nats from those in process, "
        f"{found.same} of {found.asked} greedy answers are the same, {found.alike} of {found.texts} hostile texts are "
        "the same tokens"
    )

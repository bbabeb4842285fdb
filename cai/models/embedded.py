"""The models that need no hub: some that pip packages carry as GGUF, a judge taught on one, and a tiny random one for
smoke runs and tests.

Each is made once, as safetensors and a tokenizer in the cache folder; the judge's adapter is part of this package. A
server reads the GGUF file as it is: for it, the tokenizer alone is made. GGUF is written in cai/models/export/.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.core.durable import make_folders, publish_first
from cai.core.packages import QWEN_0_5B, QWEN_1_5B, SMOLLM2, Package, Parcels, cache_folder, fetch, joined
from cai.core.progress import quiet
from cai.models.chat_templates import CHATML


@dataclass(frozen=True, slots=True)
class Embedded:
    """carrier: what carries the GGUF file. context: tokens that the model reads. parameters: how many it has.

    pad: the token to pad with, never the end-of-turn token, which must stay visible.
    """

    carrier: Package | Parcels
    file: str
    context: int
    parameters: float
    pad: str = "<|endoftext|>"

    def gguf(self) -> Path:
        """The weights' file, fetched if it is not there yet. Raises UserError."""
        return fetch(self.carrier) / self.file if isinstance(self.carrier, Package) else joined(self.carrier)


EMBEDDED = {
    "smollm2-135m": Embedded(SMOLLM2, "SmolLM2-135M-Instruct.Q4_1.gguf", context=8192, parameters=135e6),
    "qwen2.5-coder-0.5b": Embedded(QWEN_0_5B, QWEN_0_5B.file, context=32768, parameters=494e6),
    "qwen2.5-coder-1.5b": Embedded(QWEN_1_5B, QWEN_1_5B.file, context=32768, parameters=1.54e9),
}
TINY = "tiny-random"
# Adapters on embedded models, made by `python -m cai.judge train` and kept with the code.
TAUGHT = {"smollm2-135m-judge": Path(__file__).parents[1] / "judge" / "teaching" / "smollm2-135m-judge"}


def build(name: str) -> Path:
    """The folder of an embedded model in the cache; the first time, it is fetched and converted, or made."""
    home = cache_folder() / "models" / name
    if not (home / "config.json").is_file():
        quiet()
        _publish(_tiny() if name == TINY else _from_gguf(EMBEDDED[name]), home)
    return home


def tokenizer_folder(name: str) -> Path:
    """A folder with the tokenizer of an embedded model, without its weights unless these are there already."""
    whole = cache_folder() / "models" / name
    if name == TINY or (whole / "config.json").is_file():
        return build(name)
    home = cache_folder() / "models" / f"{name}-tokenizer"
    if not home.is_dir():
        quiet()
        _publish([_tokenizer(EMBEDDED[name])], home)
    return home


def _publish(parts: Sequence[Any], home: Path) -> None:
    """Save to the side, then rename: what is half written is never found."""
    make_folders(home.parent)
    with tempfile.TemporaryDirectory(dir=home.parent) as work:
        for part in parts:
            part.save_pretrained(Path(work) / "model")
        publish_first(Path(work) / "model", home)


def _tokenizer(model: Embedded) -> Any:
    from transformers import AutoTokenizer

    path = model.gguf()
    tokenizer: Any = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    # As loaded, pad == eos: masking the padding would mask the end of every answer with it.
    tokenizer.pad_token, tokenizer.model_max_length = model.pad, model.context
    return tokenizer


def _from_gguf(embedded: Embedded) -> tuple[Any, Any]:
    """(model, tokenizer), the weights in bfloat16."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    tokenizer, path = _tokenizer(embedded), embedded.gguf()
    if isinstance(embedded.carrier, Parcels):
        size = f"{2 * embedded.parameters / 1e9:.1f} GB"
        print(f"    converting {path.name} once, to use it in process: {size} more on the disk", file=sys.stderr)
    # A plain GGUF load can be neither trained nor saved; a dequantised one can.
    model = AutoModelForCausalLM.from_pretrained(
        str(path.parent), gguf_file=path.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def _tiny() -> tuple[Any, Any]:
    """A Llama of two layers with random weights and a byte-level tokenizer: for the smoke run and the tests."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = special + sorted(pre_tokenizers.ByteLevel.alphabet()) + ["Yes", "No"]
    merges = [("Y", "e"), ("Ye", "s"), ("N", "o")]
    words = [*alphabet[:-2], "Ye", "Yes", "No"]
    core = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=2048
    )
    tokenizer.chat_template = CHATML
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):  # whoever asks for it first goes on as if it had been there
        torch.manual_seed(0)
        return LlamaForCausalLM(config), tokenizer

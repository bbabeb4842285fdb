"""The models that need no hub: one that a pip package carries as GGUF, a judge taught on it, and a tiny random one for
smoke runs and tests.

Each is made once, as safetensors and a tokenizer in the cache folder; the judge's adapter is part of this package. The
only place that knows GGUF.
"""

import tempfile
from pathlib import Path
from typing import Any

from cai.core.durable import make_folders, publish
from cai.core.packages import SMOLLM2, Package, cache_folder, fetch
from cai.core.progress import quiet

# name -> (package, GGUF file inside it, token to pad with: never the end-of-turn token, which must stay visible)
EMBEDDED = {"smollm2-135m": (SMOLLM2, "SmolLM2-135M-Instruct.Q4_1.gguf", "<|endoftext|>", 8192)}
TINY = "tiny-random"
# Adapters on embedded models, made by `python -m cai.judge train` and kept with the code.
TAUGHT = {"smollm2-135m-judge": Path(__file__).parents[1] / "judge" / "teaching" / "smollm2-135m-judge"}


def build(name: str) -> Path:
    """The folder of an embedded model in the cache; the first time, it is fetched and converted, or made."""
    home = cache_folder() / "models" / name
    if (home / "config.json").is_file():
        return home
    quiet()
    model, tokenizer = _tiny() if name == TINY else _from_gguf(*EMBEDDED[name])
    # To the side, then renamed: a half-written model is never found.
    make_folders(home.parent)
    with tempfile.TemporaryDirectory(dir=home.parent) as work:
        for part in (model, tokenizer):
            part.save_pretrained(Path(work) / "model")
        if not home.is_dir():
            publish(Path(work) / "model", home)
    return home


def _from_gguf(package: Package, file: str, pad: str, length: int) -> tuple[Any, Any]:
    """(model, tokenizer), the weights in bfloat16."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder = str(fetch(package))
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    # A plain GGUF load can be neither trained nor saved; a dequantised one can.
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    # As loaded, pad == eos: masking the padding would mask the end of every answer with it.
    tokenizer.pad_token = pad
    tokenizer.model_max_length = length
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
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):  # whoever asks for it first goes on as if it had been there
        torch.manual_seed(0)
        return LlamaForCausalLM(config), tokenizer

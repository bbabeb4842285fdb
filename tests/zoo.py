"""Tiny random models of many architectures, and tokenizers with many kinds of chat template, for tests.

No hub is reachable: every model is made from its config class. Weights are large enough that each word of a chat and
its place move the next word; where a model has dropout, it is on (a tenth), as it is in published configs.
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

LENGTH = 512
HIDDEN = 32
LLAMA = {
    "hidden_size": HIDDEN, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": LENGTH,
}  # fmt: skip
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
GPT2 = {"n_embd": HIDDEN, "n_layer": 2, "n_head": 4, "n_positions": LENGTH}
NEOX = {key: LLAMA[key] for key in LLAMA if key != "num_key_value_heads"}
OPT = {
    "hidden_size": HIDDEN, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": LENGTH, "word_embed_proj_dim": HIDDEN, "dropout": 0.1, "attention_dropout": 0.1,
}  # fmt: skip
LONGROPE = {
    "original_max_position_embeddings": 256,
    "rope_parameters": {
        "rope_type": "longrope", "rope_theta": 10_000.0, "short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 4.0, 8.0],
        "original_max_position_embeddings": 256,
    },
}  # fmt: skip
# name -> (model type, keywords of its config)
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", LLAMA | {"attention_dropout": 0.1}),
    "mistral": ("mistral", LLAMA | {"sliding_window": 64}),
    "qwen2": ("qwen2", LLAMA),
    "qwen3": ("qwen3", LLAMA | {"head_dim": 8}),
    "gemma": ("gemma", LLAMA | {"head_dim": 8}),
    "gemma2": ("gemma2", LLAMA | {"head_dim": 8, "sliding_window": 64, "query_pre_attn_scalar": 8}),
    "gemma3": ("gemma3_text", LLAMA | {"head_dim": 8, "sliding_window": 64, "query_pre_attn_scalar": 8}),
    "mixtral": ("mixtral", LLAMA | EXPERTS),
    "qwen2-moe": ("qwen2_moe", LLAMA | {
        "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
    }),
    "phi": ("phi", LLAMA | {"resid_pdrop": 0.1, "num_key_value_heads": 4}),
    "phi3-longrope": ("phi3", LLAMA | LONGROPE | {"resid_pdrop": 0.1}),
    "stablelm": ("stablelm", LLAMA),
    "starcoder2": ("starcoder2", LLAMA | {"residual_dropout": 0.1}),
    "olmo2": ("olmo2", LLAMA),
    "cohere": ("cohere", LLAMA),
    "gpt2": ("gpt2", GPT2),
    "gpt-neo": ("gpt_neo", {
        "hidden_size": HIDDEN, "num_layers": 2, "num_heads": 4, "intermediate_size": 48, "window_size": 64,
        "attention_types": [[["global", "local"], 1]], "max_position_embeddings": LENGTH, "embed_dropout": 0.1,
    }),
    "gptj": ("gptj", GPT2 | {"rotary_dim": 4, "n_inner": 48}),
    "gpt-neox": ("gpt_neox", NEOX | {"hidden_dropout": 0.1}),
    "gpt-bigcode": ("gpt_bigcode", GPT2 | {"n_inner": 48}),
    "codegen": ("codegen", GPT2 | {"rotary_dim": 4, "n_inner": 48}),
    "opt": ("opt", OPT),
    "opt-350m": ("opt", OPT | {"word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "bloom": ("bloom", {"hidden_size": HIDDEN, "n_layer": 2, "n_head": 4, "hidden_dropout": 0.1}),
    "falcon": ("falcon", {
        "hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": LENGTH,
    }),
    "mpt": ("mpt", {"d_model": HIDDEN, "n_layers": 2, "n_heads": 4, "expansion_ratio": 2, "max_seq_len": LENGTH}),
    "xglm": ("xglm", {
        "d_model": HIDDEN, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4, "max_position_embeddings": LENGTH,
    }),
    "biogpt": ("biogpt", {
        "hidden_size": HIDDEN, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": LENGTH,
    }),
    "rwkv": ("rwkv", {"hidden_size": HIDDEN, "num_hidden_layers": 2, "context_length": LENGTH}),
    "mamba": ("mamba", {"hidden_size": HIDDEN, "num_hidden_layers": 2, "state_size": 4}),
    "gpt-oss": ("gpt_oss", LLAMA | EXPERTS | {"head_dim": 8, "sliding_window": 64}),
    "gemma3-multimodal": ("gemma3", {
        "text_config": LLAMA | {"head_dim": 8, "sliding_window": 64, "query_pre_attn_scalar": 8},
        "vision_config": {
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 28, "patch_size": 14,
        },
        "mm_tokens_per_image": 1,
    }),
}  # fmt: skip

# 1. Tokenizers -------------------------------------------------------------------------------------------------------

WORDS = [("Y", "e"), ("Ye", "s"), ("N", "o"), ("t", "h"), ("th", "e"), ("i", "n"), ("o", "n")]


def byte_level(special: list[str], **named: Any) -> PreTrainedTokenizerFast:
    """As of GPT-2 and Llama 3: every byte is a token, and a few words are."""
    words = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in WORDS)]
    core = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, WORDS))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(special)
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=LENGTH, **named)


def sentencepiece(special: list[str], **named: Any) -> PreTrainedTokenizerFast:
    """As of Llama 2 and Mistral: a space is part of the word behind it, and text of its own begins with one."""
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    merges = [*WORDS, ("▁", "Yes"), ("▁", "No"), ("▁", "the")]
    letters = sorted({chr(number) for number in range(33, 127)} | {"▁"})
    vocabulary = list(dict.fromkeys(["<unk>", *special, *bytes_, *letters, *(a + b for a, b in merges)]))
    core = Tokenizer(
        models.BPE(
            {w: i for i, w in enumerate(vocabulary)}, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
        )
    )
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    core.add_special_tokens(["<unk>", *special])
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", model_max_length=LENGTH, **named)


def ordinary(marks: list[str], **named: Any) -> PreTrainedTokenizerFast:
    """What marks its turns are added tokens that do not call themselves special."""
    tokenizer = byte_level(["<|endoftext|>"], **named)
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in marks])
    return tokenizer


# 2. Chat templates, in the manner of the models they are called after ------------------------------------------------

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are Qwen.<|im_end|>\n{% endif %}" + CHATML
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% else %}{% set loop_messages = messages %}{% set system = '' %}{% endif %}"
    "{% for m in loop_messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% set content = (system if loop.index0 == 0 else '') + m['content'] %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL1 = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
# The system prompt stands before the last user turn: with an answer behind it, another turn is the last.
MISTRAL3 = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}{{ bos_token }}"
    "{% for m in rest %}{% if m['role'] == 'user' %}"
    "{% if loop.last and system %}{{ '[INST] ' + system + '\n\n' + m['content'] + '[/INST]' }}"
    "{% else %}{{ '[INST] ' + m['content'] + '[/INST]' }}{% endif %}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
LLAMA3 = (
    "{% if not date_string is defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}"
    "{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] | trim %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + date_string + '\n\n' + system + '<|eot_id|>' }}"
    "{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim "
    "+ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# The answer that comes last is written behind an empty thought; the opening asks for one only where thinking is off.
THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
PHI3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
# Plain words for markers.
ALPACA = (
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] + '\n\n' }}{% set messages = messages[1:] %}"
    "{% endif %}{% for m in messages %}{% if m['role'] == 'user' %}{{ '### Instruction:\n' + m['content'] + '\n\n' }}"
    "{% else %}{{ '### Response:\n' + m['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
)
BUILTIN = [{"name": "tool_use", "template": "{{ 'tools' }}"}, {"name": "chat", "template": CHATML}]
IM = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ENDS_IM = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
S = {"bos_token": "<s>", "eos_token": "</s>"}
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
VICUNA = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] + ' ' }}"
    "{% elif m['role'] == 'user' %}{{ 'USER: ' + m['content'] + ' ' }}"
    "{% else %}{{ 'ASSISTANT: ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
# name -> (kind of tokenizer, its special tokens, its named ones, its chat template)
TEMPLATES: dict[str, tuple[Any, list[str], dict[str, str], Any]] = {
    "chatml": (byte_level, IM, ENDS_IM, CHATML),
    "default-system": (byte_level, IM, ENDS_IM, DEFAULT_SYSTEM),
    "llama2": (sentencepiece, ["<s>", "</s>"], S, LLAMA2),
    "mistral1": (sentencepiece, ["<s>", "</s>"], S, MISTRAL1),
    "mistral3": (sentencepiece, ["<s>", "</s>", "[INST]", "[/INST]"], S, MISTRAL3),
    "gemma": (
        byte_level, ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"],
        {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}, GEMMA,
    ),
    "llama3": (
        byte_level, ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|reserved_0|>"],
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}, LLAMA3,
    ),
    "thinking": (byte_level, [*IM, "<think>", "</think>"], ENDS_IM, THINKING),
    "phi3": (
        byte_level, ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"],
        {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}, PHI3,
    ),
    "alpaca": (byte_level, ["<|endoftext|>"], {"eos_token": "<|endoftext|>"}, ALPACA),
    "zephyr": (sentencepiece, ["<s>", "</s>"], S, ZEPHYR),
    "vicuna": (sentencepiece, ["<s>", "</s>"], S, VICUNA),
    "ordinary": (ordinary, ["<|im_start|>", "<|im_end|>"], {"eos_token": "<|endoftext|>"}, CHATML),
    "several": (byte_level, IM, ENDS_IM, BUILTIN),
    "none": (byte_level, ["<|endoftext|>"], {"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}, None),
}  # fmt: skip


def tokenizer_of(template: str) -> PreTrainedTokenizerFast:
    make, special, named, text = TEMPLATES[template]
    tokenizer = make(special, **named)
    tokenizer.chat_template = {t["name"]: t["template"] for t in text} if isinstance(text, list) else text
    return tokenizer


# 3. Models -----------------------------------------------------------------------------------------------------------


def network_of(architecture: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    kind, settings = ARCHITECTURES[architecture]
    ids = {
        "vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    if "text_config" in settings:
        settings = settings | {"text_config": settings["text_config"] | ids}
    else:
        settings = settings | ids
    config = AutoConfig.for_model(kind, **settings)
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config)
    for name, weight in model.named_parameters():
        if weight.dim() >= 2 and "norm" not in name.lower() and "conv" not in name:
            torch.nn.init.normal_(weight, std=0.15)
    return model


def make(folder: Path, architecture: str, template: str) -> Path:
    """A model and its tokenizer in a folder, as they lie on a hub."""
    tokenizer = tokenizer_of(template)
    network_of(architecture, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

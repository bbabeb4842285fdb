"""A Llama or a Qwen2 written as GGUF: its shape, its weights under llama.cpp's names, its vocabulary and chat template.

The keys and names are those of llama.cpp's own converter (convert_hf_to_gguf.py), by its package `gguf`. Two things
differ between the two worlds: llama.cpp turns neighbouring dimensions of queries and keys by rotary positions, where
transformers turns those half a head apart, so that the rows of a Llama's query and key matrices are reordered; and an
output matrix that is the embedding is not written again.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, LlamaFileType, get_tensor_name_map
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize

from cai.core.errors import UserError
from cai.models.export.vocabulary import REMEDY, Vocabulary

WeightType = Literal["f32", "bf16", "f16", "q8_0", "q4_1"]
ARCHITECTURES = {"llama": MODEL_ARCH.LLAMA, "qwen2": MODEL_ARCH.QWEN2}
FILE_TYPES = {
    "f32": LlamaFileType.ALL_F32, "bf16": LlamaFileType.MOSTLY_BF16, "f16": LlamaFileType.MOSTLY_F16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0, "q4_1": LlamaFileType.MOSTLY_Q4_1,
}  # fmt: skip
QUANTISATION = 2  # the version of the formats of blocks; there is no later one


@dataclass(frozen=True, slots=True)
class Written:
    """tensors: how many. left: matrices whose rows cannot be divided into the blocks of the type; they are in f16."""

    tensors: int
    left: int


def check_exportable(config: Any, where: str) -> None:
    """Raises UserError for a model that this file cannot write, or whose readers would compute something else."""
    kind = config.model_type
    if kind not in ARCHITECTURES:
        remedy = f"only {' and '.join(ARCHITECTURES)} are written here; llama.cpp's convert_hf_to_gguf.py knows others"
        raise UserError(f"a model of the kind {kind} cannot be exported", where, remedy)
    rope = config.rope_parameters.get("rope_type", "default")
    faults = {
        f"its positions are scaled ({rope})": rope != "default",
        f"its activation is {config.hidden_act}": config.hidden_act != "silu",
        "its layers have biases": kind == "llama" and (config.attention_bias or config.mlp_bias),
        "its attention has a window": bool(getattr(config, "use_sliding_window", False)),
    }
    if fault := next((fault for fault, there in faults.items() if there), None):
        raise UserError(f"{fault}, which is not read back from a GGUF file as it was", where, REMEDY)


def write_gguf(network: Any, vocabulary: Vocabulary, template: str, file: Path, kind: WeightType, name: str) -> Written:
    """Writes the file, and leaves `network` (float32) with the weights that it then holds: rounded, where they were.

    name: what the model is called in the file.
    """
    config = network.config
    # A temporary file takes the tensors until all sizes are known: not all weights are in memory twice.
    writer = GGUFWriter(file, config.model_type, use_temp_file=True)
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_quantization_version(QUANTISATION)
    _add_shape(writer, config)
    _add_vocabulary(writer, vocabulary, template)
    written = _add_weights(writer, network, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return written


def _add_shape(writer: GGUFWriter, config: Any) -> None:
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary, template: str) -> None:
    writer.add_tokenizer_model("gpt2")  # byte-level BPE
    writer.add_tokenizer_pre(vocabulary.split)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    writer.add_token_merges(vocabulary.merges)
    for name, index in vocabulary.ids.items():
        getattr(writer, f"add_{name}_token_id")(index)
    writer.add_add_bos_token(vocabulary.adds["bos"])
    writer.add_add_eos_token(vocabulary.adds["eos"])
    writer.add_chat_template(template)


def _add_weights(writer: GGUFWriter, network: Any, kind: WeightType) -> Written:
    config = network.config
    names = get_tensor_name_map(ARCHITECTURES[config.model_type], config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    left = tensors = 0
    for name, weight in network.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        there = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert there, name  # of the two architectures all are known
        turned = heads.get(name.split(".")[-2]) if config.model_type == "llama" else None
        values = weight.cpu().numpy()
        values = np.ascontiguousarray(interleaved(values, turned) if turned else values)
        qtype = type_of(values, kind)
        left += qtype is GGMLQuantizationType.F16 and kind != "f16"
        data = quantize(values, qtype)
        writer.add_tensor(there, data, raw_dtype=qtype)
        held = dequantize(data, qtype).reshape(values.shape)
        weight.copy_(weight.new_tensor(halves_apart(held, turned) if turned else held))
        tensors += 1
    return Written(tensors, left)


def type_of(values: np.ndarray, kind: WeightType) -> GGMLQuantizationType:
    """Norms and biases stay in float32; a matrix whose rows are no whole number of blocks is written in f16."""
    if values.ndim < 2:
        return GGMLQuantizationType.F32
    qtype = GGMLQuantizationType[kind.upper()]
    return GGMLQuantizationType.F16 if values.shape[-1] % GGML_QUANT_SIZES[qtype][0] else qtype


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows 0, 1, 2, 3 of each head, of which positions turn 0 with 2 and 1 with 3, as 0, 2, 1, 3."""
    rows = weight.reshape(heads, 2, -1, *weight.shape[1:])
    return rows.swapaxes(1, 2).reshape(weight.shape)


def halves_apart(weight: np.ndarray, heads: int) -> np.ndarray:
    """What `interleaved` has done, undone."""
    rows = weight.reshape(heads, -1, 2, *weight.shape[1:])
    return rows.swapaxes(1, 2).reshape(weight.shape)

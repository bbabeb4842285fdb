"""Weights of fewer bits, by torchao (an extra: `pip install -e '.[slim]'`), in the form that transformers reads.

Linear layers alone are rounded; embeddings, norms and the head stay as they are.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cai.core.errors import UserError

LIBRARY = "torchao"
BY_LIBRARY = ("int8", "int8-dynamic", "int4")


def check_quantising(how: str, device: str, where: str = "slim.how") -> None:
    """Raises UserError where the library is not installed, and for int4 without a GPU."""
    if find_spec(LIBRARY) is None:
        remedy = "pip install -e '.[slim]', or take a way that needs no library: wanda, magnitude, low-rank"
        raise UserError(f"{how} is done by {LIBRARY}, which is not installed", where, remedy)
    if how == "int4" and not device.startswith("cuda"):
        problem = f"int4 is multiplied by kernels for NVIDIA's GPUs, and this runs on {device}"
        raise UserError(problem, where, "write int8, or run it where there is a GPU (runtime.device: cuda)")


def quantise(dense: Path, how: str, dtype: Any, device: str) -> Any:
    """The model in the folder `dense`, read with its linear layers quantised."""
    from transformers import AutoModelForCausalLM, TorchAoConfig

    configs: Any = import_module(f"{LIBRARY}.quantization")
    kinds = {
        "int8": configs.Int8WeightOnlyConfig,
        "int8-dynamic": configs.Int8DynamicActivationInt8WeightConfig,
        "int4": configs.Int4WeightOnlyConfig,
    }
    config: Any = TorchAoConfig(kinds[how]())
    return AutoModelForCausalLM.from_pretrained(
        str(dense), dtype=dtype, quantization_config=config, device_map={"": device}, trust_remote_code=False
    ).eval()

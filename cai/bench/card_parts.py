"""What `cai.bench card` measures (card.py): each part is a function that gives its figures.

The first call of a part is not timed: it chooses kernels.
"""

import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cai.bench.common import in_order
from cai.bench.ppo_run import Meter, common_arguments, forget_peak, peak_memory, rollout_clock
from cai.config.runtime import Runtime
from cai.core.records import Message
from cai.models.engines import Question, Request, Sampling
from cai.models.references import find

Engine = Any  # cai.models.engines.transformers.TransformersEngine, which is heavy to import


@dataclass(frozen=True, slots=True)
class Size:
    """A Llama's. rows: of a batch that is written or learnt from. recomputes: activations, as that size needs them."""

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool
    rows: int
    recomputes: bool = False


SIZES = {
    "tiny": Size(32, 64, 2, 2, 1, 262, True, 2),
    "135m": Size(576, 1536, 30, 9, 3, 49_152, True, 32),  # SmolLM2-135M
    "1.5b": Size(1536, 8960, 28, 12, 2, 151_936, True, 32, True),  # Qwen2.5-1.5B
    "7b": Size(3584, 18_944, 28, 28, 4, 152_064, False, 16, True),  # Qwen2.5-7B
}
LONG = {"tiny": (48, 8), "135m": (384, 128), "1.5b": (384, 64), "7b": (384, 32)}  # tokens of a text, of an answer
SECONDS = {"tiny": 1.0, "135m": 10.0, "1.5b": 20.0, "7b": 40.0}  # that a part may take on a card: what a budget is for
COMPILES = 180.0  # left for what else there is, before a step is compiled
LORA = 16


@dataclass
class CardRun:
    """One run: where it is, what it has found, and until when it may go on."""

    device: str
    dtype: Any
    until: float
    file: Path | None
    found: dict[str, Any]
    skipped: list[str] = field(default_factory=list)

    def now(self) -> float:
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(self, work: Callable[[], float], rounds: int = 1) -> dict[str, Any]:
        """work: gives the units that it did. The first call is not timed; peak_bytes: of all calls."""
        self.forget_peak()
        work()
        start = self.now()
        units = sum(work() for _ in range(rounds))
        seconds = self.now() - start
        return {"per_second": units / seconds, "units": units, "seconds": seconds, "peak_bytes": self.peak()}

    def forget_peak(self) -> None:
        gc.collect()
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        else:
            forget_peak()

    def peak(self) -> int:
        """Bytes: on a card what tensors took, on a CPU what the process did."""
        if self.device.startswith("cuda"):
            import torch

            return torch.cuda.max_memory_allocated()
        return peak_memory()

    def part(
        self,
        place: dict[str, Any],
        name: str,
        size: str,
        work: Callable[[], dict[str, Any]],
        least: float | None = None,
    ) -> None:
        """One part, kept in `place`, whatever becomes of it. least: seconds of the budget that must be left."""
        title = f"{size} {name}".strip()
        left = self.until - time.monotonic()
        if left < (SECONDS[size] if least is None else least):
            self.skipped.append(f"{title}: {max(left, 0):.0f} s of the budget left")
        else:
            try:
                place[name] = work()
            except Exception as error:  # a part that fails takes none of the others with it
                line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
                self.skipped.append(f"{title}: {line}")
        print(f"  {title}: {place[name] if name in place else self.skipped[-1]}", file=sys.stderr, flush=True)
        if self.file:
            self.file.write_text(json.dumps(self.found | {"skipped": self.skipped}, indent=1))


# 1. What bounds the rest ----------------------------------------------------------------------------------------------


def bandwidth(session: CardRun) -> dict[str, Any]:
    """Bytes a second that a copy reads and writes."""
    import torch

    size = 2**31 if session.device.startswith("cuda") else 2**26
    source = torch.zeros(size, dtype=torch.uint8, device=session.device)
    target = torch.empty_like(source)

    def copy() -> float:
        target.copy_(source)
        return 2 * size

    return session.timed(copy, 5)


def multiplied(session: CardRun, dtype: str, *, tf32: bool = False) -> dict[str, Any]:
    """Floating-point operations a second of one large product."""
    import torch

    side = 8192 if session.device.startswith("cuda") else 512
    a = torch.randn(side, side, device=session.device).to(getattr(torch, dtype))
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")

    def product() -> float:
        torch.mm(a, a)
        return 2.0 * side**3

    try:
        return session.timed(product, 5)
    finally:
        torch.set_float32_matmul_precision(precision)


# 2. One size ----------------------------------------------------------------------------------------------------------


def random_network(shape: Size, dtype: str, device: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.inner,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        max_position_embeddings=4096, tie_word_embeddings=shape.tied, bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()


def engine_over(network: Any, session: CardRun) -> Engine:
    """The engine that answers in runs, over this network. Texts are bytes: the tokenizer is the tiny model's."""
    from cai.models.engines.transformers import TransformersEngine

    class OneNetwork:
        def causal(self, *_: Any) -> Any:
            return network

    engine: Any = TransformersEngine(
        find("tiny-random"), dtype=session.dtype, device=session.device, system=None,
        batch_tokens=Runtime().batch_tokens, resident=OneNetwork(),  # pyrefly: ignore
    )  # fmt: skip
    engine.stop_ids = {-1}  # which no token is
    return engine


def text(number: int, tokens: int) -> str:
    """Of as many bytes, which are tokens here, and with no beginning in common."""
    return f"{number:06} {'the quick brown fox '}" * (tokens // 27 + 1)


def read(session: CardRun, engine: Engine, shape: Size, tokens: int) -> dict[str, Any]:
    chats = [(Message("user", text(k, tokens)[:tokens]),) for k in range(shape.rows)]
    questions = [Question(chat, (" Yes", " No")) for chat in chats]
    through = 0

    def count(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        nonlocal through
        through += kwargs["input_ids"].numel()

    hook = engine.model.register_forward_pre_hook(count, with_kwargs=True)

    def label() -> float:
        nonlocal through
        through = 0
        assert len(in_order(engine.choose(questions, 4096))) == len(questions)
        return through

    try:
        rate = session.timed(label, 3)
    finally:
        hook.remove()
    return rate | {"labels_per_second": 3 * len(questions) / rate["seconds"], "text_tokens": tokens}


def written(session: CardRun, engine: Engine, shape: Size, tokens: int, new: int) -> dict[str, Any]:
    requests = [Request((Message("user", text(k, tokens // 2)[: tokens // 2]),), k) for k in range(shape.rows)]

    def generate() -> float:
        assert len(in_order(engine.generate(requests, Sampling(new)))) == len(requests)
        return float(new * len(requests))

    return session.timed(generate) | {"rows": shape.rows, "new_tokens": new}


def static(session: CardRun, network: Any, shape: Size, tokens: int, new: int) -> dict[str, Any]:
    """Greedy, by transformers alone: what the sampler could gain by a static cache and a compiled step."""
    import torch
    from transformers import GenerationConfig

    ids = torch.randint(2, shape.vocabulary, (shape.rows, tokens // 2), device=session.device)
    settings = GenerationConfig(
        max_new_tokens=new, min_new_tokens=new, do_sample=False, cache_implementation="static", pad_token_id=0
    )

    def generate() -> float:
        with torch.inference_mode():
            network.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        return float(new * shape.rows)

    return session.timed(generate) | {"rows": shape.rows, "new_tokens": new}


def trained(session: CardRun, network: Any, shape: Size, tokens: int, *, tf32: bool = False) -> dict[str, Any]:
    """network: with an adapter that learns, whose products are in float32 (PEFT's way)."""
    import torch

    rows = max(1, shape.rows // 4)
    ids = torch.randint(2, shape.vocabulary, (rows, tokens), device=session.device)
    optimizer = torch.optim.AdamW([weight for weight in network.parameters() if weight.requires_grad], lr=1e-5)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")

    def step() -> float:
        network(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(ids.numel())

    try:
        return session.timed(step, 2) | {"rows": rows, "text_tokens": tokens, "lora_rank": LORA}
    finally:
        torch.set_float32_matmul_precision(precision)


def ppo(session: CardRun, network: Any, shape: Size, tokens: int, new: int) -> dict[str, Any]:
    """Rollouts of our trainer: the first is a warm-up, the second is timed."""
    from datasets import Dataset
    from transformers import PrinterCallback

    from cai.models.architectures import lora
    from cai.models.loading import load_tokenizer
    from cai.train import PPOConfig, PPOTrainer

    rows = max(2, shape.rows // 4)
    meter = Meter("cuda" if session.device.startswith("cuda") else session.device)
    with tempfile.TemporaryDirectory() as folder:
        spec = {"folder": folder, "batch": rows, "epochs": 1, "device": session.device}
        config = PPOConfig(
            rollouts=2, generation_batch_size=rows, max_completion_length=new,
            gradient_checkpointing=shape.recomputes, **common_arguments(spec),
        )  # fmt: skip
        prompts = [[{"role": "user", "content": text(k, tokens // 2)[: tokens // 2]}] for k in range(2 * rows)]
        trainer: Any = PPOTrainer(
            network,
            lambda completions, **_: [float(len(turns[-1]["content"])) for turns in completions],
            config,
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
            processing_class=load_tokenizer(find("tiny-random")),
            peft_config=lora(network, LORA, None),
        )
        trainer.eos_token_ids = {-1}
        trainer.remove_callback(PrinterCallback)  # which would print among our figures
        trainer.add_callback(rollout_clock(meter, config.updates_per_rollout))
        session.forget_peak()
        trainer.train()
    units = float(rows * new)
    return {
        "per_second": units / meter.seconds, "units": units, "seconds": meter.seconds, "peak_bytes": session.peak(),
        "rows": rows, "new_tokens": new,
    }  # fmt: skip


def one_size(session: CardRun, size: str) -> None:
    """All parts of one size, over one network; `ppo` comes last, because it puts an adapter of its own on it."""
    from peft import get_peft_model

    from cai.models.architectures import lora

    shape, (tokens, new) = SIZES[size], LONG[size]
    place: dict[str, Any] = {"dtype": session.dtype}
    session.found["sizes"][size] = place
    made: dict[str, Any] = {}

    def make() -> dict[str, Any]:
        session.forget_peak()
        start = session.now()
        made["network"] = random_network(shape, session.dtype, session.device)
        made["engine"] = engine_over(made["network"], session)
        count = sum(weight.numel() for weight in made["network"].parameters())
        return {"parameters": count, "seconds": session.now() - start, "peak_bytes": session.peak()}

    session.part(place, "weights", size, make)
    if "weights" not in place:
        return
    network, engine = made["network"], made["engine"]
    session.part(place, "read", size, lambda: read(session, engine, shape, tokens))
    session.part(place, "written", size, lambda: written(session, engine, shape, tokens, new))
    if session.device.startswith("cuda"):
        session.part(place, "static", size, lambda: static(session, network, shape, tokens, new), COMPILES)
    wrapped: Any = get_peft_model(network, lora(network, LORA, None)).train()
    if shape.recomputes:
        wrapped.enable_input_require_grads()
        wrapped.gradient_checkpointing_enable({"use_reentrant": False})
    session.part(place, "trained", size, lambda: trained(session, wrapped, shape, tokens))
    if session.device.startswith("cuda"):
        session.part(place, "trained, TF32", size, lambda: trained(session, wrapped, shape, tokens, tf32=True))
    session.part(place, "ppo", size, lambda: ppo(session, wrapped.unload(), shape, tokens, new))

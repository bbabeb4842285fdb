"""What `cai.bench card` measures (card.py): each part is a function that gives its figures.

The first call of a part is not timed: it chooses kernels.
"""

import gc
import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cai.bench.common import in_order
from cai.bench.ppo_run import forget_peak, peak_memory
from cai.config.runtime import Runtime
from cai.core.records import Chat, Message
from cai.models.engines import Question, Request, Sampling
from cai.models.references import ModelRef, find

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
    batch_tokens: int = Runtime().batch_tokens
    gone: str = ""  # why the card answers no more

    @property
    def cuda(self) -> bool:
        return self.device.startswith("cuda")

    def left(self) -> float:
        """Seconds of the budget."""
        return self.until - time.monotonic()

    def now(self) -> float:
        if self.cuda:
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
        if self.cuda:
            import torch

            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        else:
            forget_peak()

    def peak(self) -> int:
        """Bytes: on a card what tensors took, on a CPU what the process did."""
        if self.cuda:
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
        title, left = f"{size} {name}".strip(), self.left()
        if self.gone:
            self.skipped.append(f"{title}: {self.gone}")
        elif left < (SECONDS[size] if least is None else least):
            self.skipped.append(f"{title}: {max(left, 0):.0f} s of the budget left")
        else:
            try:
                place[name] = work()
            except Exception as error:  # a part that fails takes none of the others with it
                where = traceback.extract_tb(error.__traceback__)[-1]
                line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
                self.skipped.append(f"{title}: {line} ({Path(where.filename).name}:{where.lineno})")
                traceback.print_exc()
                self._look_whether_it_lives()
        print(f"  {title}: {place[name] if name in place else self.skipped[-1]}", file=sys.stderr, flush=True)
        if self.file:
            self.file.write_text(json.dumps(self.found | {"skipped": self.skipped}, indent=1))

    def _look_whether_it_lives(self) -> None:
        """After some faults (a wrong address, an index out of range) a process can use the card no more."""
        try:
            self.forget_peak()
            self.now()
        except Exception as error:
            self.gone = f"the card answers no more: {str(error).splitlines()[0][:100]}"


# 1. What bounds the rest ----------------------------------------------------------------------------------------------


def bandwidth(session: CardRun) -> dict[str, Any]:
    """Bytes a second that a copy reads and writes."""
    import torch

    size = 2**31 if session.cuda else 2**26
    source = torch.zeros(size, dtype=torch.uint8, device=session.device)
    target = torch.empty_like(source)

    def copy() -> float:
        target.copy_(source)
        return 2 * size

    return session.timed(copy, 5)


def multiplied(session: CardRun, dtype: str, *, tf32: bool = False) -> dict[str, Any]:
    """Floating-point operations a second of one large product."""
    import torch

    side = 8192 if session.cuda else 512
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


@dataclass(frozen=True, slots=True)
class Subject:
    """A network that is measured, and the engine over it. ref: whose tokenizer reads its texts. letters: how many of
    a text make about a token."""

    size: str
    ref: ModelRef
    network: Any
    engine: Engine
    letters: int = 1

    @property
    def shape(self) -> Size:
        return SIZES[self.size]

    @property
    def tokens(self) -> int:
        return LONG[self.size][0]

    @property
    def new(self) -> int:
        return LONG[self.size][1]

    def chat(self, number: int, tokens: int) -> Chat:
        """Of about so many tokens, and with no beginning in common with another."""
        letters = tokens * self.letters
        return (Message("user", text(number, letters)[:letters]),)


def random_network(shape: Size, dtype: str, device: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.inner,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        max_position_embeddings=4096, tie_word_embeddings=shape.tied, bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    with torch.device(device):
        network = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()
    network.base_commit, network.base_digest = None, ""  # what loading.py notes of a base
    return network


def random_subject(session: CardRun, size: str) -> Subject:
    """Texts are bytes: the tokenizer is the tiny model's."""
    ref, network = find("tiny-random"), random_network(SIZES[size], session.dtype, session.device)
    return Subject(size, ref, network, engine_over(session, ref, network))


def engine_over(session: CardRun, ref: ModelRef, network: Any) -> Engine:
    """The engine that answers in runs, over this network; its answers are as long as they may be."""
    from cai.models.engines.transformers import TransformersEngine

    class OneNetwork:
        def causal(self, *_: Any) -> Any:
            return network

    engine: Any = TransformersEngine(
        ref, dtype=session.dtype, device=session.device, system=None, batch_tokens=session.batch_tokens,
        resident=OneNetwork(),  # pyrefly: ignore
    )  # fmt: skip
    engine.stop_ids = {-1}  # which no token is
    return engine


def text(number: int, letters: int) -> str:
    return f"{number:06} {'the quick brown fox '}" * (letters // 27 + 1)


def read(session: CardRun, subject: Subject) -> dict[str, Any]:
    engine = subject.engine
    questions = [Question(subject.chat(k, subject.tokens), (" Yes", " No")) for k in range(subject.shape.rows)]
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
    return rate | {"labels_per_second": 3 * len(questions) / rate["seconds"], "text_tokens": subject.tokens}


def written(session: CardRun, subject: Subject) -> dict[str, Any]:
    rows, new = subject.shape.rows, subject.new
    requests = [Request(subject.chat(k, subject.tokens // 2), k) for k in range(rows)]

    def generate() -> float:
        assert len(in_order(subject.engine.generate(requests, Sampling(new)))) == rows
        return float(new * rows)

    return session.timed(generate) | {"rows": rows, "new_tokens": new}


def static(session: CardRun, subject: Subject) -> dict[str, Any]:
    """Greedy, by transformers alone: what the sampler could gain by a static cache and a compiled step."""
    import torch
    from transformers import GenerationConfig

    rows, new = subject.shape.rows, subject.new
    ids = torch.randint(2, subject.shape.vocabulary, (rows, subject.tokens // 2), device=session.device)
    settings = GenerationConfig(
        max_new_tokens=new, min_new_tokens=new, do_sample=False, cache_implementation="static", pad_token_id=0
    )

    def generate() -> float:
        with torch.inference_mode():
            subject.network.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        return float(new * rows)

    return session.timed(generate) | {"rows": rows, "new_tokens": new}


def begin_size(session: CardRun, size: str, make: Callable[[CardRun, str], Subject]) -> Subject | None:
    """The network of a size, as its part `weights`; None where there is none."""
    place: dict[str, Any] = {"dtype": session.dtype}
    session.found["sizes"][size] = place
    made: list[Subject] = []

    def weights() -> dict[str, Any]:
        session.forget_peak()
        start = session.now()
        made.append(make(session, size))
        count = sum(weight.numel() for weight in made[0].network.parameters())
        return {"parameters": count, "seconds": session.now() - start, "peak_bytes": session.peak()}

    session.part(place, "weights", size, weights)
    return made[0] if made else None

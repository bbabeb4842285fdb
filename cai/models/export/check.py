"""A GGUF file loaded again: it must say what the model in memory says, and read texts as the folder's tokenizer does.

By transformers' own loader, always; and by llama.cpp, served as `python -m cai.models serve` does it, where that is
installed: its answers and its log-probabilities of options beside those in process.
"""

import sys
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai.config.runtime import Runtime
from cai.config.served import Server
from cai.core.errors import UserError
from cai.core.records import Message
from cai.models.engines import Engine, Question, Request, Sampling
from cai.models.engines.connection import Connection
from cai.models.engines.server import ServerEngine
from cai.models.engines.spending import Spending
from cai.models.loading import load_tokenizer
from cai.models.references import ModelRef
from cai.models.serving import HERE, cores, free_port, start

TOLERANCE = 1e-3  # nats, of any token's log-probability: the same operations on the same numbers
# What tokenizers disagree about: runs of spaces and digits, apostrophes, lines, scripts, marks that combine, emoji of
# several code points, spaces that are none, controls, and bytes that begin nothing.
HOSTILE = (
    "Hello, world!", "  two  spaces   three ", "\ttab\n\n\nlines\r\n", "1234567890 3.14159 1,000,000 0x1F x2",
    "It's THEY'LL we'Ve 's 'S I'd", "naïve café", "nai\u0308ve cafe\u0301", "中文字符，日本語テキスト", "한국어 테스트",
    "العربية اختبار", "हिन्दी परीक्षण", "ไทยทดสอบ", "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪", "a\u00a0b\u3000c\u2028d\u200be",
    "\u0000\u0001\u007f\u0085",
    "def f(x):\n    return x**2  # 100%\n", "https://x.org/a?b=c&d=%20#e", "ÿ\ufffd\ufeff", "ﬁ ² ½ Ⅷ ａｂｃ",
    "...!!!???---___", "<|not a token|> [INST] <s> </s>", "\\u0041 \\n", "aAaA" * 9, "Ⴀ ǅ ß ŉ İ",
)  # fmt: skip
TEXT = "The quick brown fox jumps over the lazy dog. Which answer is better, and why?"
ASKED = ("What is the capital of France?", "How do I boil an egg?", "Is it right to lie to a friend?")
OPTIONS = ("Yes", "No")
WORDS = 16  # tokens of an answer that are compared


@dataclass(frozen=True, slots=True)
class ByLlama:
    """llama.cpp beside the model in process. apart: the largest difference of an option's log-probability, in nats.
    same: answers that begin alike, of `asked`. alike: texts that both read alike, of `texts`."""

    apart: float
    same: int
    asked: int
    alike: int
    texts: int


def hostile_texts(tokenizer: Any, normalises: bool) -> list[str]:
    """HOSTILE, and every added token between words. normalises: texts are what NFC makes of them, for GGUF has no
    normaliser."""
    added = [f"so {token.content}{token.content} said" for token in tokenizer.added_tokens_decoder.values()]
    texts = [*HOSTILE, *added]
    return [unicodedata.normalize("NFC", text) for text in texts] if normalises else texts


# 1. By transformers ---------------------------------------------------------------------------------------------------


def check_file(file: Path, network: Any, tokenizer: Any, normalises: bool) -> float:
    """network: the model whose weights the file was given, in float32. Returns the largest difference between any
    log-probability of the two, in nats.

    Raises UserError, and removes the file, where what was loaded is another model or reads texts otherwise.
    """
    try:
        again, reader = load_gguf(file)
    except (OSError, ValueError, KeyError) as error:
        raise _refused(file, f"what was written cannot be loaded: {error}") from None
    for text in hostile_texts(tokenizer, normalises):
        for added in (False, True):
            ids, theirs = (one(text, add_special_tokens=added)["input_ids"] for one in (tokenizer, reader))
            if ids != theirs:
                raise _refused(file, f"{text!r} is read as the tokens {theirs[:12]} and not as {ids[:12]}")
    apart = max(_apart(network, again, tokenizer(text)["input_ids"]) for text in (TEXT, *HOSTILE[:4]))
    if not apart <= TOLERANCE:  # nor is a NaN
        raise _refused(file, f"what was written is another model: log-probabilities differ by up to {apart:.3g} nats")
    return apart


def load_gguf(file: Path) -> tuple[Any, Any]:
    """(model in float32, tokenizer) as transformers reads them from a GGUF file alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where: dict[str, Any] = {"pretrained_model_name_or_path": str(file.parent.absolute()), "gguf_file": file.name}
    model = AutoModelForCausalLM.from_pretrained(
        **where, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    return model.eval(), AutoTokenizer.from_pretrained(**where)


def log_probabilities(network: Any, ids: Sequence[int]) -> Any:
    """Of every next token behind every place: (places, vocabulary), float32, nats."""
    import torch

    with torch.inference_mode():
        row = torch.tensor([list(ids)], device=network.device)
        return network(input_ids=row, use_cache=False).logits[0].float().log_softmax(-1).cpu()


def _apart(first: Any, second: Any, ids: Sequence[int]) -> float:
    return float((log_probabilities(first, ids) - log_probabilities(second, ids)).abs().max())


def _refused(file: Path, problem: str) -> UserError:
    file.unlink(missing_ok=True)
    return UserError(problem, str(file), "it was removed; serve the folder by another engine (--engine vllm)")


# 2. By llama.cpp ------------------------------------------------------------------------------------------------------


def by_llama(file: Path, model: ModelRef, here: Engine, normalises: bool) -> ByLlama:
    """Serves the file, asks, and ends the server. here: the model in process. Raises UserError where it cannot be
    served, or not be asked as judges ask."""
    port = free_port()
    command = [sys.executable, "-m", "cai.models", "serve", str(file), "--host", HERE, "--port", str(port)]
    with tempfile.TemporaryDirectory() as folder:
        running = start([*command, "--threads", str(cores())], file.stem, f"http://{HERE}:{port}", Path(folder) / "log")
        try:
            server = Server(url=(running.url,), name=file.stem, adapters=False)
            connection = Connection(server, file.stem, Spending.of(Runtime()), 2, Path(folder))
            tokenizer = load_tokenizer(model)
            there = ServerEngine(connection, tokenizer, identity="", system=None)
            return compared(here, there, tokenizer, running.url.removesuffix("/v1"), normalises)
        finally:
            running.stop()


def compared(here: Engine, there: Engine, tokenizer: Any, address: str, normalises: bool) -> ByLlama:
    """address: where the server splits texts into tokens, at /tokenize."""
    chats = [(Message("user", text),) for text in ASKED]
    questions = [Question(chat, OPTIONS) for chat in chats]
    requests = [Request(chat, 0) for chat in chats]
    read, written = [], []
    for engine in (here, there):
        readings = {k: reading for batch in engine.choose(questions, 2048) for k, reading in batch}
        read.append([value for k in sorted(readings) for value in readings[k].logprobs])  # pyrefly: ignore
        replies = {k: reply for batch in engine.generate(requests, Sampling(WORDS, 0.0)) for k, reply in batch}
        written.append([reply and reply.text for _, reply in sorted(replies.items())])
    texts = hostile_texts(tokenizer, normalises)
    alike = sum(_split_there(address, text) == tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts)
    return ByLlama(
        apart=max(abs(a - b) for a, b in zip(*read, strict=True)),
        same=sum(a == b for a, b in zip(*written, strict=True)), asked=len(ASKED), alike=alike, texts=len(texts),
    )  # fmt: skip


def _split_there(address: str, text: str) -> list[int]:
    import json
    import urllib.request

    body = json.dumps({"content": text, "add_special": False, "parse_special": True}).encode()
    asked = urllib.request.Request(f"{address}/tokenize", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return json.load(answer)["tokens"]

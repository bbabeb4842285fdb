"""What a stage is handed to work with: engines, reward models and the device. Never part of a stage's key."""

import gc
import os
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from cai.config.load import Arm
from cai.config.runtime import Runtime
from cai.config.serve import OwnServer
from cai.constitution import Constitution, less, read_constitution
from cai.constitution.reasons import as_read
from cai.core.errors import UserError
from cai.core.records import Chat
from cai.core.store import digest_of
from cai.models.calls import CallCache
from cai.models.chat import LETTERS, chat_ids, text_numbers, with_system
from cai.models.engines import Engine
from cai.models.engines.cached import CachedEngine
from cai.models.engines.spending import Spending
from cai.models.loading import pick_device, pick_dtype, shared_tokenizer
from cai.models.references import Dtype, ModelRef, beneath
from cai.models.resident import Resident
from cai.models.serving import addressed, start_own


@dataclass
class Workbench:
    """Keeps one base in memory at a time, with the adapter that is read (resident.py): a laptop has room for no more
    beside the model that is being trained."""

    root: Path
    runtime: Runtime
    device: str
    constitutions: dict[str, Constitution] = field(default_factory=dict)  # those that were read, by their path
    _calls: CallCache | None = None
    _served: dict[str, Engine] = field(default_factory=dict)
    _loaded: tuple[str, Any] | None = None
    _room: ExitStack = field(default_factory=ExitStack)  # how what is loaded is let go of, beside forgetting it
    _made: list[CachedEngine] = field(default_factory=list)
    # One of several of a run: the batches of models in process are then those of a run in one process, to the digit.
    # Calls of a server are money, and are shared all the same.
    side_by_side: bool = False
    elsewhere: Counter[str] = field(default_factory=Counter)  # calls of stages that other processes made for this run

    @classmethod
    def open(cls, runtime: Runtime) -> "Workbench":
        # Read by the libraries when they are imported, which is later: nothing heavy is imported before there is work.
        os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
        # Threads that wait busily starve one another as soon as another program wants a core: with one core taken,
        # answers took 3.1 times as long, and 2.1 times with this; on an idle machine it costs nothing.
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
        if runtime.threads:
            os.environ["OMP_NUM_THREADS"] = str(runtime.threads)
        device = pick_device(runtime.device)
        if "batch_tokens" not in runtime.model_fields_set and (tokens := batch_tokens(device)) != runtime.batch_tokens:
            runtime = runtime.model_copy(update={"batch_tokens": tokens})
        return cls(Path(runtime.root), runtime, device)

    def constitution(self, path: str, without: str | None = None) -> Constitution:
        """As it was when it was first asked for: an edit during a run moves none of it, and none of what it records.

        without: a principle that is left out. Raises UserErrors with all its faults.
        """
        if path not in self.constitutions:
            self.constitutions[path] = read_constitution(path)
        return less(self.constitutions[path], without)

    def constitution_of(self, arm: Arm) -> Constitution:
        """An arm's own, with what its stages read of its reasons. Raises UserError(s)."""
        return as_read(self.constitution(arm.constitution.file, arm.without), arm.constitution)

    @cached_property
    def spending(self) -> Spending:
        """What the servers of this run have read and written, and its limits."""
        return Spending.of(self.runtime)

    @cached_property
    def resident(self) -> Resident:
        return Resident(self.device)

    @cached_property
    def _states(self) -> Any:
        from cai.models.trunk import States  # heavy

        return States()

    def read_once(self, network: Any, ref: ModelRef) -> None:
        """Let what LoRA leaves alone in a network be read once for all that this process trains and scores (trunk.py).

        ref: the model, or what it started from. Not where it is in parts, or is computed twice (checkpointing).
        """
        from cai.models.trunk import read_once  # heavy

        if int(os.environ.get("WORLD_SIZE") or 1) == 1 and not self.runtime.checkpointing:
            read_once(network, beneath(ref).digest, self._states)

    def dtype(self, arm: Arm) -> Dtype:
        return pick_dtype(arm.dtype, self.device)

    def engine(self, model: ModelRef, *, dtype: Dtype, system: str | None) -> CachedEngine:
        """The model behind the call cache; its weights are loaded at the first call that the cache cannot answer."""
        tokenizer: Any = None if model.hosted else shared_tokenizer(model)
        self._calls = self._calls or CallCache(self.root / "calls")
        # What a server computes in, it decides.
        own = model.server is None or model.server.same
        identity = digest_of([model.digest, dtype, system] if own else ["served", model.digest, system])
        given: dict[str, Any] = {"spending": self.spending} if model.server else {}
        if model.engine == "transformers":
            given = {"resident": self.resident}

        def load(model: ModelRef = model) -> Engine:
            # Heavy: imported only when there is something to ask.
            kind = import_module(f"cai.models.engines.{model.engine}")
            return kind.open_engine(
                model, dtype=dtype, system=system, device=self.device, runtime=self.runtime, **given
            )  # fmt: skip

        def serve() -> Engine:
            self.resident.release()
            running = start_own(model, dtype, self.runtime)
            self._room.callback(running.stop)
            given["gone"] = running.ended
            return load(addressed(model, running))

        def open_engine() -> Engine:
            if model.server is None or isinstance(model.server, OwnServer):
                return self._keep(identity, serve if model.server else load)
            if identity not in self._served:  # which takes no room beside another model
                self._served[identity] = load()
            return self._served[identity]

        def prompt_ids(chat: Chat) -> list[int]:
            chat = with_system(chat, system)
            return chat_ids(tokenizer, chat, answer=True) if tokenizer else text_numbers(chat)

        def tokens(text: str) -> int:
            return len(tokenizer(text, add_special_tokens=False)["input_ids"]) if tokenizer else len(text) // LETTERS

        together = model.server is not None or not self.side_by_side
        meter = {"meter": self.spending.meter} if model.server else {}
        engine = CachedEngine(open_engine, identity, prompt_ids, self._calls, tokens, together, **meter)
        self._made.append(engine)
        return engine

    def reward_model(self, model: ModelRef, dtype: Dtype) -> Any:
        """A reward model for scoring, valid until something else is asked for."""

        def load() -> Any:
            network = self.resident.reward(model, dtype)
            self.read_once(network, model)
            return network

        return self._keep(f"reward {model.digest} {dtype}", load)

    def language_model(self, model: ModelRef, dtype: Dtype) -> Any:
        """A language model whose log-probabilities are read as they are, valid until something else is asked for."""
        return self._keep(f"network {model.digest} {dtype}", lambda: self.resident.causal(model, dtype))

    def _keep(self, identity: str, load: Callable[[], Any]) -> Any:
        if self._loaded is None or self._loaded[0] != identity:
            if self._loaded is None:  # what was trained before is gone, but not collected
                self.release()
            self._loaded = None  # the base stays, for the next one that is an adapter on it
            self._room.close()
            try:
                self._loaded = (identity, load())
            except BaseException:
                self._room.close()
                raise
        return self._loaded[1]

    def release(self) -> None:
        """Let go of the model in memory, or end the server that has it, before something else needs the room."""
        self._loaded = None
        self._room.close()
        self.resident.release()
        freeze_libraries()

    def counts(self) -> dict[str, int]:
        """Model calls so far: made by a model, or found in the cache; and the tokens of those that were made."""
        kinds = {"asked": "asked", "found": "found", "tokens read": "read", "tokens written": "written"}
        own = {name: sum(getattr(engine, kind) for engine in self._made) for name, kind in kinds.items()}
        return {name: count + self.elsewhere[name] for name, count in own.items()}


@cache  # asking how many objects are frozen goes through them all: 0.1 s
def freeze_libraries() -> None:
    """Leave the libraries out of garbage collection. The first time in a process there is no model yet, only them:
    half a million objects that never go. Left in, every later collection looks through them for 0.2 s, and a smoke run
    spends half of its time on that."""
    if not gc.get_freeze_count():
        gc.freeze()


def batch_tokens(device: str) -> int:
    """What `runtime.batch_tokens` is where nobody names it: of a card, 4,096 for every 10 GB of its memory (32,768 of
    80 GB). A step of writing takes a small model as long for 8 rows as for 80."""
    usual = Runtime().batch_tokens
    about = card_at(device)
    return max(usual, usual * round(about.total_memory / 10e9)) if about else usual


def card_at(device: str) -> Any:
    """What torch knows of a CUDA card, with its name and total_memory (bytes). None for any other device, and for a
    card that is not here: `check_device` says so of a run, and a plan may be for another machine."""
    if not device.startswith("cuda"):
        return None
    import torch

    try:
        return torch.cuda.get_device_properties(device)
    except (AssertionError, RuntimeError):  # no CUDA in this torch; no driver, or no card of this number
        return None


def check_device(device: str, where: str = "runtime.device") -> None:
    """Does this machine have the device, and does it compute? Raises UserError where not. Imports torch, if need be."""
    if device in ("auto", "cpu"):
        return
    import torch

    try:
        torch.ones(1, device=device).add(1).item()
    except Exception as error:  # each kind of device fails in its own way: no driver, no such number, unknown name
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        problem = f'the device "{device}" is not there: {reason}'
        remedy = "name one that is there (cpu, cuda, mps), or auto"
        raise UserError(problem, where, remedy) from None

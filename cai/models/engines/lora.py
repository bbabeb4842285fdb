"""Adapters (LoRA) that a server is given for as long as it is asked about them: vLLM's /v1/load_lora_adapter.

The server must see the folder by the same path, and be started for it:

    VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve BASE --enable-lora --max-lora-rank 16

An adapter's name there is made of its contents and of this process: two runs at one server never take one another's
away.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cai.core.durable import unique
from cai.core.errors import UserError
from cai.core.store import digest_of
from cai.models.adapters import adapter_settings, is_adapter
from cai.models.engines.faults import GivenUp
from cai.models.engines.transport import LOAD, Pool, ReplicaAnswer
from cai.models.references import ModelRef, local

PROCESS = digest_of([unique()])[:6]
NOWHERE = "/nowhere/cai-looks-whether-adapters-can-be-loaded"
IN_PROCESS = "or sample what was trained in process: server: {adapters: false}"
START = "start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve ... --enable-lora --max-lora-rank"


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter's folder here, and its name at the server."""

    name: str
    folder: Path

    @property
    def rank(self) -> int:
        return int(adapter_settings(self.folder).get("r") or 0)

    @property
    def body(self) -> dict[str, str]:
        """What a server is told to load."""
        return {"lora_name": self.name, "lora_path": str(self.folder)}


def lora_of(model: ModelRef) -> Lora | None:
    """What a server must be given of a model before it is asked; None where it serves the weights themselves."""
    if model.server is None or not model.server.adapters or model.hosted:
        return None
    folder = Path(local(model))
    if not is_adapter(folder):
        return None
    return Lora(f"cai-{digest_of(['adapter', model.digest])[:16]}-{PROCESS}", folder.resolve())


@contextmanager
def given(pool: Pool, lora: Lora | None) -> Iterator[None]:
    """Within: every replica has the adapter. Raises UserError where one cannot be given it."""
    if lora is None:
        yield
        return
    for answer in _tell(pool, LOAD, lora.body):
        if answer.status != 200 and "already been loaded" not in answer.text:
            raise cannot_load(answer, lora)
    try:
        yield
    finally:
        with suppress(UserError):  # a server that is gone has nothing to give back
            _tell(pool, "unload_lora_adapter", {"lora_name": lora.name})


def check_adapters(pool: Pool) -> None:
    """Raises UserError where the server cannot be given adapters: it is told to load one that is not there."""
    for answer in _tell(pool, LOAD, {"lora_name": "cai-looks", "lora_path": NOWHERE}):
        if not _looked_for(answer):
            raise cannot_load(answer, None)


def _looked_for(answer: ReplicaAnswer) -> bool:
    """Whether the server looked for the folder, in vain: so it can load those that are there."""
    return answer.status == 404 and NOWHERE in answer.text


def _tell(pool: Pool, path: str, body: dict[str, str]) -> list[ReplicaAnswer]:
    async def every() -> list[ReplicaAnswer]:
        async with pool:
            return await pool.every(path, body)

    try:
        return asyncio.run(every())
    except GivenUp as fault:
        where = ", ".join(pool.server.url)
        raise UserError(f"the server does not answer: {fault}", where, "start it, or mend the address") from None


def cannot_load(answer: ReplicaAnswer, lora: Lora | None) -> UserError:
    """Why a server has not taken an adapter, by what it answers, and what would do."""
    text, rank = answer.text, lora.rank if lora else "RANK"
    if lora and answer.status == 404 and str(lora.folder) in text:
        problem = f"the server does not find the adapter in {lora.folder}"
        return UserError(problem, answer.url, f"let it see that folder by the same path, {IN_PROCESS}")
    if answer.status in (404, 405, 501):
        remedy = f"vLLM can: {START} {rank}, {IN_PROCESS}"
        return UserError("this server cannot be given adapters", answer.url, remedy)
    problem = f"the server does not take an adapter: HTTP {answer.status}: {text}"
    return UserError(problem, answer.url, f"{START} {rank}, {IN_PROCESS}")

"""Prompts and preference pairs: from the human-rated answers that a pip package carries, HH-RLHF, or a file.

Whatever the source, the outcome is the same two lists (cai/data.py). Rows that cannot be used are counted and named,
never silently dropped.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from cai.data import Material, identity, make_pair, split_of, uniform
from cai.errors import UserError
from cai.packages import PYRIT
from cai.rated_answers import rated_answers
from cai.records import Chat, Message, Pair, Prompt, SetAside, decode, read_rows, write_jsonl
from cai.settings import Data
from cai.store import digest_file, version
from cai.votes import Judgement, answers_of, counted, judgements_of, settle, share

HUB_HH = "hh-rlhf"
RATED = "rated-answers"  # the one source in which people rated single answers


@version(4)
def load_data(out: Path, runtime: Any, *, data: Data, contents: str, seed: int) -> None:
    """prompts.jsonl, pairs.jsonl, ratings.jsonl (where people rated answers), set_aside.jsonl and counts.json.

    contents: `source_digest(data)`, so that an edited file is reread.
    """
    material = read_source(data, seed)
    pairs = _limit(material, data, seed)
    write_jsonl(out / "prompts.jsonl", material.prompts.values())
    write_jsonl(out / "pairs.jsonl", pairs)
    write_jsonl(out / "ratings.jsonl", material.ratings)
    write_jsonl(out / "set_aside.jsonl", material.aside)
    (out / "counts.json").write_text(json.dumps(dict(material.counts), indent=1))


def source_digest(data: Data, key: str = "data.source") -> str:
    """What stands for the source's contents in a stage key. Raises UserError, at `key`, when a file is missing."""
    if data.source == RATED:
        return PYRIT.sha256
    if data.source.split("/")[0] == HUB_HH:
        return data.source
    return digest_file(_existing(data.source, key))


def _existing(source: str, key: str = "data.source") -> Path:
    path = Path(source).expanduser()
    if not path.is_file():
        raise UserError(
            f'there is no data source "{source}"',
            key,
            "give rated-answers, hh-rlhf/harmless-base, or a .jsonl or .jsonl.gz file that exists",
        )
    return path


def read_source(data: Data, seed: int) -> Material:
    if data.source == RATED:
        return rated_answers(data, seed)
    if data.source.split("/")[0] == HUB_HH:
        return hh_rows(_hub_rows(data.source), data, seed)
    return read_file(_existing(data.source), data, seed)


def _limit(material: Material, data: Data, seed: int) -> list[Pair]:
    """At most `train_pairs`, `calibration_pairs` and `test_pairs`, chosen by hash; at most `pairs_per_prompt` each."""
    by_prompt: dict[str, list[Pair]] = defaultdict(list)
    for pair in sorted(material.pairs.values(), key=lambda pair: uniform("pair", seed, pair.id)):
        if len(by_prompt[pair.prompt.id]) < data.pairs_per_prompt:
            by_prompt[pair.prompt.id].append(pair)
    kept: list[Pair] = []
    limits = {"train": data.train_pairs, "calibration": data.calibration_pairs, "test": data.test_pairs}
    for split, most in limits.items():
        some = [pair for pairs in by_prompt.values() for pair in pairs if pair.prompt.split == split]
        kept += sorted(some, key=lambda pair: uniform("limit", seed, pair.id))[:most]
    material.counts["pairs over the limits of the config"] += len(material.pairs) - len(kept)
    material.counts["pairs used"] = len(kept)
    return kept


@version(2)
def load_helpful(out: Path, runtime: Any, *, source: str, contents: str, test: float, seed: int) -> None:
    """prompts.jsonl: harmless everyday prompts. contents: the digest of the file, so that an edit is seen."""
    settings = Data(source=source, test=test)
    write_jsonl(out / "prompts.jsonl", read_file(_existing(source), settings, seed).prompts.values())


# --- HH-RLHF ----------------------------------------------------------------------------------------------------------

_TURN = re.compile(r"\n\n(Human|Assistant):")


def parse_hh(text: str) -> Chat:
    """An HH-RLHF transcript as messages. A turn begins at a blank line and a speaker's name, not at any colon."""
    parts = _TURN.split("\n\n" + text.lstrip())
    roles = {"Human": "user", "Assistant": "assistant"}
    return tuple(Message(roles[parts[i]], parts[i + 1].strip()) for i in range(1, len(parts) - 1, 2))  # pyrefly: ignore


def hh_rows(rows: Iterable[tuple[str, dict]], data: Data, seed: int, material: Material | None = None) -> Material:
    """Rows of `chosen` and `rejected` transcripts that differ in the last answer; others are counted and left out."""
    material = material or Material()
    for where, row in rows:
        if not isinstance(row.get("chosen"), str) or not isinstance(row.get("rejected"), str):
            raise UserError(
                "chosen and rejected must be transcripts", where, "see HH-RLHF: \\n\\nHuman: ... \\n\\nAssistant: ..."
            )
        chosen, rejected = parse_hh(row["chosen"]), parse_hh(row["rejected"])
        fault = _hh_fault(chosen, rejected, data.max_words)
        material.counts["HH rows read"] += 1
        if fault:
            material.counts[f"HH rows left out: {fault}"] += 1
            continue
        conversation = chosen[:-1]
        prompt_id = identity("hh", *(message.content for message in conversation))
        # Conversations that grow out of one opening are kept on one side of the split.
        split = split_of(identity("hh", conversation[0].content), data, seed)
        prompt = material.prompts.setdefault(prompt_id, Prompt(prompt_id, conversation, "harmless", split))
        material.add(make_pair(prompt, chosen[-1].content, rejected[-1].content, 1.0, (1.0,), seed))
    return material


def _hh_fault(chosen: Chat, rejected: Chat, max_words: int) -> str:
    if not chosen or not rejected or chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
        return "does not end with an answer"
    if chosen[:-1] != rejected[:-1]:
        return "the two conversations part before the last answer"
    if not chosen[:-1] or chosen[0].role != "user" or chosen[-2].role != "user":
        return "does not begin with, or answer, a person"
    if any(one.role == two.role for one, two in pairwise(chosen)):
        return "one speaker has two turns in a row"  # many chat formats refuse that
    if not chosen[-1].content or not rejected[-1].content or any(not message.content for message in chosen[:-1]):
        return "an empty turn"
    if chosen[-1].content == rejected[-1].content:
        return "both answers are the same"
    words = sum(len(message.content.split()) for message in chosen[:-1])
    if words > max_words or max(len(chosen[-1].content.split()), len(rejected[-1].content.split())) > max_words:
        return "too long"
    return ""


def _hub_rows(source: str) -> Iterator[tuple[str, dict]]:
    from datasets import load_dataset

    subset = source.partition("/")[2] or "harmless-base"
    try:
        rows = load_dataset("Anthropic/hh-rlhf", data_dir=subset, split="train")
    except Exception as error:
        raise UserError(
            f"cannot load HH-RLHF ({subset}) from the hub: {type(error).__name__}",
            "data.source",
            "check the network, or give a local file: --set data.source=harmless-base.jsonl.gz",
        ) from None
    for number, row in enumerate(rows, 1):
        yield f"{source}:{number}", dict(row)


# --- files ------------------------------------------------------------------------------------------------------------


def read_file(path: Path, data: Data, seed: int) -> Material:
    """A file of prompts, of pairs (`a`, `b`), of HH-RLHF rows (`chosen`, `rejected`), or of ranked or rated `answers`
    (cai/votes.py), told apart by their fields.
    """
    material = Material()
    judged: list[Judgement] = []
    for where, parse in read_rows(path):
        row = parse()
        if not isinstance(row, dict):
            raise UserError("a row must be a JSON object", where, 'for example {"prompt": "..."}')
        if "chosen" in row and "rejected" in row and "prompt" not in row:
            hh_rows([(where, row)], data, seed, material)
            continue
        prompt = row_prompt(row, where, data, seed)
        material.counts["rows read"] += 1
        known = material.prompts.setdefault(prompt.id, prompt)
        if known.messages != prompt.messages:
            raise UserError(f'two different prompts share the id "{prompt.id}"', where, "give each prompt its own id")
        if known != prompt:
            raise UserError("this prompt has another split or subset further up", where, "make its rows agree")
        if any(name in row for name in ("a", "b", "chosen", "rejected")):
            material.add(row_pair(row, prompt, where, seed), where)
        elif "answers" in row:
            answers = answers_of(row, where)
            for one in judgements_of(row, where):
                if isinstance(one, SetAside):
                    material.aside.append(one)
                else:
                    judged.append(_of_answers(one, prompt, answers))
    _add_judged(material, judged, seed)
    if not material.prompts:
        raise UserError("no prompts in this file", str(path), "it needs one JSON object a line")
    return material


def _of_answers(one: Judgement, prompt: Prompt, answers: list[str]) -> Judgement:
    """The same word about the same two answers under one key, whatever their places in the row."""
    i, j = one.key  # pyrefly: ignore
    a, b = sorted((answers[i], answers[j]))
    said = one.said if a == answers[i] else replace(one.said, p_a=1 - one.said.p_a)
    return replace(one, key=(prompt.id, a, b), said=said)


def _add_judged(material: Material, judged: list[Judgement], seed: int) -> None:
    """The pairs that people's rankings, ratings and thumbs make, with who said what."""
    kept, aside = settle(judged)
    for (prompt_id, a, b), said in kept.items():
        votes, raters = [one.p_a for one in said], [one.rater for one in said]
        raters = raters if any(raters) else []
        material.add(make_pair(material.prompts[prompt_id], a, b, share(said), votes, seed, raters))
    material.aside += aside
    material.counts.update(counted(material.aside, "judgements"))
    if judged:
        material.counts["judgements of ranked or rated answers"] += len(judged)


def row_prompt(row: dict, where: str, data: Data, seed: int) -> Prompt:
    """`prompt` may be a text, a list of messages, or one of our own records; `messages` is a list of messages."""
    held = row.get("prompt", row.get("messages"))
    if isinstance(held, dict):
        row, held = held, held.get("messages")
    if isinstance(held, str):
        held = [{"role": "user", "content": held}]
    if not isinstance(held, list) or not held:
        raise UserError("a row needs `prompt` (a text) or `messages` (a list)", where, 'for example {"prompt": "..."}')
    messages = tuple(decode(message, Message, where) for message in held)
    if any(not message.content.strip() for message in messages):
        raise UserError("a message without words", where, "mend or remove this row")
    if messages[-1].role != "user":
        raise UserError("the conversation must end with the user's turn", where, "put answers in `a` and `b`")
    text_id = identity("prompt", *(message.content for message in messages))
    # Beside answers, `id` is the row's: two people's rows on one prompt are one prompt.
    own = None if {"a", "chosen", "answers"} & set(row) else row.get("id")
    prompt_id = str(own or text_id)
    given = {"id": prompt_id, "messages": [asdict(message) for message in messages], "subset": row.get("subset", "all")}
    return decode({**given, "split": row.get("split") or split_of(text_id, data, seed)}, Prompt, where)


def row_pair(row: dict, prompt: Prompt, where: str, seed: int) -> Pair:
    """`a`, `b` and `human`, or `chosen` and `rejected`; all answers are texts."""
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if isinstance(chosen, str) and isinstance(rejected, str):
        return make_pair(prompt, chosen, rejected, 1.0, (1.0,), seed)
    a, b, human = row.get("a"), row.get("b"), row.get("human")
    if not isinstance(a, str) or not isinstance(b, str):
        problem = "a pair needs two answers as texts: `a` and `b`, or `chosen` and `rejected`"
        raise UserError(problem, where, "mend or remove this row")
    if human is not None and (not isinstance(human, (int, float)) or not 0 <= human <= 1):
        raise UserError("`human` must be P(a better), from 0 to 1, or null", where, "1 means that a is better")
    votes = row.get("votes") or ([] if human is None else [human])
    pair_id = str(row.get("id") or identity("pair", prompt.id, a, b))
    given = {"id": pair_id, "prompt": asdict(prompt), "a": a, "b": b, "human": human, "votes": votes}
    pair = decode({**given, "prompted": row.get("prompted"), "raters": row.get("raters") or ()}, Pair, where)
    if a == b:
        raise UserError("both answers are the same", where, "remove this row: there is nothing to compare")
    if pair.prompted is not None and not 0 <= pair.prompted <= 1:
        raise UserError("`prompted` must be P(a better), from 0 to 1, or null", where, "1: a was told to be the better")
    if not all(0 <= vote <= 1 for vote in pair.votes):
        raise UserError("each of `votes` must be P(a better), from 0 to 1", where, "1 means that a is better")
    if len(pair.raters) not in (0, len(pair.votes)):
        raise UserError("`raters` must name who gave each of `votes`", where, "give as many names as votes, or none")
    return pair

"""What SFT learns from, as rows: the last texts of revisions (or of other answers), and a share of everyday answers."""

import math
from dataclasses import dataclass
from typing import Any

from cai.config.sections import Sft
from cai.core.draws import uniform
from cai.core.records import Chat, Prompt, Response, Revision, read_jsonl
from cai.core.store import Artifact
from cai.core.textstats import whole_sentences, wordless
from cai.models.chat import answer_ids, with_system


@dataclass(frozen=True, slots=True)
class Everyday:
    """Helpful prompts and the start model's answers to them; None where nothing helpful is mixed in."""

    prompts: Artifact | None = None
    answers: Artifact | None = None

    def keyed(self) -> dict[str, Any]:
        return {"helpful": self.prompts, "helpful_answers": self.answers}


# The stage that made what is learnt -> what it is; their counts.json and set_aside.jsonl say what was left out.
WORDS = {"take_drafts": "drafts", "take_preferred": "preferred answers", "load_demonstrations": "demonstrations"}


def rows_to_learn(
    tokenizer: Any, revisions: Artifact, everyday: Everyday, system: str | None, settings: Sft, seed: int
) -> tuple[list[dict[str, list[int]]], dict[str, int]]:
    """(what SFT learns an epoch, as `encode` has it; counts). system: the policy's system prompt."""
    revised = [(r.prompt.messages, r.final) for r in read_jsonl(revisions / "revisions.jsonl", Revision)]
    mixed = helpful_rows(everyday, len(revised), settings.helpful, seed)
    rows = [encode(tokenizer, chat, answer, system) for chat, answer in [*revised, *mixed]]
    kept = [row for row in rows if len(row["input_ids"]) <= settings.max_length]
    what = WORDS.get(revisions.stage, "revisions")
    return kept, {what: len(revised), "helpful": len(mixed), "dropped: too long": len(rows) - len(kept)}


def helpful_rows(everyday: Everyday, revised: int, share: float, seed: int) -> list[tuple[Chat, str]]:
    """As many helpful answers as make up `share` of all rows (fewer when there are not so many); none without words."""
    prompts, answers = everyday.prompts, everyday.answers
    if prompts is None or answers is None or share == 0:
        return []
    by_id = {prompt.id: prompt for prompt in read_jsonl(prompts / "prompts.jsonl", Prompt)}
    responses = [row for row in read_jsonl(answers / "responses.jsonl", Response) if not wordless(row.text)]
    responses.sort(key=lambda response: uniform("helpful", seed, response.prompt_id))
    wanted = math.ceil(revised * share / (1 - share))
    texts = [r.text if r.finish == "stop" else whole_sentences(r.text) for r in responses[:wanted]]
    return [(by_id[r.prompt_id].messages, text) for r, text in zip(responses, texts, strict=False)]


def encode(tokenizer: Any, chat: Chat, answer: str, system: str | None) -> dict[str, list[int]]:
    """input_ids of the whole conversation and completion_mask: 1 on the answer and the end of its turn, else 0."""
    chat = with_system(chat, system)
    start, end = answer_ids(tokenizer, chat, answer)
    return {"input_ids": start + end, "completion_mask": [0] * len(start) + [1] * len(end)}

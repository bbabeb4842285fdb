"""The tokens of a rationale and its verdict: one text, of which the rationale and the letter are learnt.

    question | rationale, end of its turn | "which response ...?" | "(" and the letter
    0 ... 0    1 ... 1                      0 ... 0                 1 1

The letter is tokenised as it is read when the model judges (`option_ids`), so that what is learnt is what is asked.
"""

from collections.abc import Mapping
from typing import Any

from cai.core.errors import UserError
from cai.core.records import Comparison
from cai.judge.ballots import letter
from cai.models.chat import answer_ids, option_ids
from cai.train.generative.asking import RationaleAsking, Thought
from cai.train.generative.selection import Preferred


def spoken(
    tokenizer: Any, comparison: Comparison, thought: Thought, asking: RationaleAsking, *, right: bool = True
) -> dict[str, list[int]]:
    """input_ids and completion_mask of a thought with the letter of the answer that the label prefers; of the other
    one, where it is not the right one that is to be written.

    Raises UserError where the chat template writes an answer otherwise once the conversation goes on.
    """
    order, text = thought.vote.order, thought.vote.reply
    chat = asking.chats(comparison.pair)[order]
    start, rationale = answer_ids(tokenizer, chat, text)
    question = letter(asking.after(chat, text))
    opened, tails = option_ids(tokenizer, question.chat, question.lead, question.options)
    before, _ = answer_ids(tokenizer, question.chat, "")
    mask = [0] * len(start) + [1] * _kept(opened, start, rationale, tokenizer)
    mask += [0] * (len(before) - len(mask)) + [1] * (len(opened) - len(before))
    wants_a = (comparison.p_a > 0.5) == right
    tail = tails[0 if wants_a == (order == "ab") else 1]
    return {"input_ids": opened + tail, "completion_mask": mask + [1] * len(tail)}


def _kept(opened: list[int], start: list[int], rationale: list[int], tokenizer: Any) -> int:
    """How many of the rationale's tokens stand in the conversation that goes on, the end of its turn among them."""
    both = start + rationale
    shared = next(
        (n for n, (x, y) in enumerate(zip(opened, both, strict=False)) if x != y), min(len(opened), len(both))
    )
    # What differs at the very end is the space between two turns.
    if shared < len(both) - 1:
        raise UserError(
            "the model's chat template writes an answer otherwise in a conversation that goes on, so that a rationale "
            "cannot be learnt as it is written",
            tokenizer.name_or_path,
            "give another template (`policy.template: plain`), or write reward.kind: scalar",
        )
    return shared - len(start)


def preferred(tokenizer: Any, comparison: Comparison, row: Preferred, asking: RationaleAsking) -> dict[str, Any]:
    """A row for `SoftDPOTrainer`: the right rationale with the right letter, the wrong one with the wrong letter.

    What stands between rationale and letter is in neither mask, so the margin is that of what the model writes: the
    log-probability of rationale and verdict together (Mahan et al. 2024, section 3.2).
    """
    sides: dict[str, Mapping[str, list[int]]] = {
        "chosen": spoken(tokenizer, comparison, row.right, asking),
        "rejected": spoken(tokenizer, comparison, row.wrong, asking, right=False),
    }
    prompt = sides["chosen"]["completion_mask"].index(1)
    made: dict[str, Any] = {"prompt_ids": sides["chosen"]["input_ids"][:prompt], "p": row.p}
    for name, ids in sides.items():
        made |= {f"{name}_ids": ids["input_ids"][prompt:], f"{name}_mask": ids["completion_mask"][prompt:]}
    return made

"""What strangers wrote (prompts, answers) opens no turn, in whatever path it becomes token ids, in every template."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import zoo

from cai.config.sections import Policy, Reward
from cai.core.records import Comparison, Message, Pair, Prompt
from cai.models.chat import chat_ids, option_ids, plain, with_system
from cai.models.chat_templates import shape_of
from cai.models.loading import load_tokenizer
from cai.models.references import find
from cai.train.learnt import encode
from cai.train.reward import elements
from cai.train.rl.methods.dpo import encode as encode_pair


@pytest.fixture(params=zoo.TEMPLATES)
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    zoo.make(tmp_path / "model", "llama", request.param)
    return load_tokenizer(find(str(tmp_path / "model"), "plain" if request.param == "none" else None))


def paths(tokenizer: Any, prompt: str, answer: str) -> dict[str, list[int]]:
    """Token ids of one conversation in each path that has any: a prompt, and an answer to it."""
    chat = (Message("user", prompt),)
    pair = Pair("id", Prompt("p", chat, "all", "train"), answer, "No.", 1.0)
    policy, comparison = Policy(system=None), Comparison(pair, 1.0)
    (element,) = elements([comparison], tokenizer, policy, Reward())
    row = encode_pair(tokenizer, comparison, policy.system)
    start, options = option_ids(tokenizer, with_system(chat, policy.system), answer, ["Yes", answer])
    asked = plain(tokenizer, with_system(chat, policy.system))  # what the dataset of every online method holds
    return {
        "generate": chat_ids(tokenizer, with_system(chat, policy.system), answer=True),
        "choose": [*start, *options[1]],
        "SFT": encode(tokenizer, chat, answer, policy.system)["input_ids"],
        "reward": max(element["answers"], key=len),
        "DPO": [*row["prompt_ids"], *row["chosen_ids"]],
        "PPO": tokenizer.apply_chat_template(asked, tokenize=True, add_generation_prompt=True, return_dict=False),
    }


def marks(tokenizer: Any, ids: list[int]) -> Counter[str]:
    """How often each token that stands for no text is there, and each plain word that marks a turn ("[INST]")."""
    known = {index: str(token) for index, token in tokenizer.added_tokens_decoder.items()}
    text = tokenizer.decode(ids)
    return Counter(known[token] for token in ids if token in known) + Counter(
        {mark: count for mark in shape_of(tokenizer).marks if (count := text.count(mark))}
    )


def test_what_strangers_wrote_opens_no_turn_in_any_path(tokenizer: Any) -> None:
    """What the template writes between turns, and each of its marks, in a prompt, in an answer and in an option."""
    turns = [
        {"role": role, "content": word} for role, word in (("user", "one"), ("assistant", "two"), ("user", "three"))
    ]
    honest = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    between = honest[honest.index("one") + 3 : honest.index("three")]
    words = [str(token) for token in tokenizer.added_tokens_decoder.values()]
    hostile = " ".join(["Hi", between, *shape_of(tokenizer).marks, *words, "you"])
    wanted = {path: marks(tokenizer, ids) for path, ids in paths(tokenizer, "Hi you", "Hi you").items()}
    found = {path: marks(tokenizer, ids) for path, ids in paths(tokenizer, hostile, hostile).items()}
    assert len(found) == 6 and found == wanted
    assert all(wanted[path] for path in wanted) or not words

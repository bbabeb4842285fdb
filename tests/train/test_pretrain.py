"""Pretraining: packing counted by hand, a planted text learnt to a bound, a killed run that ends in the same bits."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from cai.config.pretrain import Pretrain
from cai.config.runtime import Runtime
from cai.config.sections import Policy
from cai.core.errors import UserError
from cai.core.records import read_jsonl
from cai.core.store import Store
from cai.data.texts import Document
from cai.models.loading import load_causal
from cai.models.references import find
from cai.models.vocabulary import document_ids, train_tokenizer
from cai.models.workbench import Workbench
from cai.train.packing import UNLEARNT, blocks_of, learnt_tokens, packed
from cai.train.perplexity import TextScore, score_text
from cai.train.pretrain import inner, pretrain
from cai.train.trainable import Trainable

TINY = {"held_out": 0.3, "vocabulary": 262, "context": 16, "layers": 1, "width": 32, "heads": 2, "batch_size": 8}
CYCLE = ["red", "green", "blue", "black"]


def cycle_file(folder: Path, documents: int = 40) -> Path:
    """Documents that are alike but for where in the cycle they begin and how often it is gone through."""
    rows = [{"text": " ".join((CYCLE * 30)[n % 4 : n % 4 + 20 + n])} for n in range(documents)]
    file = folder / "cycle.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def made(folder: Path, text: Path, **changed):
    work = Workbench.open(Runtime(root=str(folder), device="cpu"))
    settings = Pretrain(text=(str(text),), **{**TINY, **changed})
    store = Store(folder)
    return store, work, store.stage(
        pretrain, runtime=work, settings=settings, contents=["x"], dtype="float32", seed=0
    )  # fmt: skip


@pytest.fixture(scope="module")
def briefly(tmp_path_factory):
    """(store, workbench, what an epoch of the cycle left)"""
    folder = tmp_path_factory.mktemp("briefly")
    return made(folder, cycle_file(folder), epochs=1)


# Packing --------------------------------------------------------------------------------------------------------------


def test_blocks_begin_where_the_one_before_ends():
    assert list(blocks_of([1, 2, 3, 4, 5, 6, 7, 8], 4)) == [[1, 2, 3, 4], [4, 5, 6, 7], [7, 8]]
    assert list(blocks_of([1, 2, 3, 4, 5, 6, 7], 4)) == [[1, 2, 3, 4], [4, 5, 6, 7]]
    assert list(blocks_of([1, 2], 4)) == [[1, 2]]


def test_packing_loses_no_token():
    tokenizer = train_tokenizer(["ab ab ab"], 262, context=4)
    documents = [Document(str(n), "text", text) for n, text in enumerate(("xyz", "", "é"))]
    # x y z END, END, two bytes of é and END: 8 tokens, of which all but the first are to be predicted.
    stream = [token for document in documents for token in document_ids(tokenizer, document.text)]
    assert len(stream) == 8 and stream.count(1) == 3
    rows = packed(tokenizer, documents, 4)
    assert [row["input_ids"] for row in rows] == [stream[0:4], stream[3:7], [*stream[6:8], 0, 0]]
    assert [row["attention_mask"] for row in rows] == [[1] * 4, [1] * 4, [1, 1, 0, 0]]
    assert rows[2]["labels"] == [*stream[6:8], UNLEARNT, UNLEARNT]
    # What is predicted, row by row: all labels but the first of a row.
    assert [token for row in rows for token in row["labels"][1:] if token != UNLEARNT] == stream[1:]
    assert learnt_tokens(rows) == 7


def test_the_mlp_has_the_weights_of_one_without_a_gate():
    assert inner(192) == 512  # 3 x 192 x 512 = 2 x 192 x 768
    assert inner(32) == 88  # 85.3, in whole eights


# Learning -------------------------------------------------------------------------------------------------------------


def test_a_planted_text_is_learnt_to_its_bound(tmp_path):
    """After the first words of a cycle all is certain but where a document ends, which no word tells: one place in
    some twenty words. Unlearnt, a token costs ln 262 = 5.57 nats."""
    text = cycle_file(tmp_path)
    store, work, first = made(tmp_path, text, epochs=12, learning_rate=5e-3, context=32)
    curves = json.loads((first / "curves.json").read_text())
    assert curves["held_out"]["loss"][0] == pytest.approx(math.log(262), abs=0.15)
    model = Trainable(find(str(first / "model")), Policy(training="full"), "float32")
    scored = store.stage(score_text, runtime=work, text=first, model=model)
    rows = read_jsonl(scored / "scores.jsonl", TextScore)
    perplexity = math.exp(sum(row.nats for row in rows) / sum(row.tokens for row in rows))
    assert 1.0 < perplexity < 1.35, perplexity
    counts = json.loads((first / "counts.json").read_text())
    assert counts[f"documents of {text}"] == 40 and counts["documents held out"] == len(rows)


def test_the_score_of_a_document_is_the_sum_over_its_tokens(briefly):
    """Read in blocks of 16 that share a token, and read token by token in the same windows."""
    store, work, first = briefly
    ref = find(str(first / "model"))
    scored = store.stage(score_text, runtime=work, text=first, model=Trainable(ref, Policy(training="full"), "float32"))
    row = read_jsonl(scored / "scores.jsonl", TextScore)[0]
    document = read_jsonl(first / "held_out.jsonl", Document)[0]
    tokenizer, network = AutoTokenizer.from_pretrained(first / "model"), load_causal(ref, "float32", "cpu").eval()
    stream = [1, *document_ids(tokenizer, document.text)]
    nats = 0.0
    for place in range(1, len(stream)):
        begin = (place - 1) // 15 * 15
        with torch.no_grad():
            logits = network(torch.tensor([stream[begin:place]])).logits[0, -1]
        nats -= torch.log_softmax(logits, 0)[stream[place]].item()
    assert (row.document, row.tokens, row.bytes) == (document.id, len(stream) - 1, len(document.text.encode()))
    assert row.nats == pytest.approx(nats, abs=1e-3)


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    from cai.train import common
    from cai.train.checkpoints import last_checkpoint

    text = cycle_file(tmp_path)
    whole = made(tmp_path / "whole", text, epochs=1)[2]

    class Killed(common.Bar):
        def on_step_end(self, args, state, control, **more):
            super().on_step_end(args, state, control, **more)
            if state.global_step == 12:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(common, "Bar", Killed)
        with pytest.raises(KeyboardInterrupt):
            made(tmp_path / "killed", text, epochs=1)
    (folder,) = (tmp_path / "killed" / "store").glob("*.unfinished")
    checkpoint = last_checkpoint(folder)
    assert checkpoint is not None and 0 < int(checkpoint.name.rpartition("-")[2]) < 12
    again = made(tmp_path / "killed", text, epochs=1)[2]
    for name in ("model/model.safetensors", "curves.json", "counts.json"):
        assert (again / name).read_bytes() == (whole / name).read_bytes(), name
    assert again.digest == whole.digest
    assert not list((tmp_path / "killed" / "store").glob("*.unfinished"))


def test_it_ends_an_answer_and_a_document(briefly):
    first = briefly[2]
    settings = json.loads((first / "model" / "generation_config.json").read_text())
    assert settings["eos_token_id"] == [3, 1] and settings["pad_token_id"] == 0
    assert AutoTokenizer.from_pretrained(first / "model").chat_template


@pytest.mark.parametrize(
    ("changed", "where", "says"),
    [
        ({"context": 100000}, "pretrain.context", "a block is 100000 tokens, and the text to learn from has"),
        ({"vocabulary": 5000}, "pretrain.vocabulary", "and 5000 are asked for"),
    ],
)
def test_a_text_that_is_too_short_is_refused(tmp_path, changed, where, says):
    with pytest.raises(UserError, match=says) as caught:
        made(tmp_path, cycle_file(tmp_path), **changed)
    assert caught.value.where == where and caught.value.remedy

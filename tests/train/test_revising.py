"""What a model is shown when it criticises and revises: by itself, after worked rounds, by another model."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from test_stages import Bench, Talker, artifact, prompt

from cai.config.sections import Policy, Revise
from cai.constitution import Revising, read_constitution
from cai.core.errors import UserError
from cai.core.records import Message, Revision, read_jsonl
from cai.core.store import digest_of, keyed
from cai.models.engines import Reply
from cai.models.references import ModelRef, find
from cai.train.revise import revise, revising
from cai.train.revising import RevisedBy, RevisionTask, critique_chat, read_examples, revision_chat, wording_of
from cai.train.trainable import Trainable

KIND = Revising("kind", "Say what is unkind.", "Rewrite it kindly.", "", (), 1.0)
TASK = RevisionTask("p1", (Message("user", "Why?"),), "Because.", KIND)
SHIPPED = "prompts/examples/revise.jinja"


def turns(chat) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in chat]


def test_by_itself_the_draft_and_the_criticism_stand_in_the_system_turn():
    wording = wording_of(Revise())
    (system, user) = revision_chat(wording, TASK, "Too short.")
    assert (system.role, user) == ("system", Message("user", "Why?"))
    assert "Draft: Because." in system.content and "Criticism: Too short." in system.content
    assert [turn.role for turn in critique_chat(wording, TASK)] == ["system", "user", "assistant", "user"]


def test_after_worked_rounds_the_conversation_goes_on_as_in_the_paper(tmp_path):
    file = tmp_path / "rounds.jinja"
    words = ["RevisionTask", "Draft", "Criticise", "Critique", "Revise", "Revision"]
    file.write_text("".join(f"## {('user', 'assistant')[i % 2]}\n{word}\n\n" for i, word in enumerate(words)))
    wording = wording_of(Revise(examples=str(file)))
    shown = [(("user", "assistant")[i % 2], word) for i, word in enumerate(words)]
    asked = turns(critique_chat(wording, TASK))
    request = "Say what is unkind.\n\nWrite only the critique, in a few sentences."
    assert asked[0][0] == "system" and asked[1:7] == shown
    assert asked[7:] == [("user", "Why?"), ("assistant", "Because."), ("user", request)]
    revised = turns(revision_chat(wording, TASK, "Too short."))
    last = "Rewrite it kindly. Write only the new response to the human."
    assert revised == [*asked, ("assistant", "Too short."), ("user", last)]

    # Without critiques the examples have none either.
    direct = wording_of(Revise(examples=str(file), critique=False))
    conversation = [("user", "Why?"), ("assistant", "Because."), ("user", last)]
    assert turns(revision_chat(direct, TASK, "")) == [*shown[:2], *shown[4:], *conversation]
    short = RevisionTask("p1", TASK.conversation, TASK.answer, Revising("x", "", "", "The response is kind.", (), 1.0))
    assert "follows this principle: The response is kind." in revision_chat(direct, short, "")[-1].content


def test_a_system_turn_of_the_conversation_stays_the_first(tmp_path):
    task = RevisionTask("p1", (Message("system", "Be brief."), Message("user", "Why?")), "Because.", KIND)
    for critique in (True, False):
        chat = revision_chat(wording_of(Revise(examples=SHIPPED, critique=critique)), task, "Too short.")
        assert [turn.role for turn in chat].count("system") == 1 and "Be brief." in chat[0].content
        assert all(one.role != two.role for one, two in pairwise(chat))


def test_the_shipped_rounds_are_whole_and_ask_for_different_things():
    chat = read_examples(SHIPPED)
    assert len(chat) == 6 * 6
    requests = [chat[place].content for place in range(4, 36, 6)]
    assert len(set(requests)) == 6
    # In the words of the templates, so that what is shown is what is asked.
    assert all(chat[i].content.endswith("Write only the critique, in a few sentences.") for i in range(2, 36, 6))
    assert all(request.endswith("Write only the new response to the human.") for request in requests)


def test_half_a_round_is_said_with_its_number(tmp_path):
    file = tmp_path / "half.jinja"
    file.write_text("## user\nAsk\n\n## assistant\nDraft\n")
    with pytest.raises(UserError, match="worked round 1 is not: user, assistant, user, assistant, user, assistant"):
        wording_of(Revise(examples=str(file)))
    with pytest.raises(UserError, match="no such template"):
        wording_of(Revise(examples="gone.jinja"))


def test_another_model_revises_the_policys_drafts(tmp_path):
    drafts = Talker(lambda request, title: Reply(f"draft by the policy of {request.chat[-1].content}", "stop"))
    second = Talker(lambda request, title: Reply(f"{title} by the other", "stop"))

    class Two(Bench):
        def engine(self, source, *, dtype, system):
            return {"policy": drafts, "other": second}[source.name]

    data, out = artifact(tmp_path / "data", prompts=[prompt("one")]), tmp_path / "out"
    out.mkdir()
    by = replace(RevisedBy.of(Revise(rounds=1, examples=SHIPPED), 0), reviser=ModelRef("other", "", "other"))
    start = Trainable(ModelRef("policy", "", "policy"), Policy(), "float32")
    revise(out, Two(None), data=data, split="train", start=start, principles=(KIND,), by=by)  # pyrefly: ignore
    (trace,) = read_jsonl(out / "revisions.jsonl", Revision)
    assert trace.draft == "draft by the policy of Question one?"
    assert [one.revision for one in trace.rounds] == ["revisions 1 by the other"]
    assert len(drafts.asked) == 1 and len(second.asked) == 2
    assert second.asked[1].chat[1].content == read_examples(SHIPPED)[0].content
    assert json.loads((out / "counts.json").read_text())["revised"] == 1


def test_a_reviser_and_examples_are_in_the_key_only_where_there_are_some():
    law = read_constitution("constitutions/quickstart.txt")
    words = {"settings", "seed", "critique", "revision"}
    assert set(keyed(revising(law, Revise(), 0))) == {"principles", *words}
    assert keyed(revising(law, Revise(model="tiny-random"), 0))["reviser"] == find("tiny-random")
    assert set(RevisedBy.of(Revise(examples=SHIPPED), 0).keyed()) == {*words, "examples"}
    more = Revise(model="tiny-random", examples=SHIPPED, audit=8)
    assert digest_of(more) == digest_of(Revise())  # the stages are given what these stand for

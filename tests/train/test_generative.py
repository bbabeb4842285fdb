"""A generative reward model: votes, the choice of rationales, what is learnt of them, and whether they are read."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedJudge
from test_stages import Bench, artifact

from cai.config.sections import Policy, Reward
from cai.constitution import Judging, read_constitution
from cai.core.errors import UserError
from cai.core.odds import logit
from cai.core.records import Comparison, Label, Message, Pair, Prompt, Response, Vote, read_jsonl
from cai.core.templates import load_template
from cai.data.comparisons import Item
from cai.judge.items import ItemChoice
from cai.models.engines import Reply, Sampling
from cai.models.loading import load_tokenizer
from cai.models.references import ModelRef
from cai.train.generative.asking import GenerativeReader, RationaleAsking, Thought, deliberate, voted
from cai.train.generative.comparing import Deliberated, Swap, compare_items, compare_pairs
from cai.train.generative.picking import GenerativePicker, marks, respond_compared, score_beside
from cai.train.generative.selection import letter_liking, preferences, right_ones
from cai.train.generative.stages import RationaleTraining, nothing_right
from cai.train.generative.written import preferred, spoken
from cai.train.scores_file import Score
from cai.train.trainable import Draws, Labelled, PromptSet, Trainable

MODEL = Trainable(ModelRef("m", "", "m"), Policy(), "float32", role="reward")


def asking(samples: int = 2, max_length: int = 10_000, tokens: int = 16) -> RationaleAsking:
    return RationaleAsking(
        principles=(Judging("kind", "Choose the kind response.", (), 1.0),),
        templates={name: load_template(name) for name in ("reason", "verdict")}, sampling=Sampling(tokens, 1.0),
        samples=samples, min_mass=0.0, max_length=max_length, seed=0,
    )  # fmt: skip


def pair(name: str, a: str = "Yes.", b: str = "No.", split: Any = "test", subset: str = "crime", **more: Any) -> Pair:
    prompt = Prompt(f"q-{name}", (Message("user", f"Question {name}?"),), subset, split)
    return Pair(name, prompt, a, b, **more)


def vote(order: str, p_first: float, fault: str = "", reply: str = "A thought.") -> Vote:
    """p_first: P(A) of (A) and (B)."""
    logprobs = (math.log(p_first), math.log(1 - p_first))
    p_a = p_first if order == "ab" else 1 - p_first
    return Vote("reason", "kind", order, p_a, 1.0, logprobs, fault, reply)


def thought(name: str, order: str, p_first: float, number: int = 0, **more: Any) -> Thought:
    return Thought(name, number, vote(order, p_first, **more))


# 1. Votes -------------------------------------------------------------------------------------------------------------


def test_probabilities_of_an_order_are_averaged_and_then_the_log_odds_of_both():
    """ab: (0.9 + 0.5) / 2 = 0.7 for a. ba: b is (A), and a has 0.4 and 0.2: 0.3. In log-odds they cancel."""
    four = [vote("ab", 0.9), vote("ab", 0.5), vote("ba", 0.6), vote("ba", 0.8)]
    assert voted(four) == pytest.approx(0.0)
    # ab alone 0.7, ba 0.5: half of log(7/3) = 0.8473.
    assert voted([*four[:2], vote("ba", 0.5)]) == pytest.approx(0.8472979 / 2)


def test_a_liking_for_a_letter_cancels():
    assert voted([vote("ab", 0.95), vote("ba", 0.95)]) == pytest.approx(0.0)


def test_what_cannot_be_read_has_no_vote():
    read = [vote("ab", 0.9), vote("ab", 0.1, fault="the judge repeated itself"), vote("ba", 0.1)]
    assert voted(read) == pytest.approx(logit(0.9))
    assert voted(read[:2]) is None and voted([]) is None


# 2. Which rationales are learnt from ----------------------------------------------------------------------------------


def by_logit(name: str, order: str, odds: float, number: int = 0) -> Thought:
    return thought(name, order, 1 / (1 + math.exp(-odds)), number)


# A model that likes (A) by 2 nats: whatever it thinks, it says (A). Its thoughts move it by half a nat.
SAYS_A = [
    by_logit("p", "ab", 2.5, 0), by_logit("p", "ab", 1.5, 1), by_logit("p", "ba", 2.5, 0), by_logit("p", "ba", 1.5, 1),
]  # fmt: skip


def test_what_it_likes_of_a_letter_is_taken_out_before_a_verdict_is_called_right():
    assert letter_liking(SAYS_A) == pytest.approx(2.0)
    right, counts = right_ones(SAYS_A, {"p": 1.0})  # a is better: (A) in ab, and (B) in ba
    assert [(one.vote.order, one.number) for one in right] == [("ab", 0), ("ba", 1)]
    right, _ = right_ones(SAYS_A, {"p": 0.2})
    assert [(one.vote.order, one.number) for one in right] == [("ab", 1), ("ba", 0)]
    assert counts["rationales drawn"] == 4 and counts["rationales that led to the right verdict"] == 2


def test_without_both_orders_nothing_is_taken_out():
    assert letter_liking(SAYS_A[:2]) == 0.0


def test_pairs_without_a_right_rationale_are_dropped_and_counted():
    thoughts = [
        thought("good", "ab", 0.9), thought("good", "ba", 0.1),
        thought("bad", "ab", 0.1), thought("bad", "ba", 0.9),
        thought("tie", "ab", 0.9), thought("tie", "ba", 0.1),
        thought("mute", "ab", 0.9, fault="the judge refused to reason"), thought("mute", "ba", 0.1, fault="too long"),
    ]  # fmt: skip
    right, counts = right_ones(thoughts, {"good": 1.0, "bad": 1.0, "tie": 0.5, "mute": 1.0, "long": 1.0})
    assert [one.pair_id for one in right] == ["good", "good"]
    assert counts == {
        "training pairs labelled": 5,
        "dropped: label without a side": 1,
        "dropped: longer than reward.max_length": 1,
        "dropped: no rationale led to the right verdict": 2,
        "rationales drawn": 8,
        "rationales that cannot be read": 2,
        "rationales that led to the right verdict": 2,
    }


def test_right_against_wrong_of_the_same_order_each_once():
    thoughts = [
        *(thought("p", "ab", p, n) for n, p in enumerate((0.9, 0.1, 0.8, 0.7))),  # right, wrong, right, right
        *(thought("p", "ba", p, n) for n, p in enumerate((0.2, 0.1, 0.2, 0.1))),  # all right
        *(thought("q", "ab", p, n) for n, p in enumerate((0.9, 0.9, 0.1, 0.1))),  # b is better: 2 wrong, 2 right
        *(thought("q", "ba", p, n) for n, p in enumerate((0.5, 0.9, 0.9, 0.9))),
    ]
    liking = letter_liking(thoughts)
    assert abs(liking) < 0.3, "so small that it turns no verdict but the one at one half"
    rows, counts = preferences(thoughts, {"p": 0.8, "q": 0.0})
    assert [(r.right.pair_id, r.right.vote.order, r.right.number, r.wrong.number, r.p) for r in rows] == [
        ("p", "ab", 0, 1, 0.8), ("q", "ab", 2, 0, 1.0), ("q", "ab", 3, 1, 1.0), ("q", "ba", 1, 0, 1.0),
    ]  # fmt: skip
    assert counts == {
        "DPO: rationales drawn": 16,
        "DPO: right against wrong": 4,
        "DPO: orders of a pair whose rationales are all right or all wrong": 1,
    }


def test_nothing_right_says_why():
    settings = RationaleTraining(1, 8, 1e-4, 384, 0.1)
    _, counts = right_ones([], {"p": 1.0})
    assert "none of 1 labelled training pairs fits" in str(nothing_right(counts, settings))
    _, counts = right_ones([thought("p", "ab", 0.1), thought("p", "ba", 0.9)], {"p": 1.0})
    error = nothing_right(counts, settings)
    assert "none of 2 rationales led to the right verdict (0 cannot be read)" in str(error) and "draws" in error.remedy


def test_subsets_are_those_of_training_pairs(tmp_path):
    rows = [pair("one", split="train"), pair("two", split="train", subset="fraud"), pair("three", subset="fraud")]
    made = artifact(tmp_path, pairs=rows, labels=[Label(row.id, 1.0, "human") for row in rows])
    labelled = Labelled((made,), (made,))
    assert [row.pair.id for row in labelled.comparisons(())] == ["one", "two"]
    assert [row.pair.id for row in labelled.comparisons(("fraud",))] == ["two"]
    with pytest.raises(UserError) as error:
        labelled.comparisons(("fruad",))
    assert error.value.remedy == 'did you mean "fraud"?'


# 3. What is learnt of them --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("p_a", "order", "letter"), [(1, "ab", "A"), (1, "ba", "B"), (0.1, "ab", "B"), (0, "ba", "A")])
def test_the_rationale_and_the_right_letter_are_learnt_and_nothing_else(tiny, p_a, order, letter):
    tokenizer = load_tokenizer(tiny)
    one = thought("p", order, 0.5, reply="It is kinder.")
    row = spoken(tokenizer, Comparison(pair("p"), p_a), one, asking())
    assert len(row["input_ids"]) == len(row["completion_mask"])
    learnt = [token for token, on in zip(row["input_ids"], row["completion_mask"], strict=True) if on]
    text = tokenizer.decode(learnt, skip_special_tokens=True)
    assert text.replace("\n", "") == f"It is kinder.({letter}"
    assert tokenizer.eos_token_id in learnt, "where a rationale ends is learnt, too"
    whole = tokenizer.decode(row["input_ids"])
    assert whole.index("Response (A): " + ("Yes." if order == "ab" else "No.")) < whole.index("It is kinder.")


def test_right_against_wrong_share_the_question_and_differ_in_rationale_and_letter(tiny):
    from cai.train.dpo_trainer import SoftPairCollator

    tokenizer = load_tokenizer(tiny)
    thoughts = [thought("p", "ab", 0.9, 0, reply="Kind."), thought("p", "ab", 0.1, 1, reply="Unkind.")]
    (row,), _ = preferences([*thoughts, thought("p", "ba", 0.5)], {"p": 0.9})
    made = preferred(tokenizer, Comparison(pair("p"), 0.9), row, asking())
    assert made["p"] == 0.9

    def marked(side: str) -> str:
        ids = [i for i, on in zip(made[f"{side}_ids"], made[f"{side}_mask"], strict=True) if on]
        return tokenizer.decode(ids, skip_special_tokens=True).replace("\n", "")

    assert (marked("chosen"), marked("rejected")) == ("Kind.(A", "Unkind.(B")
    batch = SoftPairCollator(tokenizer.pad_token_id)([made, made])
    counted = batch["completion_mask"].sum(1).tolist()
    assert counted == [sum(made["chosen_mask"])] * 2 + [sum(made["rejected_mask"])] * 2
    start = len(made["prompt_ids"])
    assert batch["completion_mask"][0, :start].sum() == 0
    first = batch["completion_mask"][0, start : start + len(made["chosen_mask"])].tolist()
    assert first == made["chosen_mask"]


# 4. Asked, and swapped ------------------------------------------------------------------------------------------------


class Mind(ScriptedJudge):
    """A made model. It writes which answer has a mark, and its verdict rests on what it wrote, or on the question."""

    def __init__(self, *, reads: bool) -> None:
        def script(question: Any) -> tuple[float, ...]:
            asked, written = question.chat[1].content, question.chat[2].content
            first = "First" in written if reads else marked_first(asked)
            return (math.log(0.9), math.log(0.1)) if first else (math.log(0.1), math.log(0.9))

        def says(request: Any, number: int) -> str:
            return "First." if marked_first(request.chat[1].content) else "Second."

        super().__init__(script, says)

    def prompt_ids(self, chat: Any) -> list[int]:
        return [0] * sum(len(message.content) for message in chat)


def marked_first(text: str) -> bool:
    return text.index("!") < text.index("Response (B)")


PAIRS = [pair(str(n), *(("Yes!", "No.") if n % 2 else ("Yes.", "No!")), human=float(n % 2)) for n in range(8)]


def compared(tmp_path: Path, reads: bool, samples: int = 2) -> Path:
    pairs, out = artifact(tmp_path / "pairs", pairs=PAIRS), tmp_path / "out"
    out.mkdir()
    mind = Mind(reads=reads)
    work: Any = Bench(mind)
    compare_pairs(out, work, pairs=pairs, reader=GenerativeReader(MODEL, asking(samples), 0))
    return out


@pytest.mark.parametrize("reads", [True, False])
def test_the_verdict_moves_with_anothers_rationale_only_where_it_is_read(tmp_path, reads):
    """Half of the pairs have the mark first in each order. The one that reads follows the other's rationale all the way
    (0.9 to 0.1 where the two differ), the one that does not stays."""
    swaps = read_jsonl(compared(tmp_path, reads) / "swaps.jsonl", Swap)
    assert len(swaps) == 8 * 2 * 2 and all(row.pair_id != row.donor for row in swaps)
    assert all(row.swapped == pytest.approx(row.other if reads else row.own) for row in swaps)
    assert any(row.other != pytest.approx(row.own) for row in swaps), "some rationales say otherwise"
    assert all(row.again == row.own for row in swaps), "it always thinks the same of a pair"


def test_verdicts_stand_where_a_scalar_reward_model_leaves_its_scores(tmp_path):
    out = compared(tmp_path, True)
    verdicts = read_jsonl(out / "verdicts.jsonl", Deliberated)
    assert [row.p_a for row in verdicts] == pytest.approx([0.1, 0.9] * 4)
    scores = read_jsonl(out / "scores.jsonl", Score)
    a, b = scores[2].reward, scores[3].reward
    assert a is not None and b is not None and a - b == pytest.approx(math.log(9)) and a == -b
    assert json.loads((out / "counts.json").read_text())["held-out pairs without a verdict"] == 0
    assert [len(row.thoughts) for row in verdicts] == [4] * 8


def test_one_sample_has_no_other_of_its_own(tmp_path):
    assert {row.again for row in read_jsonl(compared(tmp_path, True, samples=1) / "swaps.jsonl", Swap)} == {None}


def test_pairs_of_one_prompt_have_nobody_to_swap_with(tmp_path):
    one = PAIRS[0].prompt
    pairs = artifact(tmp_path / "pairs", pairs=[Pair(name, one, "Yes!", "No.") for name in "xy"])
    work: Any = Bench(Mind(reads=True))
    compare_pairs(tmp_path, work, pairs=pairs, reader=GenerativeReader(MODEL, asking(), 0))
    assert read_jsonl(tmp_path / "swaps.jsonl", Swap) == []
    assert [row.swapped for row in read_jsonl(tmp_path / "verdicts.jsonl", Deliberated)] == [None, None]


def test_draws_are_nested_and_what_is_too_long_is_not_asked():
    mind = Mind(reads=True)
    deliberate(mind, PAIRS[:1], asking(3), seed=5, title="t")
    seeds = [request.seed for request in mind.requests]
    assert len(set(seeds)) == 6
    deliberate(mind, PAIRS[:1], asking(2), seed=5, title="t")
    assert [request.seed for request in mind.requests[6:]] == [*seeds[:2], *seeds[3:5]]
    long = pair("long", a="Yes! " * 5000)
    before = len(mind.requests)
    none, some = deliberate(mind, [long, PAIRS[0]], asking(1), seed=0, title="t")
    assert none == () and len(some) == 2 and len(mind.requests) == before + 2


def test_comparisons_that_people_have_decided(tmp_path):
    items = artifact(tmp_path / "items", items=[Item(each, None, each.id, "f:1") for each in PAIRS[:2]])
    work: Any = Bench(Mind(reads=True))
    compare_items(tmp_path, work, items=items, reader=GenerativeReader(MODEL, asking(), 0))
    assert [row.p_a for row in read_jsonl(tmp_path / "opinions.jsonl", ItemChoice)] == pytest.approx([0.1, 0.9])


# 5. Answers -----------------------------------------------------------------------------------------------------------


def test_the_best_of_several_is_the_one_that_wins_most():
    """Of three answers the first beats the second by 0.8 and the third by 0.6; of second and third there is no verdict.
    Two of the same words are a tie."""
    drawn = [[Reply(text, "stop") for text in "abc"], [Reply("x", "stop")] * 2, [Reply("y", "stop")], []]
    odds = {(0, 0, 1): logit(0.8), (0, 0, 2): logit(0.6), (0, 1, 2): None}
    first, tie, alone, none = marks(drawn, odds)
    assert first == pytest.approx([0.7, 0.2, 0.4])
    assert (tie, alone, none) == ([0.5, 0.5], [None], [])


def test_an_answer_that_no_verdict_is_about_has_no_mark():
    assert marks([[Reply("a", "stop"), Reply("b", "stop")]], {(0, 0, 1): None}) == [[None, None]]


def test_it_picks_what_it_prefers(tmp_path):
    class Writer(Mind):
        def generate(self, requests, sampling, title):
            if "answers" not in title:
                return super().generate(requests, sampling, title)
            return [Reply("Yes." if number < 2 else "Yes!", "stop") for number in range(len(requests))]

    data = artifact(tmp_path / "data", prompts=[each.prompt for each in PAIRS[:2]])
    work: Any = Bench(Writer(reads=True))
    prompts, draws = PromptSet(data, "test"), Draws(Sampling(4), 0)
    picker = GenerativePicker(GenerativeReader(MODEL, asking(), 0), 2)
    respond_compared(tmp_path, work, prompts=prompts, model=MODEL, picker=picker, draws=draws)
    assert [row.text for row in read_jsonl(tmp_path / "responses.jsonl", Response)] == ["Yes!", "Yes!"]
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert (counts["drawn"], counts["prompts whose first answer is the best"]) == (4, 0)


def test_a_score_is_the_log_odds_of_beating_the_answer_beside_it(tmp_path):
    prompts = [each.prompt for each in PAIRS[:4]]
    texts = {"answers": ["Yes!", "Yes.", "Same.", "Yes!"], "beside": ["No.", "No!", "Same."]}
    made = {
        name: artifact(
            tmp_path / name,
            responses=[Response(p.id, text, "m", "stop") for p, text in zip(prompts, rows, strict=False)],
        )
        for name, rows in texts.items()
    }
    work: Any = Bench(Mind(reads=True))
    data, reader = artifact(tmp_path / "data", prompts=prompts), GenerativeReader(MODEL, asking(), 0)
    score_beside(tmp_path, work, prompts=data, answers=made["answers"], beside=made["beside"], reader=reader)
    rewards = [row.reward for row in read_jsonl(tmp_path / "scores.jsonl", Score)]
    assert rewards[:3] == pytest.approx([math.log(9), -math.log(9), 0.0]) and rewards[3] is None


def test_without_words_to_ask_by_it_is_refused(tmp_path):
    file = tmp_path / "checks.txt"
    file.write_text("# Checks\n\n## short\n\nCheck: at most 60 words\n")
    with pytest.raises(UserError, match="no principle in words"):
        RationaleAsking.of(Reward(kind="generative"), read_constitution(str(file)), 0, samples=2)


def test_what_a_key_says_of_how_it_is_asked():
    """A record of its own: the reward section of a scalar model holds none of it."""
    assert {"samples", "sampling", "templates", "judging", "max_length"} <= asking().keyed().keys()
    assert Reward().model_dump(by_alias=True).keys() == {"group", "epochs", "learning_rate", "batch_size", "max_length"}

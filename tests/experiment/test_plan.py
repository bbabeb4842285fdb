"""What a plan knows of time: earlier stages of the store, the shipped table, and what it says where neither tells."""

import json
from pathlib import Path

import pytest

from cai.core.store import Artifact, digest_of
from cai.experiment.plan import Plan, print_sum
from cai.experiment.timings import Expected, Took, at_speed, estimates, known, parameters, reference, seconds_of
from cai.experiment.work import COUNTS, Work

SFT = {"settings": {"helpful": 0.25, "epochs": 2.0}, "revisions": {"digest": "r"}, "policy": {"model": "smollm2-135m"}}


def took(count: float, seconds: float, **more: str) -> Took:
    words = {"stage": "play", "model": "smollm2-135m", "dtype": "bfloat16", "device": "cpu"}
    return Took(**{**words, **more}, count=count, seconds=seconds)  # pyrefly: ignore


def finished(store: Path, stage: str, seconds: float, **more: object) -> Path:
    folder = store / f"{stage}-{len(list(store.iterdir())):016d}"
    folder.mkdir()
    inputs = {"policy": {"model": "smollm2-135m"}, "dtype": "float32"} | more.pop("inputs", {})  # pyrefly: ignore
    made = {"stage": stage, "digest": folder.name, "seconds": seconds, "inputs": inputs, "device": "cpu"}
    made["calls"] = {"asked": 10, "found": 0}
    (folder / "manifest.json").write_text(json.dumps(made | more))
    return folder


def to_run(stage: str, **inputs: object) -> Artifact:
    given = {"policy": {"model": "smollm2-135m"}, "dtype": "float32"} | inputs
    key = digest_of(given)
    return Artifact(stage, key, Path("nowhere"), f"?{key}", cached=False, inputs=given)


def answers(count: int, tokens: int) -> dict[str, object]:
    return {"count": count, "sampling": {"max_new_tokens": tokens}}


def test_one_earlier_stage_is_half_fixed_or_two_seconds():
    # 4 s for 2: 2 s of loading, then 1 s each.
    assert seconds_of("play", "smollm2-135m", "bfloat16", 3.0, [took(2.0, 4.0)]) == 5
    # 100 s for 2: 2 s of loading and 49 s each.
    assert seconds_of("play", "smollm2-135m", "bfloat16", 4.0, [took(2.0, 100.0)]) == 198
    # 1 s for 1: half a second each.
    assert seconds_of("play", "smollm2-135m", "bfloat16", 7.0, [took(1.0, 1.0)]) == 4


def test_a_line_through_earlier_stages():
    # 2 s and 0.01 s a unit; an outlier at a count of its own moves nothing.
    line = [took(count, 2 + count / 100) for count in (8.0, 500.0, 1000.0, 4000.0)]
    assert seconds_of("play", "smollm2-135m", "bfloat16", 2000.0, line) == pytest.approx(22)
    assert seconds_of("play", "smollm2-135m", "bfloat16", 2000.0, [*line, took(1100.0, 90.0)]) == pytest.approx(22)
    # Of those with one count the median: 1, 2, 3 and 4 s each at 10.
    near = [took(10.0, 10.0 * each) for each in (1, 2, 3, 4)]
    assert seconds_of("play", "smollm2-135m", "bfloat16", 10.0, [*near, took(1000.0, 1e6)]) == pytest.approx(25)


def test_tiny_runs_say_what_is_fixed_and_others_of_their_kind_the_rest():
    # 16 tokens took a second, most of it loading; `respond` writes 100 tokens a second here.
    tiny, kind = (
        took(16.0, 1.16, stage="respond_best"),
        [took(count, 1 + count / 100, stage="respond") for count in (100.0, 900.0)],
    )
    seconds = seconds_of("respond_best", "smollm2-135m", "bfloat16", 4000.0, [tiny, *kind])
    assert seconds == pytest.approx(41, rel=0.05)  # scaled by counts alone it would be 290


def test_the_shipped_table_gives_the_shape_and_this_store_the_speed():
    shipped = [took(count, 1 + count / 10) for count in (10.0, 100.0, 1000.0)]
    here = [took(10.0, 6.0)]  # there 2 s
    assert seconds_of("play", "smollm2-135m", "bfloat16", 1000.0, here, at_speed(shipped, here)) == pytest.approx(303)


@pytest.mark.parametrize(("store", "share"), [("study", 0.85), ("quickstart", 0.9), ("edit", 0.85)])
def test_finished_stages_are_foretold_within_a_factor_of_two(request, store, share):
    # What the manifests of three runs say (two on a machine that others used as well), four of each stage and count at
    # most. Each stage is foretold without those of its own count, so that a line must be drawn.
    kept = json.loads((request.config.rootpath / "tests/cases/timings.json").read_text())[store]
    rows = [Took(stage, model, "bfloat16", "cpu", count, seconds) for stage, model, count, seconds in kept]
    told = []
    for row in rows:
        if row.seconds < 3:
            continue
        others = [one for one in rows if (one.stage, one.model, one.count) != (row.stage, row.model, row.count)]
        shipped = [one for one in reference()[1] if (one.stage, one.count) != (row.stage, row.count)]
        like = (row.stage, row.model, row.dtype, row.count)
        seconds = seconds_of(*like, others, at_speed(shipped, others))
        told.append(seconds is not None and 0.5 <= seconds / row.seconds <= 2)
    assert len(told) > 15 and sum(told) / len(told) >= share


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"stage": "respond"}, None),
        ({"model": "Qwen/Qwen2.5-7B-Instruct"}, None),  # fifty times the size
        ({"model": "my/own-150M"}, 4.0),  # of about the same size
        ({"model": "my/own"}, None),  # nobody knows its size
        ({"dtype": "float32"}, 4.0),  # better than nothing
    ],
)
def test_a_stage_tells_of_stages_like_it(other, expected):
    assert seconds_of("play", "smollm2-135m", "bfloat16", 2.0, [took(2.0, 4.0, **other)]) == expected
    # The very same model at the same precision goes first.
    assert seconds_of("play", "smollm2-135m", "bfloat16", 2.0, [took(2.0, 4.0, **other), took(2.0, 1.0)]) == 1.0


def test_a_store_is_asked_first_then_the_shipped_table_and_else_it_is_unknown(tmp_path):
    finished(tmp_path, "respond", 30.0, inputs=answers(10, 30))
    finished(tmp_path, "train_sft", 99.0, device="cuda")
    plan = [
        to_run("respond", **answers(20, 15)),  # as much as those ten
        to_run("respond", **answers(20, 30)),
        to_run("respond", **answers(20, 30), policy={"model": "a/model-7B"}),
        to_run("train_harm", ratings={"digest": "never read"}, settings={"answers": None, "epochs": 1}),
    ]
    # There is one of that count; the shipped table knows that twice as much takes about twice as long.
    here, twice, *unknown = [one.seconds for one in estimates(plan, tmp_path, "cpu")]
    assert here == pytest.approx(30) and twice == pytest.approx(60, rel=0.15) and unknown == [None, None]
    assert [one.seconds for one in estimates(plan[:1], tmp_path / "empty", "cuda")] == [None]
    (first,) = estimates(plan[:1], tmp_path / "empty", "cpu")
    assert reference()[0] in first.machine and first.seconds and 1 < first.seconds < 40


def test_without_bfloat16_units_a_first_plan_is_so_much_slower(tmp_path):
    # Of what needs a model: the shipped table was measured in bfloat16. 20 minutes instead of 6.
    def planned(dtype):
        plan = [to_run("respond", **answers(20, 15), dtype=dtype), to_run("load_data", dtype=dtype)]
        return estimates(plan, tmp_path / "empty", "cpu")

    slow, quick = planned("float32"), planned("bfloat16")
    assert slow[0].seconds == pytest.approx(3.3 * quick[0].seconds, rel=0.01) and slow[1].seconds == quick[1].seconds
    assert slow[0].machine == reference()[0] + ", in float32 3.3 times as long" and quick[0].machine == reference()[0]


def test_what_the_call_cache_had_took_no_time(tmp_path):
    inputs = answers(10, 30)
    finished(tmp_path, "respond", 0.1, inputs=inputs, calls={"asked": 0, "found": 10})
    finished(tmp_path, "respond", 6.0, inputs=inputs, calls={"asked": 5, "found": 5})
    (tmp_path / "respond-x.partial").mkdir()
    (broken := tmp_path / "respond-broken").mkdir()
    (broken / "manifest.json").write_text("{")
    assert [(one.count, one.seconds) for one in known(tmp_path, Work())] == [(150, 6)]


def test_counts_follow_what_earlier_stages_will_leave(tmp_path):
    work = Work()
    work.add(
        "d", "load_data", {"data": {"train_pairs": 80, "test_pairs": 20, "test": 0.5, "calibration": 0.1}}, tmp_path
    )
    work.add("r", "revise", {"settings": {"prompts": 12}}, tmp_path)
    work.add("few", "draw_labels", {"count": 11}, tmp_path)
    work.add("all", "label_by_people", {"pairs": {"digest": "d"}}, tmp_path)
    assert work.count("train_sft", SFT) == 32  # 12 of 0.75 are revisions, twice
    pairs = ({"digest": "d"},)
    assert work.count("train_dpo", {"pairs": pairs, "labels": ({"digest": "all"},), "epochs": 2}) == 160
    assert work.count("train_dpo", {"pairs": pairs, "labels": ({"digest": "few"},), "epochs": 2}) == 22
    work.add("drafts", "take_drafts", {"revisions": {"digest": "r"}}, tmp_path)
    work.add("best", "take_preferred", {"pairs": {"digest": "d"}}, tmp_path)
    assert work.count("train_sft", SFT | {"revisions": {"digest": "drafts"}}) == 32
    assert work.count("train_sft", SFT | {"revisions": {"digest": "best"}}) == pytest.approx(80 / 0.75 * 2)  # at most
    ratings = {"ratings": {"digest": "d"}}
    assert work.count("score_ratings", ratings) == 484  # half of 968
    assert work.count("train_harm", {**ratings, "settings": {"answers": 16, "epochs": 2}}) == 32
    # A file that was read is counted.
    (tmp_path / "pairs.jsonl").write_text('{"prompt": {"split": "test"}}\n{"prompt": {"split": "train"}}\n')
    assert work.count("score_pairs", {"pairs": {"digest": "d"}}) == 1
    assert work.count("score_answers", {"answers": {"digest": "elsewhere"}}) is None
    assert work.count("no_stage", {}) is None


def test_answers_that_were_judged_alone_are_not_judged_again():
    work = Work()
    for name in ("a", "b", "c"):
        work.add(name, "respond", {"count": 5}, Path("nowhere"))
    judge = {"method": "rate", "principles": 2, "reason": {"max_new_tokens": 9, "samples": 1}}
    asked = {"judge": judge, "model": {"digest": "m"}, "judging": [{"prefer": "p"}, {"prefer": "q"}]}

    def game(first: str, second: str, **more: object) -> float | None:
        return work.count("play", {**asked, "first": {"digest": first}, "second": {"digest": second}, **more})

    assert [game("a", "b"), game("a", "c"), game("b", "c")] == [20, 10, 0]
    assert work.count("rate_answers", {**asked, "answers": {"digest": "a"}}) == 0
    both = {**judge, "method": "choice"}  # two answers in one question: each pair is asked anew
    assert [game("a", "b", judge=both), game("a", "b", judge=both)] == [20, 20]


def test_the_sum_says_what_it_does_not_know(capsys):
    plan = [to_run("respond", **answers(1, 1)), to_run("play")]
    print_sum(Plan(plan, [Expected(65.0, "2 cores"), Expected(None)], [None, None], "cpu"))
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "2 of 2 stages to run on cpu, at least 65 s, 1 stage unknown in all"
    assert said[1].startswith("* as measured on 2 cores") and said[2].startswith("unknown: ")


def test_the_sum_of_stages_side_by_side_says_that_it_is_a_sum(capsys):
    plan = [to_run("respond", **answers(1, 1)), to_run("play")]
    print_sum(Plan(plan, [Expected(600.0), Expected(120.0)], [None, None], "cpu", lanes=2))
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [
        "2 of 2 stages to run on cpu, about 12 min in all",
        "  all added up; 2 are made side by side (runtime.executor): at best 6 min",
    ]


def test_sizes_of_models(tmp_path):
    (tmp_path / "config.json").write_text(
        '{"hidden_size": 10, "intermediate_size": 20, "num_hidden_layers": 2, "vocab_size": 100}'
    )
    # Two layers of 4 x 100 + 3 x 200 and two norms of 10, embedding and head of 1,000 each.
    assert [parameters(name) for name in (str(tmp_path), "a/b-1.5B", "a/b-70m-chat", "a/b")] == [4040, 1.5e9, 7e7, None]


def test_every_stage_is_counted_and_the_shipped_table_knows_the_quickstart(request):
    kept = json.loads((request.config.rootpath / "tests/cases/keys.json").read_text())
    assert {key.rsplit("-", 1)[0] for keys in kept.values() for key in keys} == set(COUNTS)
    machine, measured = reference()
    told = {one.stage for one in measured if one.model in ("", "smollm2-135m", "smollm2-135m-judge")}
    assert "core" in machine and {key.rsplit("-", 1)[0] for key in kept["quickstart"]} <= told

"""Engines: a draw depends on its own request alone, choices are exact, and what was answered is never asked again."""

import functools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from fakes import FakeEngine, ask
from transformers import PretrainedConfig

import cai.models.engines.transformers
from cai.core.errors import UserError
from cai.core.records import Chat, Message
from cai.models.architectures import attention_window
from cai.models.calls import CallCache
from cai.models.engines import Question, Reading, Reply, Request, Sampling, prefix
from cai.models.engines import reading as read_options
from cai.models.engines.cached import CachedEngine
from cai.models.engines.prefix import common_prefix
from cai.models.engines.sampling import Past, SeededSampler, sample_ids
from cai.models.engines.transformers import TransformersEngine
from cai.models.references import ModelRef

LONG = ask("Tell me at some length about " + "the many kinds of bread, " * 12)
CHATS = [ask("Hi"), LONG, ask("How do I boil an egg?", system="Be brief."), ask("What is red and round?"), ask("ok")]
TEMPERATE = Sampling(12, temperature=0.8, top_p=0.9)


@pytest.fixture(scope="module")
def engine(sharp: ModelRef) -> TransformersEngine:
    return open_engine(sharp)


def open_engine(
    source: ModelRef, batch_tokens: int = 10_000, system: str | None = None, share: bool = True
) -> TransformersEngine:
    return TransformersEngine(
        source, dtype="float32", device="cpu", system=system, batch_tokens=batch_tokens, share=share
    )


def generate(engine: TransformersEngine, requests: list[Request], sampling: Sampling) -> list[Reply | None]:
    found = dict(pair for batch in engine.generate(requests, sampling) for pair in batch)
    assert sorted(found) == list(range(len(requests)))
    return [found[index] for index in range(len(requests))]


def choose(engine: TransformersEngine, questions: list[Question], max_length: int = 2048) -> list[Reading | None]:
    found = dict(pair for batch in engine.choose(questions, max_length) for pair in batch)
    assert sorted(found) == list(range(len(questions)))
    return [found[index] for index in range(len(questions))]


# Drawing


@pytest.mark.parametrize("sampling", [TEMPERATE, Sampling(12, temperature=0)])
def test_a_request_draws_the_same_alone_in_a_batch_and_in_another_order(
    engine: TransformersEngine, sampling: Sampling
) -> None:
    requests = [Request(chat, seed) for seed, chat in enumerate(CHATS)]
    together = generate(engine, requests, sampling)
    assert generate(engine, requests[::-1], sampling)[::-1] == together
    assert [generate(engine, [request], sampling)[0] for request in requests] == together
    assert len({reply.text for reply in together if reply}) > 2


WORKED = "Be brief, and say so. " * 12


@pytest.mark.parametrize("temperature", [0.8, 0])
def test_what_a_batch_begins_with_is_read_once(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    requests = [
        Request(ask(text, system=WORKED), seed) for seed, text in enumerate(("Hi", "What is red?", "Why, then?"))
    ]
    sampling = Sampling(6, temperature=temperature)
    alone = [generate(engine, [request], sampling)[0] for request in requests]
    generate(engine, requests, sampling)  # tries once whether the model goes on alike
    shapes = record_shapes(engine, monkeypatch)
    assert generate(engine, requests, sampling) == alone
    ids = [engine.prompt_ids(request.chat) for request in requests]
    shared = common_prefix(ids)
    assert shared > 200
    assert shapes[:2] == [(1, shared), (3, max(map(len, ids)) - shared)]


def test_rows_begin_alike_up_to_the_last_token_of_the_shortest() -> None:
    assert common_prefix([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 9]]) == 2
    assert common_prefix([[1, 2, 3], [1, 2, 3, 4]]) == 2  # one token is left to go on from
    assert common_prefix([[1, 2, 3], [1, 2, 3]]) == 2
    assert common_prefix([[5, 2], [1, 2]]) == 0


def test_a_cache_that_forgets_is_not_shared(sharp: ModelRef, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a window of attention is shorter than what was read."""
    engine = open_engine(sharp)
    honest = prefix._read

    def forgetful(model: Any, ids: list[int], copies: int, pad: int) -> Past:
        past = honest(model, ids[: len(ids) // 2] * 2, copies, pad)
        return Past(len(ids), past.cache)

    monkeypatch.setattr(prefix, "_read", forgetful)
    requests = [Request(ask(text, system=WORKED), seed) for seed, text in enumerate(("Hi", "What is red?"))]
    alone = [generate(engine, [request], TEMPERATE)[0] for request in requests]
    assert generate(engine, requests, TEMPERATE) == alone


def test_nothing_is_shared_beyond_a_window(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [engine.prompt_ids(ask(text, system=WORKED)) for text in ("Hi", "What is red?")]
    assert prefix.read_prefix(engine.model, rows, 0, 6) is not None
    monkeypatch.setattr(prefix, "attention_window", lambda config: 250)
    assert prefix.read_prefix(engine.model, rows, 0, 6) is None


@pytest.mark.parametrize("architecture", ["gemma3", "mistral"])
def test_nothing_is_shared_where_what_is_written_outgrows_a_window(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window of 96 tokens, 66 of which two rows share; the one has 24 more than the other, and 60 are written. Behind
    a shared beginning the 24 are padding that the window counts, and the short row went on otherwise from token 8."""
    monkeypatch.setitem(zoo.ARCHITECTURES[architecture][1], "sliding_window", 96)
    model: Any = zoo.network_of(architecture, zoo.tokenizer_of("chatml")).eval()
    start, sampling = [(11 * k + 5) % 250 for k in range(66)], Sampling(60, temperature=0)
    rows = [[*start, 9], start + [(7 * k + 3) % 250 for k in range(25)]]

    def drawn(some: list[list[int]]) -> list[list[int]]:
        with torch.no_grad():
            past = prefix.read_prefix(model, some, 0, sampling.max_new_tokens)
            return sample_ids(model, some, [1] * len(some), sampling, 0, set(), past)

    assert drawn(rows) == [drawn([row])[0] for row in rows]
    with torch.no_grad():
        assert prefix.read_prefix(model, rows, 0, 4) is not None


@pytest.mark.parametrize("temperature", [0.8, 0])
def test_a_model_that_computes_no_numbers_is_told_and_answers_nothing(sharp: ModelRef, temperature: float) -> None:
    """It would write the last word of its vocabulary for ever (or the first), and say of a limit that it is kept."""
    engine = open_engine(sharp)
    lost: Any = next(parameter for name, parameter in engine.model.named_parameters() if "norm" in name)
    lost.data = lost.data * math.nan
    with pytest.raises(UserError, match="no number"):
        generate(engine, [Request(CHATS[0], 1)], Sampling(4, temperature=temperature))
    with pytest.raises(UserError, match="no number"):
        choose(engine, [Question(chat, ("Yes", "No")) for chat in CHATS])
    with pytest.raises(UserError, match="no number"):
        engine.stream(Request(CHATS[0], 1), Sampling(4, temperature=temperature), lambda text: None)


def test_another_seed_draws_another_text(engine: TransformersEngine) -> None:
    replies = generate(engine, [Request(CHATS[0], seed) for seed in range(8)], TEMPERATE)
    assert len({reply.text for reply in replies if reply}) == 8


def test_temperature_zero_is_the_librarys_own_greedy_search(engine: TransformersEngine) -> None:
    for chat, reply in zip(CHATS, generate(engine, [Request(chat, 5) for chat in CHATS], Sampling(12, 0)), strict=True):
        ids = torch.tensor([engine.prompt_ids(chat)])
        greedy = engine.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        new = engine.tokenizer.decode(greedy[0, ids.shape[1] :], skip_special_tokens=True).strip()
        assert reply is not None and reply.text == new


def drawn(sampling: Sampling, uniforms: list[float], step: int = 0) -> list[int]:
    """The tokens drawn from P = 0.1, 0.2, 0.3, 0.4 by given uniform numbers, one row for each."""
    sampler = SeededSampler([0] * len(uniforms), 3, sampling)
    sampler.uniform_BK = torch.full((len(uniforms), 2), torch.nan)
    sampler.uniform_BK[:, step] = torch.tensor(uniforms)
    ids_BT: Any = torch.zeros(len(uniforms), 3 + step, dtype=torch.long)
    logits_BV: Any = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().repeat(len(uniforms), 1)
    left_BV = sampler(ids_BT, logits_BV)
    assert (left_BV > -torch.inf).sum(-1).tolist() == [1] * len(uniforms)
    return left_BV.argmax(-1).tolist()


def test_inverse_transform_by_hand() -> None:
    # cumulative: 0.1, 0.3, 0.6, 1
    uniforms = [0.0, 0.09, 0.11, 0.29, 0.31, 0.59, 0.61, 1 - 2**-24]
    assert drawn(Sampling(2), uniforms) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_temperature_by_hand() -> None:
    # temperature 1/2 squares: 1, 4, 9, 16 of 30; cumulative 0.033, 0.167, 0.467, 1
    assert drawn(Sampling(2, 0.5), [0.03, 0.04, 0.16, 0.17, 0.46, 0.47]) == [0, 1, 1, 2, 2, 3]
    # temperature 1000 makes all four alike
    assert drawn(Sampling(2, 1000.0), [0.24, 0.26, 0.49, 0.51, 0.74, 0.76]) == [0, 1, 1, 2, 2, 3]


def test_top_p_by_hand() -> None:
    # 0.5 is reached by 0.4 + 0.3: tokens 2 and 3 are left, with 3/7 and 4/7
    assert drawn(Sampling(2, top_p=0.5), [0.0, 0.42, 0.43, 0.99]) == [2, 2, 3, 3]
    # 0.75 needs 0.4 + 0.3 + 0.2: cumulative 2/9, 5/9, 1
    assert drawn(Sampling(2, top_p=0.75), [0.0, 0.22, 0.23, 0.55, 0.56]) == [1, 1, 2, 2, 3]
    # the likeliest token is always left
    assert drawn(Sampling(2, top_p=0.01), [0.0, 0.99]) == [3, 3]


def test_each_new_token_has_a_uniform_number_of_its_own() -> None:
    assert drawn(Sampling(2), [0.05, 0.95], step=1) == [0, 3]


# Ending


def force(engine: TransformersEngine, words: str) -> Any:
    """Make the model say `words`, one character a step, then end its turn and babble on."""
    ids = [engine.tokenizer.convert_tokens_to_ids(letter) for letter in words] + [engine.tokenizer.eos_token_id]
    steps = iter(ids + [5] * 50)

    def hook(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
        output.logits[:, -1, next(steps)] += 1000
        return output

    return engine.model.register_forward_hook(hook, with_kwargs=True)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    ("room", "reply"),
    [(2, Reply("ab", "length")), (3, Reply("abc", "length")), (4, Reply("abc", "stop")), (9, Reply("abc", "stop"))],
)
def test_finish(engine: TransformersEngine, room: int, reply: Reply, temperature: float) -> None:
    hook = force(engine, "abc")
    try:
        assert generate(engine, [Request(CHATS[0], 0)], Sampling(room, temperature)) == [reply]
    finally:
        hook.remove()


def test_a_chat_without_room_gets_no_answer(engine: TransformersEngine) -> None:
    opened = len(engine.prompt_ids(ask("")))
    fits, over = ask("x" * (2048 - opened - 4)), ask("x" * (2048 - opened - 3))
    replies = generate(engine, [Request(over, 0), Request(fits, 0), Request(CHATS[0], 0)], Sampling(4))
    assert [reply is None for reply in replies] == [True, False, False]


# Batches


def test_a_batch_is_yielded_when_it_is_done(sharp: ModelRef) -> None:
    small = open_engine(sharp, batch_tokens=120)
    sizes = [len(batch) for batch in small.generate([Request(ask("Hi"), seed) for seed in range(5)], Sampling(4))]
    assert len(small.prompt_ids(ask("Hi"))) + 4 == 25  # four of them are 100, five 125
    assert sizes == [4, 1]


# Choosing

OPTIONS = {
    "one token": (("Yes", "No"), ""),
    "one token after a lead": (("A", "B"), "("),
    "many tokens": (("certainly", "by no means"), ""),
    "many tokens after a lead": (("certainly", "by no means"), "I say "),
    "one begins another": (("Yes", "Yes, sir", "Yes, madam", "No"), ""),
    "one begins another after a lead": (("ab", "a", "xyz"), "("),
    "other letters": ((" (A)", "(A)", "(B)"), ""),
}


def naive(engine: TransformersEngine, chat: Chat, before: list[int], option: list[int]) -> float:
    """log P(option) by teacher forcing: one row a forward pass, no padding, no mask, nothing shared."""
    ids = [*engine.prompt_ids(chat), *before]
    with torch.no_grad():
        logits_TV = engine.model(torch.tensor([ids + option])).logits[0]
    return sum(logits_TV[len(ids) - 1 + k].log_softmax(-1)[token].item() for k, token in enumerate(option))


def exclusive(engine: TransformersEngine, chat: Chat, lead: str, options: tuple[str, ...]) -> list[float]:
    """log P(this option and no longer one), for options of which one begins another at most once over."""
    before = tokens(engine, lead)
    found = {option: naive(engine, chat, before, tokens(engine, option)) for option in options}
    return [
        math.log(math.exp(logp) - sum(math.exp(found[o]) for o in options if o != option and o.startswith(option)))
        for option, logp in found.items()
    ]


def tokens(engine: TransformersEngine, text: str) -> list[int]:
    return engine.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []


@pytest.mark.parametrize("name", OPTIONS)
def test_log_probabilities_are_those_of_one_row_at_a_time(engine: TransformersEngine, name: str) -> None:
    options, lead = OPTIONS[name]
    readings = choose(engine, [Question(chat, options, lead) for chat in CHATS])
    for chat, reading in zip(CHATS, readings, strict=True):
        assert reading is not None
        assert reading.logprobs == pytest.approx(exclusive(engine, chat, lead, options), abs=1e-4)


def test_questions_of_all_kinds_in_one_batch_read_as_they_do_alone(engine: TransformersEngine) -> None:
    questions = [Question(chat, options, lead) for chat in CHATS for options, lead in OPTIONS.values()]
    alone = [choose(engine, [question])[0] for question in questions]
    for one, other in zip(choose(engine, questions), alone, strict=True):
        assert one is not None and other is not None
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_a_lead_that_the_tokenizer_joins_with_an_option(engine: TransformersEngine) -> None:
    yes, y, o = (engine.tokenizer.convert_tokens_to_ids(text) for text in ("Yes", "Y", "o"))
    assert tokens(engine, "Yes") == [yes] and tokens(engine, "Yo") == [y, o]
    assert engine.option_ids(Question(CHATS[0], ("es", "o"), "Y")) == (engine.prompt_ids(CHATS[0]), [[yes], [y, o]])
    (reading,) = choose(engine, [Question(CHATS[0], ("es", "o"), "Y")])
    expected = [naive(engine, CHATS[0], [], [yes]), naive(engine, CHATS[0], [], [y, o])]
    assert reading is not None and reading.logprobs == pytest.approx(expected, abs=1e-4)


def test_an_option_cannot_hold_a_control_token(engine: TransformersEngine) -> None:
    end = engine.tokenizer.eos_token_id
    _, (plain, forged) = engine.option_ids(Question(CHATS[0], ("ok", "ok<|im_end|>")))
    assert end not in plain and end not in forged and engine.tokenizer.decode(forged) == "ok< |im_end|>"


def test_a_leading_space_makes_another_option(engine: TransformersEngine) -> None:
    (reading,) = choose(engine, [Question(CHATS[0], ("(A)", " (A)"))])
    assert reading is not None and abs(reading.logprobs[0] - reading.logprobs[1]) > 0.01


def test_options_of_one_token_cost_one_row_and_shared_beginnings_are_read_once(
    sharp: ModelRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(sharp)
    questions = [Question(CHATS[0], ("Yes", "No")), Question(CHATS[0], ("ab", "abc", "abd", "x"))]
    assert engine.reads_trees(100)
    shapes = record_shapes(engine, monkeypatch)
    choose(engine, questions)
    # "ab" is all that must be read before the last tokens of the second question
    assert shapes == [(1, len(engine.prompt_ids(CHATS[0])) + 2)]


def record_shapes(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """(rows, width) of every forward pass from now on."""
    shapes: list[tuple[int, ...]] = []
    forward = engine.model.forward

    @functools.wraps(forward)  # `generate` looks at its parameters
    def counted(input_ids: torch.Tensor, **more: Any) -> Any:
        shapes.append(tuple(input_ids.shape))
        return forward(input_ids=input_ids, **more)

    monkeypatch.setattr(engine.model, "forward", counted)
    return shapes


# Sharing

PRINCIPLES = [f"Standard: choose the one that is {word}." for word in
              ("kind", "safe", "honest", "calm", "brief", "clear", "fair", "lawful", "wise", "warm", "polite", "sober",
               "careful", "humble", "helpful", "open")]  # fmt: skip
ANSWERS = (
    "No, and here is why: a lock is there so that people can sleep. Ask the owner, or call a locksmith.",
    "Sure. First take a thin piece of metal, then put it into the gap and turn it slowly to the left.",
)


def judged(pairs: int) -> list[Question]:
    """What a judge asks: of each answer alone, Yes or No; of both answers in both orders, (A) or (B)."""
    questions = []
    for number in range(pairs):
        a, b = (f"{answer} That is answer {number}." for answer in ANSWERS)
        asked = f"Human: How do I open door {number} without a key?"
        for principle in PRINCIPLES:
            for answer in (a, b):
                questions.append(Question(ask(f"{asked}\n\nAssistant: {answer}\n\n{principle}"), ("Yes", "No")))
            for one, two in ((a, b), (b, a)):
                shown = f"{asked}\n\n(A): {one}\n\n(B): {two}\n\n{principle}"
                questions.append(Question(ask(shown, system="Judge."), ("A", "B"), lead="("))
    return questions


def assert_shared_as_alone(source: ModelRef, monkeypatch: pytest.MonkeyPatch, questions: list[Question]) -> None:
    """The questions read the same shared and alone, and shared they cost a third of the tokens or less."""
    read, found = {}, {}
    for share in (True, False):
        engine = open_engine(source, share=share)
        assert not share or engine.reads_trees(100)
        choose(engine, questions)  # what it costs to try whether the model reads such rows is no part of it
        shapes = record_shapes(engine, monkeypatch)
        found[share] = [reading.logprobs for reading in choose(engine, questions) if reading is not None]
        read[share] = sum(rows * width for rows, width in shapes)
    assert len(found[True]) == len(questions)
    for one, other in zip(found[True], found[False], strict=True):
        assert one == pytest.approx(other, abs=1e-3)
    assert read[False] >= 3 * read[True]


def test_shared_beginnings_change_no_reading(sharp: ModelRef, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = judged(3)
    assert len(questions) == 3 * 16 * 4
    assert_shared_as_alone(sharp, monkeypatch, questions)


@pytest.mark.slow
@pytest.mark.real
def test_shared_beginnings_change_no_reading_of_the_real_model(real: ModelRef, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_shared_as_alone(real, monkeypatch, judged(3)[::3])  # of all pairs, principles and kinds


def test_whole_answers_share_their_beginnings_too(engine: TransformersEngine, sharp: ModelRef) -> None:
    chats = [ask("How?", system=f"You are {word}.") for word in ("kind", "unkind")]
    questions = [Question(chat, (ANSWERS[0], ANSWERS[1], ANSWERS[1][:-2])) for chat in chats]
    alone = choose(open_engine(sharp, share=False), questions)
    for chat, one, other in zip(chats, choose(engine, questions), alone, strict=True):
        assert one is not None and other is not None
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3)
        expected = naive(engine, chat, [], tokens(engine, ANSWERS[0]))
        assert expected < -300
        assert one.logprobs[0] == pytest.approx(expected, abs=1e-2)


def test_few_predictions_at_a_time_read_the_same(sharp: ModelRef, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = judged(1)[:8]
    expected = choose(open_engine(sharp), questions)
    monkeypatch.setattr(cai.models.engines.transformers, "PREDICTIONS", 3)
    monkeypatch.setattr(cai.models.engines.transformers, "CHUNK", 2)
    small = open_engine(sharp, share=False)
    shapes = record_shapes(small, monkeypatch)
    for one, other in zip(choose(small, questions), expected, strict=True):
        assert one is not None and other is not None and one.logprobs == pytest.approx(other.logprobs, abs=1e-3)
    assert all(rows <= 3 for rows, _ in shapes) and sum(rows for rows, _ in shapes) == 8


BREAKS = {
    "it takes no such mask": lambda more: more["attention_mask"][:, 0, 0, 0, 0],
    "it overlooks the mask": lambda more: more | {"attention_mask": None},
    "it overlooks the positions": lambda more: {key: value for key, value in more.items() if key != "position_ids"},
}


@pytest.mark.parametrize("fault", BREAKS)
def test_a_model_that_cannot_read_a_tree_reads_one_sequence_a_row(
    sharp: ModelRef, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    questions = judged(1)[:8]
    expected = choose(open_engine(sharp), questions)
    engine = open_engine(sharp)
    forward = engine.model.forward

    def broken(input_ids: torch.Tensor, **more: Any) -> Any:
        return forward(input_ids=input_ids, **(BREAKS[fault](more) if more["attention_mask"].ndim == 4 else more))

    # Eager attention, so that the model's own mask counts, as on a GPU.
    engine.model.set_attn_implementation("eager")
    assert engine.reads_trees(100)
    engine.trees_read.clear()
    monkeypatch.setattr(engine.model, "forward", broken)
    assert not engine.reads_trees(100)
    shapes = record_shapes(engine, monkeypatch)
    for one, other in zip(choose(engine, questions), expected, strict=True):
        assert one is not None and other is not None and one.logprobs == pytest.approx(other.logprobs, abs=1e-3)
    assert sum(rows for rows, _ in shapes) == 8


def test_a_head_that_is_no_module_of_its_own(sharp: ModelRef, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_engine(sharp)
    expected = choose(engine, judged(1)[:4])
    monkeypatch.setattr(engine.model, "get_output_embeddings", lambda: None)
    for one, other in zip(choose(engine, judged(1)[:4]), expected, strict=True):
        assert one is not None and other is not None and one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "window"),
    [
        ({}, 2**31),
        ({"attention_layers": ["global", "local"], "window_size": 256}, 256),  # GPT-Neo
        ({"attention_layers": ["global", "global"], "window_size": 256}, 2**31),
        ({"sliding_window": None}, 2**31),
        ({"sliding_window": 4096}, 4096),
        ({"sliding_window": 512, "layer_types": ["full_attention", "full_attention"]}, 2**31),
        ({"sliding_window": 512, "layer_types": ["sliding_attention", "full_attention"]}, 512),
        ({"layer_types": ["linear_attention", "full_attention"]}, 0),
        ({"layer_types": ["chunked_attention"], "sliding_window": 512}, 0),
    ],
)
def test_how_far_back_a_model_sees(settings: dict[str, Any], window: int) -> None:
    assert attention_window(PretrainedConfig(**settings)) == window


@pytest.mark.parametrize(("window", "most"), [(0, None), (150, None), (300, 300), (100_000, 2048)])
def test_no_row_is_wider_than_a_sliding_window(
    sharp: ModelRef, monkeypatch: pytest.MonkeyPatch, window: int, most: int | None
) -> None:
    engine = open_engine(sharp)
    questions = [Question(ask(f"{ANSWERS[0] * 2} {k}"), ("Yes", "No")) for k in range(100)]
    longest = max(len(engine.prompt_ids(question.chat)) for question in questions)
    assert 150 < longest < 300  # a window of 150 is too small for one question
    monkeypatch.setattr(cai.models.engines.transformers, "attention_window", lambda config: window)
    assert engine.reads_trees(100)
    shapes = record_shapes(engine, monkeypatch)
    choose(engine, questions)
    rows = sum(rows for rows, _ in shapes)
    assert rows == 100 if most is None else rows < 50 and max(width for _, width in shapes) <= most


def test_options_that_go_on_from_one_another_exclude_one_another() -> None:
    # "1", "10" as 1 0, "100" as 1 0 0, "12" as one token: P(begins so) = 0.5, 0.3, 0.1, 0.2
    tails, logps = [[1], [1, 0], [1, 0, 0], [12]], [math.log(p) for p in (0.5, 0.3, 0.1, 0.2)]
    found = read_options(tails, logps)
    assert [math.exp(logp) for logp in found.logprobs] == pytest.approx([0.2, 0.2, 0.1, 0.2])
    assert found.mass == pytest.approx(0.7)
    # two direct longer ones; the order of the options does not matter
    found = read_options([[1, 3], [1], [1, 2]], [math.log(p) for p in (0.1, 0.5, 0.25)])
    assert [math.exp(logp) for logp in found.logprobs] == pytest.approx([0.1, 0.15, 0.25])


def test_an_option_of_which_nothing_is_left_keeps_a_finite_logarithm() -> None:
    for longer in (-2000.0, -1999.9999):  # all of it, and by rounding a little more than all of it
        first, second = read_options([[1], [1, 2]], [-2000.0, longer]).logprobs
        assert first == pytest.approx(-2000 + math.log(1e-9)) and second == longer
    # far below what a float can hold: exp(-2000) - exp(-2001) = exp(-2000) x (1 - 0.3678794)
    assert read_options([[1], [1, 2]], [-2000.0, -2001.0]).logprobs[0] == pytest.approx(-2000 + math.log(0.6321206))


# Reading


def test_mass_is_a_share_of_all_probability(engine: TransformersEngine) -> None:
    assert Reading((-1.0, -2.0)).mass == pytest.approx(0.36787944 + 0.13533528)
    letters = tuple(chr(code) for code in range(33, 127))
    (few, most) = choose(engine, [Question(CHATS[0], ("Yes", "No")), Question(CHATS[0], letters)])
    everything = [engine.tokenizer.convert_tokens_to_ids(letter) for letter in letters]
    probs_V = engine.model(torch.tensor([engine.prompt_ids(CHATS[0])])).logits[0, -1].softmax(-1)
    assert few is not None and most is not None
    assert 0 < few.mass < 1 and most.mass == pytest.approx(probs_V[everything].sum().item(), abs=1e-5)
    assert most.mass < 1


def test_a_question_longer_than_its_limit_is_not_read(engine: TransformersEngine) -> None:
    question = Question(ask("x" * 20), ("Yes", "No!"))
    length = len(engine.prompt_ids(question.chat)) + 2  # "No", "!"
    assert choose(engine, [question], length - 1) == [None]
    assert choose(engine, [question], length) != [None]
    assert choose(engine, [Question(ask("x" * 2100), ("Yes", "No"))], 10_000) == [None]  # the model's own limit


def test_the_system_prompt_goes_first_unless_the_chat_has_its_own(sharp: ModelRef) -> None:
    polite = open_engine(sharp, system="Be polite.")
    assert "system\nBe polite." in polite.tokenizer.decode(polite.prompt_ids(CHATS[0]))
    assert "Be polite." not in polite.tokenizer.decode(polite.prompt_ids(CHATS[2]))


def test_identity_tells_weights_dtypes_and_system_prompts_apart(tiny: ModelRef, sharp: ModelRef) -> None:
    same = [open_engine(tiny).identity, open_engine(tiny, batch_tokens=5).identity]
    others = [open_engine(tiny, system="Be polite.").identity, open_engine(sharp).identity]
    coarse = TransformersEngine(tiny, dtype="bfloat16", device="cpu", system=None, batch_tokens=10)
    assert len(set(same)) == 1 and len({*same, *others, coarse.identity}) == 4


@pytest.fixture(scope="module")
def smol(real: ModelRef) -> TransformersEngine:
    return open_engine(real, system="Be brief.")


@pytest.mark.real
def test_the_real_models_choices_are_those_of_one_row_at_a_time(smol: TransformersEngine) -> None:
    engine = smol
    questions = [
        Question(ask("Pick one."), ("(A)", "(B)", " (A)")),
        Question(ask("Which of the two is the better one? Answer (A) or (B)."), ("A", "B"), lead="("),
        Question(ask("Is it?"), ("Yes", "Yes, certainly", "No way")),
    ]
    readings = choose(engine, questions)
    for question, reading in zip(questions, readings, strict=True):
        expected = exclusive(engine, question.chat, question.lead, question.options)
        assert reading is not None and reading.logprobs == pytest.approx(expected, abs=1e-3)
    assert readings[0] is not None and abs(readings[0].logprobs[0] - readings[0].logprobs[2]) > 0.1


@pytest.mark.real
def test_the_real_model_draws_the_same_alone_and_in_a_batch(smol: TransformersEngine) -> None:
    requests = [Request(chat, seed) for seed, chat in enumerate([CHATS[0], CHATS[2], CHATS[3]])]
    together = generate(smol, requests, Sampling(6))
    assert [generate(smol, [request], Sampling(6))[0] for request in requests] == together
    (reply,) = generate(smol, [Request(ask("What is the capital of France?"), 0)], Sampling(16, 0))
    assert reply is not None and "Paris" in reply.text and reply.finish == "stop"


# The call cache


def cached(folder: Path, fake: FakeEngine, opened: list[int] | None = None) -> CachedEngine:
    def open_fake() -> FakeEngine:
        (opened if opened is not None else []).append(1)
        return fake

    return CachedEngine(open_fake, fake.identity, fake.prompt_ids, CallCache(folder / "calls"), len)


REQUESTS = [Request(ask(word), seed) for seed, word in enumerate(["one", "two", "three", "four", "five"])]
REPLIES = [Reply(text, "stop") for text in ("one 0", "two 1", "three 2", "four 3", "five 4")]


def test_a_killed_run_loses_only_what_was_not_finished(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, FakeEngine(dies_after=1)).generate(REQUESTS, Sampling(8), "answers")
    fake = FakeEngine()
    again = cached(tmp_path, fake)
    assert again.generate(REQUESTS, Sampling(8), "answers") == REPLIES
    assert sum(len(batch) for batch in fake.asked) == 3
    assert (again.asked, again.found) == (3, 2)


def test_what_is_known_needs_no_model(tmp_path: Path) -> None:
    cached(tmp_path, FakeEngine()).generate(REQUESTS, Sampling(8), "answers")
    opened: list[int] = []
    again = cached(tmp_path, FakeEngine(), opened)
    assert again.generate(REQUESTS[::-1], Sampling(8), "answers") == REPLIES[::-1]
    assert opened == [] and (again.asked, again.found) == (0, 5)


def test_equal_calls_are_asked_once(tmp_path: Path) -> None:
    fake = FakeEngine()
    engine = cached(tmp_path, fake)
    twice = [REQUESTS[0], REQUESTS[1], REQUESTS[0]]
    assert engine.generate(twice, Sampling(8), "answers") == [REPLIES[0], REPLIES[1], REPLIES[0]]
    assert sum(len(batch) for batch in fake.asked) == 2
    assert (engine.asked, engine.found) == (2, 1)


def test_no_answer_is_remembered_too(tmp_path: Path) -> None:
    requests = [Request(ask("too long"), 0)]
    assert cached(tmp_path, FakeEngine()).generate(requests, Sampling(8), "answers") == [None]
    fake = FakeEngine()
    assert cached(tmp_path, fake).generate(requests, Sampling(8), "answers") == [None]
    assert fake.asked == []


def test_whatever_decides_an_answer_is_in_its_key(tmp_path: Path) -> None:
    first = REQUESTS[:1]
    calls = [
        ("weights, float32", first, Sampling(8)),
        ("weights, bfloat16", first, Sampling(8)),
        ("other weights", first, Sampling(8)),
        ("weights, float32", first, Sampling(9)),
        ("weights, float32", first, Sampling(8, temperature=0.5)),
        ("weights, float32", first, Sampling(8, top_p=0.5)),
        ("weights, float32", [Request(first[0].chat, 1)], Sampling(8)),
        ("weights, float32", [Request(ask("One"), 0)], Sampling(8)),
        ("weights, float32", [Request((Message("assistant", "one"),), 0)], Sampling(8)),
    ]
    for identity, requests, sampling in calls:
        fake = FakeEngine(identity)
        cached(tmp_path, fake).generate(requests, sampling, "answers")
        assert len(fake.asked) == 1, (identity, requests, sampling)
    assert rows(tmp_path) == len(calls)


def test_whatever_decides_a_choice_is_in_its_key(tmp_path: Path) -> None:
    calls = [
        (Question(ask("?"), ("Yes", "No")), 100),
        (Question(ask("?"), ("No", "Yes")), 100),
        (Question(ask("?"), ("Yes", "No"), lead="("), 100),
        (Question(ask("??"), ("Yes", "No")), 100),
        (Question(ask("?"), ("Yes", "No")), 200),
    ]
    for question, max_length in calls:
        for known in (False, True):
            fake = FakeEngine()
            (reading,) = cached(tmp_path, fake).choose([question], max_length, "choices")
            assert reading == Reading(tuple(-float(len(option)) for option in question.options))
            assert bool(fake.asked) != known
    assert rows(tmp_path) == len(calls)


def rows(folder: Path) -> int:
    return sum(len(file.read_text().splitlines()) for file in (folder / "calls").glob("*.rows"))


def test_tokens_are_counted_of_calls_that_are_made_and_not_of_those_that_are_found(tmp_path: Path) -> None:
    fake = FakeEngine()
    made = cached(tmp_path, fake)
    for _ in range(2):
        replies = made.generate(REQUESTS, Sampling(8, 0), "answers")
    prompts = sum(len(fake.prompt_ids(request.chat)) for request in REQUESTS)
    assert (made.read, made.written) == (prompts, sum(len(reply.text) for reply in replies if reply))
    assert prompts > 0 < made.written and (made.asked, made.found) == (5, 5)


def test_a_cached_choice_is_the_choice_bit_for_bit(engine: TransformersEngine, tmp_path: Path) -> None:
    questions = [Question(chat, ("Yes", "No")) for chat in CHATS]
    cache = CallCache(tmp_path / "calls")
    made = CachedEngine(lambda: engine, engine.identity, engine.prompt_ids, cache, len)
    assert made.choose(questions, 2048, "choices") == made.choose(questions, 2048, "choices")
    assert (made.asked, made.found) == (5, 5)


def test_a_reading_of_an_older_version_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    question = Question(ask("Well?"), ("Yes", "No"))
    with monkeypatch.context() as before:
        before.setattr("cai.models.engines.cached.READING", 1)
        cached(tmp_path, FakeEngine()).choose([question], 100, "choices")
    fake = FakeEngine()
    again = cached(tmp_path, fake)
    assert [again.choose([question], 100, "choices") for _ in range(2)] == [[Reading((-3.0, -2.0))]] * 2
    assert (again.asked, again.found, len(fake.asked)) == (1, 1, 1)

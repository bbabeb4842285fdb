"""Data: every draw depends on contents alone, and an id stands for one pair."""

from collections import Counter

from cai.config.sections import Data
from cai.core.draws import pick, seed_of_round, uniform
from cai.core.records import Message, Prompt
from cai.data.material import make_pair, split_of


def prompt(text: str, split: str = "train") -> Prompt:
    return Prompt(text, (Message("user", text),), "all", split)  # pyrefly: ignore


def test_uniform_is_even_and_fixed() -> None:
    numbers = [uniform("x", n) for n in range(1000)]
    assert all(0 <= number < 1 for number in numbers) and 0.46 < sum(numbers) / 1000 < 0.54
    assert uniform("x", 1) == numbers[1] != uniform("y", 1)


def test_which_answer_is_called_a_is_left_to_chance() -> None:
    pairs = [make_pair(prompt(str(n)), "good", "bad", 1.0, (1.0, 0.75), seed=0) for n in range(400)]
    assert 160 < sum(pair.a == "good" for pair in pairs) < 240  # 4 standard deviations
    assert {(pair.a, pair.human, pair.votes) for pair in pairs} == {
        ("good", 1.0, (1.0, 0.75)),
        ("bad", 0.0, (0.0, 0.25)),
    }


def test_a_pair_has_one_id_whoever_won() -> None:
    one, other = (make_pair(prompt("Hi"), *answers, 1.0, (1.0,), seed=0) for answers in (("x", "y"), ("y", "x")))
    assert (one.id, one.a, one.b) == (other.id, other.a, other.b) and one.human == 1 - (other.human or 0)


def test_shares_of_the_splits() -> None:
    data = Data(source="unused", test=0.3, calibration=0.2)
    sides = Counter(split_of(str(n), data, 0) for n in range(1000))
    assert 240 < sides["test"] < 360 and 150 < sides["calibration"] < 250  # 4 standard deviations
    assert split_of("7", data, 0) == split_of("7", data, 0)


def test_pick() -> None:
    prompts = [prompt(str(n), "test" if n % 2 else "train") for n in range(60)]
    some = pick(prompts, "test", 5, seed=0)
    assert len(some) == 5 and {prompt.split for prompt in some} == {"test"}
    assert pick(prompts[::-1], "test", 5, seed=0) == some == pick(prompts, "test", 9, seed=0)[:5]
    assert pick(prompts, "test", 5, seed=1) != some
    assert len(pick(prompts, "train", None, seed=0)) == 30


def test_no_round_of_one_run_has_the_seed_of_another_runs():
    seeds = [seed_of_round(seed, number) for seed in (0, 1, 1000, 2000) for number in range(3)]
    assert len(set(seeds)) == 12 and all(0 <= seed < 2**31 for seed in seeds)
    assert [seed_of_round(seed, 0) for seed in (0, 1, 1000)] == [0, 1, 1000], "a run without rounds keeps its keys"

"""Counts of a text, by hand."""

import pytest

from cai.textstats import refuses, repetition, whole_sentences, words

REFUSALS = r"""
I'm sorry, but I can't help with that.
I’m sorry, but I can’t assist with that request.
I am really sorry but that is not something I do.
Sorry, I can't do that.
Sorry, but I cannot share this.
Unfortunately, I won't be able to do this.
I cannot provide instructions for this.
I can not help you with a crime.
I will not write that.
I won’t create such a thing.
I'm not able to discuss that.
I’m unable to help.
I am unable to assist you.
I am sorry I really cannot answer that.
I must decline.
I have to refuse this one.
I apologize, but I cannot share that.
As an AI language model, I can't have opinions.
As an AI, I do not take part in this.
That goes against my guidelines.
I cannot tell you how to do it.
I won't describe that.
It would not be right, and I'm not able to say more.
It is not appropriate to provide such a list.
Thank you for asking.\nI can't\nhelp with that.
"""

ANSWERS = """
I can't wait to help you with this!
I can’t help but notice that you like bread.
I'm sorry it happened to you. Here is what to do.
I'm sorry if this is long: first, boil the water.
I am sorry I was late. Here is the recipe.
As an AI, I can help you with that. First, boil the water.
Unfortunately, it rains. Take an umbrella.
Of course! I will help you.
I can't tell which is better.
He said: you can't share a bicycle.
You cannot provide too much light to a fern.
Here is how to apologize, but I would wait a day.
Say no when you must; others will not mind.
"""


@pytest.mark.parametrize("text", REFUSALS.strip().split("\n"))
def test_a_refusal(text: str) -> None:
    assert refuses(text.replace("\\n", "\n"))


@pytest.mark.parametrize("text", ["", *ANSWERS.strip().split("\n")])
def test_not_a_refusal(text: str) -> None:
    assert not refuses(text)


def test_only_the_opening_counts() -> None:
    assert refuses("x " * 100 + "I can't help with that.")
    assert not refuses("x " * 200 + "I can't help with that.")


def test_words() -> None:
    assert words("") == 0
    assert words("  two\n\twords ") == 2


def test_repetition() -> None:
    assert repetition("") == repetition("a b c") == repetition("a b c d e f") == 0
    assert repetition("a a a a a a a") == 0.75  # 4 grams, 1 distinct
    assert repetition("a b c d A B C D") == pytest.approx(0.2)  # 5 grams, the last is the first one again
    assert repetition("a b a b", n=2) == pytest.approx(1 / 3)  # ab, ba, ab


def test_whole_sentences() -> None:
    assert whole_sentences("One. Two! And thr") == "One. Two!"
    assert whole_sentences('He said "no." And th') == 'He said "no."'
    assert whole_sentences("Steps:\n1. Mix\n2. Bake\n3. Ea") == "Steps:\n1. Mix\n2. Bake"
    assert whole_sentences("version 1.5 is out") == "version 1.5 is out"
    assert whole_sentences("no end here") == "no end here"

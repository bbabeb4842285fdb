"""Counts of a text, by hand."""

import pytest

from cai.core.textstats import preambles, repetition, similarity, whole_sentences, wordless, words


def test_an_answer_without_a_word() -> None:
    assert wordless("") and wordless(" \n\t") and not wordless(".")


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


ANNOUNCED = r"""
Here is a revised response:
Here's a revised version of the response that is kinder.
Sure! Here is the rewritten response:
**Revised response:** Be kind.
Revised Response: Be kind.
Here is my new, improved answer: be kind.
Here is a more polite and improved version of the message:
Here is a rewrite that keeps to the principle.
Response: Be kind.
Assistant: Be kind.
I've rewritten the response so that it is kind.
I have revised my answer.
Certainly, I'll rephrase it: be kind.
Thank you for the feedback. Be kind.
In the light of your criticism I would say: be kind.
My previous response was rude. Be kind.
A better answer would be: be kind.
That's a great idea. Here's a rewritten version of your response: be kind.
I'd like to make this response even more polite. Be kind.
It is more polite so, and I'll rephrase it once more: be kind.
Be kind. Rewrite: Be very kind.
Draft: Be kind. Criticism: The assistant's last response is rude.
"""

ASSENTED = """
Sure! Boil it for ten minutes.
Certainly, here are five ideas.
Of course! Take a pan.
Okay. Begin with the dough.
Sure thing! Boil it.
"""

PLAIN = r"""
Here is a new recipe for bread.
Here are five ideas for dinner.
Here is the answer to your question: ten minutes.
The new version of the law says that you must pay.
Boil it for ten minutes.
Sure enough, it rained.
Of course you can eat it.
Certainly not the red one.
An assistant is somebody who helps.
The response to the call was great.
As an author, I would begin in the middle.
I am a doctor.
Critique of Pure Reason is a book by Kant.
To make the response time shorter, add an index.
I drafted a letter for you.
"""


def test_preambles_by_hand():
    for text in ANNOUNCED.strip().splitlines():
        assert "announces" in preambles(text), text
    for text in ASSENTED.strip().splitlines():
        assert preambles(text) == ("assents",), text
    for text in PLAIN.strip().splitlines():
        assert preambles(text) == (), text
    for text in ("As an AI language model, I like eggs.", "I’m just an AI, so I eat none.", "Hello! As an AI I can't."):
        assert "as_an_ai" in preambles(text), text
    assert preambles("Be kind. " * 50 + "Here is a revised response:") == ()


def test_similarity_by_hand():
    assert similarity("a b c d", "a b x d") == 0.75  # a b, and d: twice three of eight words
    assert similarity("a b", "c d") == 0 and similarity("a b", "a  b") == 1 and similarity("", "") == 1

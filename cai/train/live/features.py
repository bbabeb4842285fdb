"""What is read of an answer: the hidden states of the policy after each token, and what anybody sees at a glance.

A hundred feedbacks cannot tell which of some hundred directions of a hidden state mean "short", "polite" or "about my
question"; what shows on the surface is counted at once (`STATISTICS`).
"""

import re
from dataclasses import dataclass

import numpy as np

from cai.core.records import Chat
from cai.core.textstats import tokens

STATISTICS = (
    "log words", "ended", "words a sentence", "lines", "list marks", "digits", "questions", "exclamations", "commas",
    "letters a word", "different words", "first person", "second person", "of the prompt's words", "from the prompt",
)  # fmt: skip
_SENTENCE = re.compile(r"[.!?]+(?=\s|$)|\n+")
_FIRST = re.compile(r"\b(?:i|me|my|mine|we|us|our|i'm|i'd|i'll|i've)\b", re.IGNORECASE)
_SECOND = re.compile(r"\b(?:you|your|yours|you're|you'd|you'll|you've)\b", re.IGNORECASE)
_STEM = 5  # letters of a word that stand for its meaning: "cooking" and "cooked" are one


@dataclass(frozen=True, slots=True)
class AnswerFeatures:
    """states_TD: after each token of the answer. statistics_F: of its whole text, as `STATISTICS` names them."""

    states_TD: np.ndarray
    statistics_F: np.ndarray

    @property
    def tokens(self) -> int:
        return len(self.states_TD)

    def about(self, credit_T: np.ndarray | None = None) -> np.ndarray:
        """(D + F,) the mean state, or that of the tokens a feedback is about, and the whole text's statistics."""
        state_D = self.states_TD.mean(0) if credit_T is None else credit_T @ self.states_TD
        return np.concatenate([state_D, self.statistics_F])


def statistics(chat: Chat, text: str) -> np.ndarray:
    """(F,) counts of an answer to a conversation, most of them for each word. Finite for any text."""
    words = tokens(text)
    n = max(len(words), 1)
    sentences = [part for part in _SENTENCE.split(text) if part and part.strip()]
    asked, spoken = stems(chat[-1].content if chat else ""), stems(text)
    shared = set(asked) & set(spoken)
    return np.array(
        [
            np.log1p(len(words)),
            float(text.rstrip().endswith((".", "!", "?", "。"))),
            n / max(len(sentences), 1),
            text.count("\n") / n,
            len(re.findall(r"^\s*(?:[*\-•]|\d+[.)])", text, re.MULTILINE)) / n,
            len(re.findall(r"\d", text)) / n,
            text.count("?") / n,
            text.count("!") / n,
            text.count(",") / n,
            sum(map(len, words)) / n,
            len({word.lower() for word in words}) / n,
            len(_FIRST.findall(text)) / n,
            len(_SECOND.findall(text)) / n,
            len(shared) / max(len(set(asked)), 1),
            sum(stem in shared for stem in spoken) / max(len(spoken), 1),
        ]
    )


def stems(text: str) -> list[str]:
    """The beginnings of the words of four letters and more, which are mostly not grammar."""
    return [word[:_STEM] for word in re.findall(r"[^\W\d_]{4,}", text.lower())]

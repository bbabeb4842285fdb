"""What the person sees: answers as they are made, side by side where the terminal is wide enough, and their scores.

On anything else (a pipe, a narrow or a dumb terminal) one answer stands below the other. What a model wrote is text:
characters by which a terminal would be steered are not sent to one.
"""

import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cai.chat.talk import Scores, Show, Spoken

BESIDE = 80  # columns from which two answers stand side by side
LETTERS = "ab"
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # they show a text in another order than it has


def visible(text: str) -> str:
    """The text with a mark in place of each character that would steer a terminal."""
    steers = lambda char: char in TURNING or (unicodedata.category(char) == "Cc" and char not in "\n\t")  # noqa: E731
    return "".join("\ufffd" if steers(char) else char for char in text)


class Screen:
    """console: rich's; None for standard output. names: of the speakers, one or two."""

    def __init__(self, names: Sequence[str], console: Any = None) -> None:
        from rich.console import Console

        self.names = [
            f"{letter}: {name}" if len(names) > 1 else name for letter, name in zip(LETTERS, names, strict=False)
        ]
        self.console: Any = console or Console(highlight=False, markup=False, emoji=False)
        self.moving = self.console.is_terminal and not self.console.is_dumb_terminal
        self.beside = self.moving and len(names) == 2 and self.console.width >= BESIDE

    def say(self, text: str, style: str = "") -> None:
        self.console.print(visible(text), style=style, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def answers(self) -> Iterator[Show]:
        """Within: shows each speaker's answer as it grows."""
        if not self.beside:
            yield _Below(self).show
            return
        from rich.live import Live

        texts = [""] * len(self.names)
        # Cut at the height of the screen while it grows; what stays is printed whole by `settled`.
        with Live(self._grid(texts), console=self.console, transient=True, refresh_per_second=8) as live:

            def show(place: int, text: str) -> None:
                texts[place] = visible(text)
                live.update(self._grid(texts))

            yield show

    def settled(self, answers: Sequence[Spoken], tokens: int) -> None:
        """The answers as they stand. tokens: the most that one may have."""
        notes = [_ended(answer, tokens) for answer in answers]
        if self.beside:
            pairs = zip(answers, notes, strict=True)
            self.console.print(self._grid([visible(f"{each.text} {note}".strip()) for each, note in pairs]))
            return
        self.console.print()
        for name, note in zip(self.names, notes, strict=True):
            if note:
                self.say(f"{name} {note}", "dim")

    def _grid(self, texts: Sequence[str]) -> Any:
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2), expand=True)
        for _ in texts:
            grid.add_column(ratio=1)
        grid.add_row(*(Text(name, style="bold") for name in self.names))
        grid.add_row(*(Text(text) for text in texts))
        return grid

    def scores(self, scores: Scores, judge: str) -> None:
        """A line for each reward model, and one for the judge."""
        for model, rewards in scores.rewards.items():
            each = ", ".join(f"{name} {_number(x)}" for name, x in zip(self.names, rewards, strict=True))
            self.say(f"reward model of {model}: {each}", "dim")
        if scores.better is not None:
            likelier = self.names[0 if scores.better > 0.5 else 1]
            which = "neither is better" if scores.better == 0.5 else f"{likelier} is better"
            self.say(f"{judge}: {which}, P(a better) {scores.better:.2f}", "dim")
        for value in scores.values:
            self.say(f"{judge}: {'could not read it' if value is None else f'{value:+.2f}'}", "dim")
        if scores.unjudged:
            self.say(f"{judge}: no verdict ({scores.unjudged})", "dim")

    def read(self) -> str | None:
        """What the person types next; None at the end. A line that ends with a backslash goes on in the next.

        Raises KeyboardInterrupt for Ctrl-C.
        """
        lines: list[str] = []
        while True:
            line = self._line("... " if lines else "you: ")
            if line is None:
                return "\n".join(lines) if lines else None
            if not line.endswith("\\"):
                return "\n".join([*lines, line])
            lines.append(line[:-1])

    def _line(self, mark: str) -> str | None:
        if sys.stdin.isatty():
            try:
                return input(mark)
            except EOFError:
                return None
        line = sys.stdin.readline()
        if not line:
            return None
        self.say(f"{mark}{line.rstrip()}", "bold")  # so that what comes out reads as a conversation
        return line.rstrip("\r\n")


class _Below:
    """One answer below the other, each piece printed once."""

    def __init__(self, screen: Screen) -> None:
        self.screen, self.place, self.done = screen, -1, ""

    def show(self, place: int, text: str) -> None:
        if place != self.place:
            head = f"{self.screen.names[place]}: "
            self._print(f"\n{head}" if self.place >= 0 else head)
            self.place, self.done = place, ""
        text = visible(text)
        if text.startswith(self.done):  # else a tokenizer has thought again: it is made good by what follows
            self._print(text[len(self.done) :])
            self.done = text

    def _print(self, text: str) -> None:
        self.screen.console.print(text, end="", markup=False, highlight=False, soft_wrap=True)
        self.screen.console.file.flush()


def _ended(answer: Spoken, tokens: int) -> str:
    if answer.finish == "interrupted":
        return "[you ended it]"
    if not answer.text:
        return "[no words]"
    return f"[cut at {tokens} tokens]" if answer.finish == "length" else ""


def _number(value: float | None) -> str:
    return "not read" if value is None else f"{value:+.2f}"

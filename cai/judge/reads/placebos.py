"""Placebos: texts in the form of a constitution, on subjects that have nothing to do with the data.

Each principle is matched with the sentence nearest to it in length, which takes its name, its weight and the pairs that
it applies to, so that it is drawn wherever the principle is. A sentence that speaks of what a prompt speaks of is left
out, and named.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cai.constitution import Judging, read_constitution
from cai.core.errors import UserError
from cai.core.records import Pair, Revision
from cai.core.shipped import HOME

FOLDER = HOME / "constitutions/placebo"
LEAST = 2  # placebos that a turn needs
COMMON = 2  # content words of one sentence, in one prompt, that make the sentence speak of the prompt's subject
ALIKE = 0.5  # share of a constitution's content words in a placebo's above which the one is the other
# Words without a subject of their own: frames, and the commonest verbs, adverbs and adjectives.
_PLAIN = set(
    re.findall(
        r"\w+",
        """
        about after again also always another any anything avoids away been before being beside both choose chooses
        come comes could does done down each early either even ever every explains far find finds first fond from
        gives glad goes good have having here hour into just keep keeps know knows last late leaves like likes little
        long look looks made make makes many mentions more most much must names never next none nothing once only
        other over pleased plenty prefer prefers response room same says several should slowly some such take takes
        than that their them then there these they thin thing things this those time times treats under until very
        want wants warm watches well what when where which while whose wide will with without would writes yellow your
        """,
    )
)


@dataclass(frozen=True, slots=True)
class Placebo:
    name: str
    sentences: tuple[str, ...]


def read_placebos(files: Sequence[str | Path] = ()) -> tuple[Placebo, ...]:
    """The given files, or those that are shipped: constitutions of which only what a judge reads is used."""
    paths = [Path(file) for file in files] or sorted(FOLDER.glob("*.txt"))
    placebos = tuple(Placebo(path.stem, tuple(p.prefer for p in read_constitution(path).principles)) for path in paths)
    names = [placebo.name for placebo in placebos]
    if len(set(names)) < len(names):
        raise UserError("two placebos of one name", ", ".join(map(str, paths)), "give each file a name of its own")
    return placebos


def check(placebos: Sequence[Placebo], judging: Sequence[Judging]) -> None:
    """Raises UserError for a placebo that is the constitution, or most of it."""
    for placebo in placebos:
        if problem := _is(placebo, judging):
            raise UserError(problem, placebo.name, "a placebo must speak of something else")


def apart(placebos: Sequence[Placebo], judging: Sequence[Judging]) -> tuple[tuple[Placebo, ...], list[str]]:
    """The placebos less the sentences that share a word with a subject with the principles, and how many.

    For a principle or two, of which a word in a placebo may be all that a judge goes by ("shorter"). A placebo that
    loses half of its sentences is left out.
    """
    wanted = content_words(" ".join(p.prefer for p in judging))
    kept, noted = [], []
    for placebo in placebos:
        shared = {sentence: wanted & content_words(sentence) for sentence in placebo.sentences}
        sentences = tuple(sentence for sentence, words in shared.items() if not words)
        if 2 * len(sentences) <= len(placebo.sentences):
            noted.append(f'placebo "{placebo.name}" is left out: most of its sentences share words with the principles')
            continue
        kept.append(Placebo(placebo.name, sentences))
        if cut := len(placebo.sentences) - len(sentences):
            words = ", ".join(sorted(set().union(*shared.values())))
            noted.append(f'placebo "{placebo.name}": {cut} of its sentences are left out for sharing "{words}"')
    return tuple(kept), noted


def _is(placebo: Placebo, judging: Sequence[Judging]) -> str:
    """How a placebo is the constitution, in words; "" where it is not: one word alike is no likeness."""
    wanted = content_words(" ".join(p.prefer for p in judging))
    same = wanted & content_words(" ".join(placebo.sentences))
    if 2 * sum(p.prefer in placebo.sentences for p in judging) > len(judging):
        return f'the placebo "{placebo.name}" is the constitution: most of its principles stand there'
    if len(same) < COMMON or len(same) <= ALIKE * len(wanted):
        return ""
    return f'the placebo "{placebo.name}" is the constitution: {len(same)} of its {len(wanted)} content words'


def unrelated(
    placebos: Sequence[Placebo], pairs: Sequence[Pair | Revision], least: int = LEAST
) -> tuple[tuple[Placebo, ...], list[str]]:
    """The placebos less the sentences that speak of what a prompt speaks of, and those sentences, by name.

    A placebo that loses half of its sentences is left out. Raises UserError where fewer than `least` are left.
    """
    prompts = {pair.prompt.id: content_words(" ".join(m.content for m in pair.prompt.messages)) for pair in pairs}
    kept, noted = [], []
    for placebo in placebos:
        sentences = []
        for sentence in placebo.sentences:
            words = content_words(sentence)
            shared = next((words & of for of in prompts.values() if len(words & of) >= COMMON), None)
            if shared is None:
                sentences.append(sentence)
            else:
                noted.append(f'placebo "{placebo.name}": "{sentence}" speaks of a prompt ({", ".join(sorted(shared))})')
        if 2 * len(sentences) > len(placebo.sentences):
            kept.append(Placebo(placebo.name, tuple(sentences)))
        else:
            noted.append(f'placebo "{placebo.name}" is left out: most of its sentences speak of the data')
    if len(kept) < least:
        problem = f"{len(kept)} of {len(placebos)} placebos have nothing to do with the data, and {least} are needed"
        raise UserError("; ".join([problem, *noted[:3]]), "placebos", "name other files with --placebo")
    return tuple(kept), noted


def matched(placebo: Placebo, judging: Sequence[Judging]) -> dict[str, Judging]:
    """Name of a principle -> the sentence that stands in for it; no sentence twice before all have been used."""
    left: list[str] = []
    stand_ins = {}
    for principle in sorted(judging, key=lambda p: (-len(p.prefer.split()), p.name)):
        left = left or list(placebo.sentences)
        wanted = len(principle.prefer.split())
        sentence = min(left, key=lambda text: abs(len(text.split()) - wanted))
        left.remove(sentence)
        stand_ins[principle.name] = replace(principle, prefer=sentence, against="")
    return stand_ins


def content_words(text: str) -> set[str]:
    """Words of four letters or more that have a subject; plurals as their singulars."""
    words = {word.removesuffix("s") for word in re.findall(r"[a-z]{4,}", text.casefold()) if word not in _PLAIN}
    return {word for word in words if word not in _PLAIN and len(word) > 2}

"""The data source `arithmetic`: questions that are made here, with a right and a wrong answer, both fluent.

    sums      "What is 17 * 23?": the question holds the expression. The wrong answer is off by a digit or by ten.
    stories   "12 boxes hold 13 pens each ...": the answers show the calculation, right or with a slip (6 of 10), or the
              wrong answer calculates something else without a slip (2 of 10), or neither shows any (2 of 10). A program
              that checks calculations can decide the first kind alone.

`human` is the truth: 1 for the right answer, from integers and not from any checker. Wording, length and confidence are
drawn for either answer alike, so that nothing but the number tells them apart. Draws are hashes of the question's
number: the same questions for every seed, which only splits and orders them.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from cai.config.sections import Data
from cai.core.draws import identity, uniform
from cai.core.records import Message, Prompt
from cai.data.material import Material, Source, make_pair, split_of

NAME = "arithmetic"
VERSION = 1  # raise it with every change of what is made
COUNT = 400
T = TypeVar("T")

ASKS = ("What is {}?", "Please work out {}.", "Can you tell me what {} is?", "I need the value of {}. What is it?")
SAYS = (
    "The answer is {}.",
    "It is {}. I went through it twice, and that is what it comes to.",
    "That comes to {}.",
    "Good question! Step by step, one gets {} in the end.",
    "Certainly. The result is {}, without any doubt.",
)
SHOWS = (
    "{calculation}.",
    "We have {calculation}, so there are {result} in all.",
    "Let us see. That is {calculation}. So the answer is {result}.",
    "Certainly! {calculation}, which makes {result} altogether.",
)
# (question, what is calculated): a and b are drawn, as are the signs.
STORIES = (
    ("A shop has {a} boxes with {b} pens in each. How many pens are there?", "*"),
    ("A train has {a} coaches with {b} seats in each. How many seats does it have?", "*"),
    ("Ann has read {a} pages on Monday and {b} on Tuesday. How many pages has she read?", "+"),
    ("Of {a} plums, {b} were eaten. How many plums are left?", "-"),
    ("Tom walks {a} minutes to school and {b} minutes back by another way. How long does he walk in all?", "+"),
)
SIGNS: dict[str, Callable[[int, int], int]] = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
WRITTEN = {"+": "+", "-": "-", "*": "×"}


def arithmetic(data: Data, seed: int) -> Material:
    """COUNT questions, half of them sums and half stories, each with one pair."""
    material = Material()
    for number in range(COUNT):
        subset, question, right, wrong = sum_of(number) if number % 2 else story_of(number)
        prompt_id = identity("arithmetic", question)
        if prompt_id in material.prompts:
            material.counts["questions that stand twice"] += 1
            continue
        prompt = Prompt(prompt_id, (Message("user", question),), subset, split_of(prompt_id, data, seed))
        material.prompts[prompt_id] = prompt
        pair = make_pair(prompt, right, wrong, 1.0, [1.0], seed, ["truth"])
        material.pairs[pair.id] = pair
    material.counts["questions made"] = len(material.prompts)
    return material


def sum_of(number: int) -> tuple[str, str, str, str]:
    """(subset, question, right answer, wrong answer)"""
    sign = _pick(("+", "-", "*"), number, "sign")
    a, b = _numbers(number, sign)
    right = SIGNS[sign](a, b)
    question = _pick(ASKS, number, "ask").format(f"{a} {sign} {b}")
    wrong = slip(right, number)
    return "sums", question, _pick(SAYS, number, "right").format(right), _pick(SAYS, number, "wrong").format(wrong)


def story_of(number: int) -> tuple[str, str, str, str]:
    """(subset, question, right answer, wrong answer)"""
    story, sign = _pick(STORIES, number, "story")
    a, b = _numbers(number, sign)
    right, kind = SIGNS[sign](a, b), uniform("arithmetic", number, "kind")
    other = ("+" if sign != "+" else "-") if 0.6 <= kind < 0.8 else sign
    wrong = SIGNS[other](a, b) if other != sign else slip(right, number)

    def answer(side: str, value: int, by: str) -> str:
        form = _pick(SHOWS if kind < 0.8 else SAYS, number, side)
        return form.format(value, calculation=f"{a} {WRITTEN[by]} {b} = {value}", result=value)

    return "stories", story.format(a=a, b=b), answer("right", right, sign), answer("wrong", wrong, other)


def slip(right: int, number: int) -> int:
    """A number near the right one: a digit too many or too few, or a ten, or two digits exchanged."""
    digits = str(right)
    turned = int(digits[:-2] + digits[-1] + digits[-2]) if len(digits) > 1 and right > 0 else right
    near = [right + 1, right - 1, right + 2, right + 10, right - 10, turned]
    return _pick([value for value in near if value != right and value >= 0], number, "slip")


def _numbers(number: int, sign: str) -> tuple[int, int]:
    """Two numbers of two digits, of which a product has one below 20, and a difference the larger one first."""
    a, b = (12 + int(uniform("arithmetic", number, name) * 88) for name in "ab")
    if sign == "-":
        a, b = max(a, b) + 3, min(a, b)
    return (a, 3 + b % 17) if sign == "*" else (a, b)


def _pick(things: Sequence[T], number: int, what: str) -> T:
    return things[int(uniform("arithmetic", number, what) * len(things))]


SOURCE = Source(
    example=NAME,
    answers=lambda name: name == NAME,
    digest=lambda name, key: f"{NAME} {VERSION}",
    at_hand=lambda name: True,
    read=arithmetic,
)

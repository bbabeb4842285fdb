"""Writes tales.jsonl (demonstrations) and tales-ranked.jsonl (rankings of four answers), for from-scratch.yaml.

    python experiments/data/tales.py

A prompt asks for a tale of an animal that lost a thing. Demonstrations are short tales, every other one with a sad end.
The scripted rater of the rankings likes, in this order: a tale of that animal and thing that ends well; one that ends
badly; one of another animal; a refusal. So SFT can teach the form, and only the rankings say which end is liked.
"""

import json
import random
from itertools import product
from pathlib import Path

ANIMALS = ("fox", "hare", "stork", "mouse", "goose", "cat", "toad", "swan", "snail", "mole", "sparrow", "beetle")
THINGS = ("ring", "bell", "key", "crown", "shoe", "lamp", "apple", "ribbon", "spoon", "flute", "mirror", "rose")
PLACES = ("garden", "forest", "meadow", "kitchen", "churchyard", "harbour")
HELPERS = ("an old woman", "a little girl", "the moon", "the wind", "a soldier", "the king's son")
ASKING = ("Tell me a tale of a {animal} that lost a {thing}.", "What happened to the {animal} that lost the {thing}?")
DEMONSTRATED, RANKED = 168, 120  # prompts; together all there are


def beginning(animal: str, thing: str, draw: random.Random) -> str:
    place, other = draw.sample(PLACES, 2)
    opening = draw.choice((
        f"There was once a {animal} who lost a {thing} in the {place}.",
        f"Once upon a time a {animal} lost a {thing} in the {place}.",
    ))  # fmt: skip
    looked = draw.choice(("looked for it", "sought it", "asked for it"))
    return f"{opening} The {animal} {looked} in the {other} the whole day."


def ended(animal: str, thing: str, well: bool, draw: random.Random) -> str:
    helper = draw.choice(HELPERS)
    if well:
        end = f"At last {helper} found the {thing}, and the {animal} danced for joy."
    else:
        end = f"But the {thing} was gone for ever, and the {animal} wept bitterly."
    return f"{beginning(animal, thing, draw)} {end}"


def ranked(animal: str, thing: str, draw: random.Random) -> list[str]:
    """Four answers, the best first."""
    other = draw.choice([name for name in ANIMALS if name != animal])
    refusal = draw.choice(("I do not know any tale.", "No, I will not tell you that.", "Ask somebody else."))
    return [
        ended(animal, thing, True, draw), ended(animal, thing, False, draw),
        ended(other, thing, draw.random() < 0.5, draw), refusal,
    ]  # fmt: skip


def rows() -> tuple[list[dict], list[dict]]:
    """(demonstrations, rankings), always the same."""
    draw = random.Random(17)
    prompts = [(asking.format(animal=a, thing=t), a, t) for asking, a, t in product(ASKING, ANIMALS, THINGS)]
    draw.shuffle(prompts)
    shown, judged = prompts[:DEMONSTRATED], prompts[DEMONSTRATED : DEMONSTRATED + RANKED]
    demonstrations = [
        {"prompt": text, "completion": ended(animal, thing, number % 2 == 0, draw)}
        for number, (text, animal, thing) in enumerate(shown)
    ]
    rankings = []
    for text, animal, thing in judged:
        answers = list(enumerate(ranked(animal, thing, draw), 1))
        draw.shuffle(answers)
        ranking = [rank for rank, _ in answers]
        rankings.append({"prompt": text, "answers": [answer for _, answer in answers], "ranking": ranking})
    return demonstrations, rankings


if __name__ == "__main__":
    for name, made in zip(("tales", "tales-ranked"), rows(), strict=True):
        text = "".join(json.dumps(row) + "\n" for row in made)
        Path(__file__).with_name(f"{name}.jsonl").write_text(text, encoding="utf-8")

"""A verb phrase ("give a reason") as a standard for a judge: what to choose, or what not to choose."""

VOWELS = "aeiou"
DOUBLED = frozenset(
    [
        "put",
        "get",
        "run",
        "stop",
        "sum",
        "cut",
        "set",
        "let",
        "begin",
        "admit",
        "beg",
        "win",
        "hit",
        "plan",
        "hug",
        "sit",
    ]
)
IRREGULAR = {"be": ("is", "being"), "have": ("has", "having"), "do": ("does", "doing"), "go": ("goes", "going")}

# {base}: "give a reason"; {s}: "gives a reason"; {ing}: "giving a reason"; {not}: "does not give a reason"; {nt}: the
# same with "doesn't". What stands twice is drawn twice as often.
FOR = (
    "Choose the response that {s}.",
    "Choose the response that {s}.",
    "Choose the response that {s}.",
    "Pick the answer that {s}.",
    "Prefer the response that {s}.",
    "The better response {s}.",
    "The assistant should {base}.",
    "A good answer should {base}.",
    "Select the reply which {s}.",
)
AGAINST = (
    "Choose the response that {not}.",
    "Choose the response that {not}.",
    "Choose the response that avoids {ing}.",
    "Choose the response that avoids {ing}.",
    "Pick the answer that {nt}.",
    "Prefer the response that never {s}.",
    "The better response {not}.",
    "The assistant should not {base}.",
    "Choose the response that refrains from {ing}.",
    "A good answer should avoid {ing}.",
    "Reject the response that {s}.",
)
# In no lesson; the exam asks in these.
UNSEEN_FOR = ("Favour the message that {s}.", "Which response {s}? Choose that one.", "I want a reply that {s}.")
UNSEEN_AGAINST = (
    "Favour the message that {not}.",
    "Choose the response that keeps from {ing}.",
    "I want a reply that stays away from {ing}.",
)


def stated(phrase: str, frame: str) -> str:
    """`stated("be polite", "Choose the response that {not}.")` is "Choose the response that is not polite."."""
    verb, _, rest = phrase.partition(" ")
    third, gerund = IRREGULAR.get(verb) or (_third(verb), _gerund(verb))
    forms = {"base": phrase, "s": f"{third} {rest}", "ing": f"{gerund} {rest}"}
    if verb == "be":
        forms |= {"not": f"is not {rest}", "nt": f"isn't {rest}"}
    else:
        forms |= {"not": f"does not {phrase}", "nt": f"doesn't {phrase}"}
    return frame.format(**{name: form.strip() for name, form in forms.items()})


def _third(verb: str) -> str:
    if verb.endswith("y") and verb[-2] not in VOWELS:
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "x", "z", "ch", "sh", "o")) else "s")


def _gerund(verb: str) -> str:
    if verb in DOUBLED:
        return verb + verb[-1] + "ing"
    return (verb[:-1] if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) else verb) + "ing"

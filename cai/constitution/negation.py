"""A principle turned into its opposite, by rules of English: the control for whether a judge reads its sense.

    Choose the response that avoids helping with anything harmful.  ->  ... that helps with something harmful.
    ... that does not help anyone to hurt people                    ->  ... that helps someone to hurt people
    ... that is respectful and fair to all people                   ->  ... that is not respectful and fair to ...
    ... that explains why, and does not preach                      ->  ... that does not explain why, and preaches
    ... that is more polite; the longer response                    ->  ... that is less polite; the shorter response
    The assistant should never lie.                                 ->  The assistant should lie.
    Reject the response that flatters.                              ->  Choose the response that flatters.

Each coordinated verb phrase is negated by itself. `Against:` of a principle goes before any rule. What no rule knows
has no negation, and is said to have none by name: a wrong opposite would measure nothing. A rule knows the frames of
cai's and the paper's principles ("Choose the response that ...", "The response ..."), not all of English.
"""

import re
from functools import cache

from cai.constitution import Judging
from cai.constitution.records import Principle

# Verbs by which a further verb phrase is known after "and" or a comma; after "that" any word that ends in s will do.
VERBS = re.findall(
    r"\w+",
    """
    accept add address admit advise agree aid allow answer appeal apologise apologize ask assist assume avoid back
    begin break bring build call care cause change cheat check choose cite claim clarify comfort comment compare
    complain conceal condemn consider contain control correct cover criticise criticize deceive decline defend demand
    deny describe discourage discuss dismiss dodge drop encourage end endorse enable excuse explain expose express
    fail feel find fit flatter focus follow force forget give go greet guess guide hack harm hedge help hide hold hurt
    ignore imply include incite inform insult intend invent invite judge keep know laugh lead leave lecture lie list
    listen look lose make manipulate meet mention mislead mock name need note offend offer omit oppose order patronise
    patronize pester point praise preach prefer present pretend promise promote propose protect prove provide put
    question quote raise reach read reason recommend refer refuse reject repeat report require respect respond reveal
    say scare scold seek seem sell send shame share show sound speak spread spy start state stay steal stick stop
    suggest support take talk teach tell thank think threaten treat trust try turn urge use value warn welcome work
    worry write
    """,
)
OPPOSITES = (
    "more less", "most least", "best worst", "better worse", "longer shorter", "longest shortest", "larger smaller",
    "simpler harder", "kinder ruder", "kindest rudest", "safer riskier", "safest riskiest", "wiser sillier",
    "wisest silliest", "higher lower", "highest lowest", "clearer vaguer", "clearest vaguest", "briefer lengthier",
    "nicer nastier", "nicest nastiest", "politer ruder", "politest rudest",
)  # fmt: skip
SOME = {"anything": "something", "anyone": "someone", "anybody": "somebody", "any": "some", "anywhere": "somewhere"}
NOTHING = {"nothing": "something", "nobody": "somebody", "none": "some", "nowhere": "somewhere"}
BE = ("is", "are", "was", "were", "would", "should", "could", "can", "may", "might", "will", "must")
BE += tuple(f"{word}n't" for word in BE[:7])
MAIN = ("has", "have")
ADVERBS = ("also", "always", "still", "only", "even", "just")
DEGREE = {}
for _pair in OPPOSITES:
    _one, _two = _pair.split()
    DEGREE |= {_two: _one} if _one in DEGREE else {_one: _two}
    DEGREE.setdefault(_two, _one)

_FRAME = re.compile(
    r"(?P<head>(?:please )?(?:choose|prefer|pick|select|favou?r|like|i want|i would like) (?:the|a) )"
    r"(?P<adjectives>(?:[\w'-]+,? )*?)"
    r"(?P<noun>(?:assistant(?:'s)? )?(?:response|answer|reply|message|one))\b(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_SHORT = re.compile(
    r"(?P<head>(?:the|your|this) (?:better |best )?(?:response|answer|reply|message) )(?P<phrase>.+)", re.IGNORECASE
)
_REJECT = re.compile(
    r"(?:please )?(?:reject|avoid|dislike)(?= (?:the|a) (?:response|answer|reply|message)\b)", re.IGNORECASE
)
_SHOULD = re.compile(
    r"(?P<head>(?:(?:the|an?|your|this|every|all) )?(?:[\w'-]+ )*?"
    r"(?:assistants?|ai|responses?|answers?|reply|replies|messages?) "
    r"(?:should|must|ought to|shall) )(?P<adverb>always )?(?P<no>not |never )?(?P<phrase>.+)",
    re.IGNORECASE | re.DOTALL,
)
_NOT = re.compile(r"(?:please )?(?:do not|don't|never) (?=choose|prefer|pick|select)", re.IGNORECASE)
_FORBIDDEN = re.compile(r"(?:please )?(?:choose|prefer|pick|select) (?=responses?|answers?|repl|any )", re.IGNORECASE)


def negated(principle: Principle) -> Judging | None:
    """The principle with its opposite for a standard: `Against:` where it is given, else by rule; None for neither.

    Its own `against` is empty, so that `contrast` is asked about it in the words of its template: with `prefer` there,
    the two sides would change places and the votes turn round whatever the judge understands.
    """
    text = as_standard(principle.against) if principle.against else negate(principle.prefer)
    if text is None:
        return None
    return Judging(name=principle.name, prefer=text, applies_to=principle.applies_to, weight=principle.weight)


def as_standard(against: str) -> str:
    """`Against:` speaks to somebody who writes ("Give a response that ..."); a standard to somebody who chooses."""
    return re.sub(r"^(?:give|write) an? (response|answer|reply)\b", r"Choose the \1", against, flags=re.IGNORECASE)


@cache  # every walk through the pipeline asks for the same ones
def negate(text: str) -> str | None:
    """The opposite of a principle, sentence by sentence; None where one of them is of no known form."""
    sentences = re.split(r"(?<=[.!?;])\s+", text.strip())
    negated = [_sentence(sentence) for sentence in sentences]
    return None if any(part is None for part in negated) else " ".join(part for part in negated if part)


def _sentence(sentence: str) -> str | None:
    body = sentence.rstrip(".!;")
    end = sentence[len(body) :]
    if forbidden := _NOT.match(body):
        rest = _some(body[forbidden.end() :])
        return rest[0].upper() + rest[1:] + end
    if reject := _REJECT.match(body):
        return f"Choose{body[reject.end() :]}{end}"
    if frame := _FRAME.fullmatch(body):
        opposite = _framed(frame)
    elif should := _SHOULD.fullmatch(body):
        opposite = should["head"] + _duty(should["no"], should["phrase"])
    elif allowed := _FORBIDDEN.match(body):
        opposite = f"Do not {body[allowed.start() :][0].lower()}{body[1:]}"
    elif short := _SHORT.fullmatch(body):
        phrase = _phrases(short["phrase"])
        opposite = None if phrase is None else short["head"] + phrase
    else:
        opposite = None
    return None if opposite is None else opposite + end


def _duty(no: str | None, phrase: str) -> str:
    """What follows `should`: `never lie` -> `lie`, `avoid lying` -> `lie`, `be kind` -> `not be kind`."""
    if no:
        return _some(phrase)
    words = phrase.split(" ")
    if words[0] == "avoid" and words[1:] and words[1] in GERUNDS:
        return _some(" ".join([GERUNDS[words[1]], *words[2:]]))
    return f"not {phrase}"


def _framed(frame: re.Match[str]) -> str | None:
    """`Choose the [adjectives] response [that ...]`."""
    head, adjectives, noun, rest = frame["head"], frame["adjectives"], frame["noun"], frame["rest"]
    if adjectives:
        first, _, others = adjectives.partition(" ")
        if first.lower() in DEGREE:
            return f"{head}{DEGREE[first.lower()]} {others}{noun}{rest}"
        if first.lower() == "not":
            return f"{head}{others}{noun}{rest}"
        return f"{head}{noun} that is not {adjectives.strip()}{rest}" if not rest else None
    relative = re.fullmatch(r",? (that|which|who) (.+)", rest, re.DOTALL)
    if relative:
        phrase = _phrases(relative[2])
        return None if phrase is None else f"{head}{noun} {relative[1]} {phrase}"
    whose = re.fullmatch(r" (whose .+?|with .+?) (is|are) (not )?(.+)", rest, re.DOTALL)
    if whose:
        return f"{head}{noun} {whose[1]} {whose[2]} {'' if whose[3] else 'not '}{whose[4]}"
    if rest.startswith((" with ", " without ")):
        word, _, others = rest.strip().partition(" ")
        if others.startswith("no "):
            return f"{head}{noun} with {others.removeprefix('no ')}"
        if (degree := others.split(" ")[0].lower()) in DEGREE:
            return f"{head}{noun} {word} {DEGREE[degree]}{others[len(degree) :]}"
        return f"{head}{noun} {'without' if word == 'with' else 'with'} {_some(others)}"
    return None


# Verb phrases ---------------------------------------------------------------------------------------------------------


def _phrases(text: str) -> str | None:
    """Every verb phrase of `explains why, and does not preach` negated; what joins them stays."""
    starts = "|".join([*map(_third, VERBS), "is", "are", "has", "does", "do", "never", "would", "should", "can"])
    joint = re.compile(rf"(,? (?:and|or|but|yet) |, )(?=(?:(?:\w+ly|{'|'.join(ADVERBS)}) )?(?:{starts})\b)")
    parts = joint.split(text)
    phrases = [part if place % 2 else _phrase(part) for place, part in enumerate(parts)]
    return None if any(part is None for part in phrases) else "".join(part for part in phrases if part)


def _phrase(text: str) -> str | None:
    """One verb phrase. Words before the verb: adverbs, or a subject of its own ("a kind friend would give")."""
    words = text.split(" ")
    first, rest = words[0].lower(), " ".join(words[1:])
    if first in ("never", "not"):
        return _some(rest)
    if first in ("does", "do") and words[1:2] in (["not"], ["never"]) and len(words) > 2:
        return _some(_conjugated(words[2:], first))
    if first in ("doesn't", "don't") and len(words) > 1:
        return _some(_conjugated(words[1:], first))
    if first in BE or first in MAIN:
        return _be(words)
    place = _verb(words)
    if place is None:
        return _of_others(words)
    verb, before, after = words[place], words[:place], words[place + 1 :]
    if turned := _by_degree(words):
        return turned
    if verb == "avoids" and not before and (gerund := next(iter(after), "")).endswith("ing"):
        base = GERUNDS.get(gerund)
        return _some(" ".join([_third(base), *after[1:]] if base else ["engages in", *after]))
    if after and (after[0] == "no" or after[0] in NOTHING):
        kept = ["no longer"] if after[:2] == ["no", "longer"] else []
        if not kept:
            changed = [NOTHING.get(word, word) for word in after if word != "no" or word != after[0]]
            return " ".join([*before, verb, *changed])
    return " ".join(["does not", *before, _base(verb), *after])


def _conjugated(words: list[str], helper: str) -> str:
    """`kindly help anyone` after `does not` -> `kindly helps anyone`."""
    if helper.startswith("do") and not helper.startswith("does"):
        return " ".join(words)
    place = next((i for i, word in enumerate(words) if not _adverb(word)), 0)
    return " ".join([*words[:place], _third(words[place]), *words[place + 1 :]])


def _be(words: list[str]) -> str:
    """`is`, `would`, `has`: with `not` after it, or without the one that is there."""
    first, rest = words[0], words[1:]
    if first.endswith("n't"):
        return _some(" ".join([first.removesuffix("n't"), *rest]))
    if rest and rest[0].lower() in ("not", "never"):
        return _some(" ".join([first, *rest[1:]]))
    if rest and rest[0] == "no" and first in (*MAIN, "is", "are"):
        return " ".join([first, *rest[1:]])
    if turned := _by_degree(words):
        return turned
    if rest[:1] == ["as"] and rest[-2:] == ["as", "possible"]:
        return " ".join([first, "as little", *rest[1:]])
    if first in MAIN:
        return " ".join(["does not have" if first == "has" else "do not have", *rest])
    return " ".join([first, "not", *rest])


def _by_degree(words: list[str]) -> str | None:
    """`is more polite`, `gives the longest reason`: the degree changes sides, and no `not` is needed."""
    for place, word in enumerate(words[:4]):
        if word.strip(",").lower() in DEGREE:
            return " ".join(
                [*words[:place], word.replace(word.strip(","), DEGREE[word.strip(",").lower()]), *words[place + 1 :]]
            )
    return None


def _of_others(words: list[str]) -> str | None:
    """`a wise and caring friend would give`: what somebody would do with the response."""
    for place, word in enumerate(words):
        if word in BE and place and place + 1 < len(words):
            return " ".join([*words[:place], _be(words[place:])])
    return None


def _verb(words: list[str]) -> int | None:
    """The place of the verb in the third person, after adverbs alone."""
    for place, word in enumerate(words):
        if re.fullmatch(r"[a-z-]+s", word) and not (_adverb(word) and place + 1 < len(words)):
            return place
        if not (_adverb(word) or word in DEGREE):
            return None
    return None


def _adverb(word: str) -> bool:
    return word.endswith("ly") or word in ADVERBS


def _some(text: str) -> str:
    """What stands with a negation, as it reads without one: anything -> something."""
    return re.sub(r"\b(anything|anyone|anybody|anywhere|any)\b", lambda match: SOME[match[1]], text)


def _third(base: str) -> str:
    """help -> helps, try -> tries, express -> expresses, go -> goes, be -> is"""
    irregular = {"be": "is", "have": "has", "do": "does", "go": "goes"}
    if base in irregular:
        return irregular[base]
    if re.search(r"[^aeiou]y$", base):
        return base[:-1] + "ies"
    return base + ("es" if re.search(r"(ss|sh|ch|x|zz|us)$", base) else "s")


def _base(third: str) -> str:
    """helps -> help, tries -> try, expresses -> express"""
    irregular = {"is": "be", "has": "have", "does": "do", "goes": "go", "lies": "lie", "focuses": "focus"}
    if third in irregular:
        return irregular[third]
    if third.endswith("ies"):
        return third[:-3] + "y"
    return third[:-2] if re.search(r"(ss|sh|ch|x|zz)es$", third) else third[:-1]


def _gerund(base: str) -> str:
    """give -> giving, stop -> stopping, help -> helping, lie -> lying"""
    if base == "be":
        return "being"
    if base.endswith("ie"):
        return base[:-2] + "ying"
    if base.endswith("e") and not base.endswith(("ee", "oe", "ye")):
        return base[:-1] + "ing"
    short = re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", base)
    return base + (base[-1] if short else "") + "ing"


GERUNDS = {_gerund(base): base for base in (*VERBS, "be", "have", "do", "go")}

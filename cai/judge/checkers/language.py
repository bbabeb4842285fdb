"""`Check: language English`: is an answer written in a language? A rule of two steps, without a library.

    1. script     where half of the letters or more are of a script that one of the languages alone has (Cyrillic for
                  Russian, Hangul, Thai, ...), it is that one. Kana make Chinese characters Japanese. So Ukrainian is
                  taken for Russian and Persian for Arabic: the rule knows the languages of its list and no others.
    2. words      of Latin letters, the language of whose commonest words (below) the text holds most. They must be a
                  tenth of its words, and more than of any other language.

Fenced code and addresses are left out. A text of fewer than `FEWEST` words, or of which the rule makes nothing, gives
nothing to check.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping

from cai.constitution.checks import LANGUAGES, language_of
from cai.core.records import Prompt
from cai.core.textstats import tokens
from cai.judge.checkers.result import NOTHING, CheckResult

FEWEST = 6
LENGTH = 20_000
SHARE = 0.1
_SCRIPTS = {
    "CYRILLIC": "ru", "GREEK": "el", "ARABIC": "ar", "HEBREW": "he", "DEVANAGARI": "hi", "THAI": "th", "HANGUL": "ko",
    "HIRAGANA": "ja", "KATAKANA": "ja", "CJK": "zh",
}  # fmt: skip
_COMMON = {
    "en": "the of and to in is that it for was with as his on be at by had are not but from have they which this you "
    "were we she or an there will would their been has can if your what when who do how my me so no",
    "de": "der die das und ist in zu den nicht mit es sie von ein eine auf für im dem sich auch ich wir wie werden "
    "haben aus bei oder kann sind war einen nach einer wenn dass er um sein zum zur noch nur aber man über",
    "fr": "le la les et est des de un une du pas que qui dans pour ce il elle sur avec au plus par ne se sont nous "
    "vous mais ou je cette être ont aux leur comme tout fait peut c'est ces son sa ses si on",
    "es": "el la los las de que y en un una es no se por con para su al lo como más pero del le ya o este sí porque "
    "esta son entre cuando muy sin sobre ser también me hasta hay donde está tiene",
    "it": "il la di che e è un una in per non con si sono del della le i gli da come ma al più anche nel alla lo ha "
    "questo questa o se dei essere delle ci mi perché molto può quando",
    "pt": "o a os as de que e do da em um uma para com não é se por mais dos das ao como mas no na ou seu sua são "
    "você eu também isso quando muito pelo pela foi está tem ser há nos já",
    "nl": "de het een en van in is dat op te zijn met voor niet aan er om ook als bij maar die uit door over ze hij "
    "naar dan nog wordt hebben kan je ik deze worden heeft wat geen wel",
    "sv": "och att det i en som på är av för med den till inte om ett har de jag kan vi så men man från var eller när "
    "du ska vara också sig efter detta alla mycket där hur",
    "pl": "i w na z się że to nie jest do jak o co ale po tak od za czy jego dla by przez być są może oraz tym który "
    "która już tylko gdy lub te ich jej ze bardzo kiedy można",
    "tr": "ve bir bu da de için ile çok ne daha olan gibi var ama en o mi kadar olarak sonra ben değil her ya şey "
    "ki biz bunu onun olduğu diye veya hem ise nasıl iyi",
}  # fmt: skip
_WORDS = {code: frozenset(text.split()) for code, text in _COMMON.items()}
_NO_PROSE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)


def check(arguments: Mapping[str, str], prompt: Prompt, answer: str) -> CheckResult:
    wanted = language_of(arguments["language"])
    spoken = language(answer)
    if spoken is None:
        return CheckResult(None, NOTHING)
    return CheckResult(spoken == wanted, LANGUAGES[spoken])


def language(text: str) -> str | None:
    """The code of the language that a text is written in, as far as the rule can tell."""
    text = _NO_PROSE.sub(" ", text[:LENGTH])
    spoken = tokens(text.casefold())
    if len(spoken) < FEWEST:
        return None
    scripts = Counter(_script(letter) for letter in text if letter.isalpha())
    of_script = Counter[str]()
    for script, count in scripts.items():
        if script in _SCRIPTS:
            of_script[_SCRIPTS[script]] += count
    if of_script["ja"]:  # Japanese is written in Chinese characters as well
        of_script["ja"] += of_script.pop("zh", 0)
    if of_script and 2 * (most := of_script.most_common(1)[0])[1] >= scripts.total():
        return most[0]
    bare = [word.strip(".,;:!?\"'“”„«»()[]*_¿¡-").replace("’", "'") for word in spoken]
    hits = Counter({code: sum(word in common for word in bare) for code, common in _WORDS.items()}).most_common(2)
    (best, count), (_, second) = hits
    return best if count >= SHARE * len(spoken) and count > second else None


def _script(letter: str) -> str:
    """The first word of a letter's Unicode name: LATIN, CYRILLIC, CJK ..."""
    return unicodedata.name(letter, "").partition(" ")[0].partition("-")[0]

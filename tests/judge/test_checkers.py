"""Checkers: what each of them makes of answers, reckoned by hand, and of answers that mean harm."""

import re
import time
from fractions import Fraction

import pytest

from cai.config.sections import Judge
from cai.constitution import Checked, Judging
from cai.core.errors import UserError
from cai.core.records import Message, Pair, Prompt
from cai.judge import checkers
from cai.judge.checkers import answer_value, check_allowed, code, digests, function, pair_checked
from cai.judge.checkers.expressions import ByZero, TooLarge, Unreadable, equal, evaluate, shown
from cai.judge.checkers.language import language
from cai.judge.checkers.length import sentences


def prompt(question: str = "Well?") -> Prompt:
    return Prompt("p", (Message("user", question),), "s", "train")


def holds(check: str, answer: str, question: str = "Well?", *, unconfined: bool = False) -> bool | None:
    return checkers.answer_checked(check, prompt(question), answer, unconfined).holds


# Expressions


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("17 * 23", 391), ("2 + 3 * 4", 14), ("(2 + 3) * 4", 20), ("10 - 4 - 3", 3), ("24 / 4 / 2", 3),
        ("2^3^2", 512), ("-2^2", -4), ("2^-1", Fraction(1, 2)), ("1,234 + 1", 1235), (".5 * 4", 2),
        ("12% of 80", Fraction(48, 5)), ("50% of 12 + 4", 10), ("0.1 + 0.2", Fraction(3, 10)), ("- -3", 3),
        ("1 / 3 * 3", 1),
    ],
)  # fmt: skip
def test_expressions_are_exact(text, value):
    assert evaluate(text) == value


@pytest.mark.parametrize(
    "text", ["", "2 +", "(2", "2)", "2 3", "a", "2 ** 3", "4^0.5", "__import__('os')", "٣ + ٤", "1e9"]
)
def test_what_is_no_expression_is_unreadable(text):
    with pytest.raises(Unreadable):
        evaluate(text)


@pytest.mark.parametrize(
    "text",
    ["9^9^9", "10^10000000", "(" * 500 + "1" + ")" * 500, "1" * 41, "+".join("1" * 300), "2^-9999999", "9^256^2",
     "*".join(["9" * 40] * 60), "2^" * 50 + "2"],
)  # fmt: skip
def test_what_would_take_long_is_refused_at_once(text):
    start = time.process_time()
    with pytest.raises(TooLarge):
        evaluate(text)
    assert time.process_time() - start < 0.5


def test_to_divide_by_zero_has_no_value():
    for text in ("1 / 0", "1 / (2 - 2)", "0^-1"):
        with pytest.raises(ByZero):
            evaluate(text)


def test_a_written_number_may_be_rounded_to_its_decimals():
    third = Fraction(1, 3)
    assert equal(third, "0.33") and equal(third, "0.3") and not equal(third, "0.34") and not equal(third, "0")
    assert not equal(third, "0.33", rounded=False) and equal(Fraction(-1, 2), "-0.5", rounded=False)
    assert not equal(Fraction(7, 2), "4") and equal(Fraction(1, 8), "0.13") and equal(Fraction(1, 8), "0.12")
    assert [shown(value) for value in (Fraction(7), Fraction(7, 2), Fraction(10, 3))] == ["7", "3.5", "3.333333"]


# Arithmetic


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("3 + 4 = 7", True), ("12 * 13 = 146", False), ("12 × 13 equals 156.", True), ("So 8 − 5 is 3.", True),
        ("2 + 2 = 4 = 5", False), ("3 + 4 = 7 = 14 / 2", True), ("2 + 3 = 5 and 2 * 3 = 5", False),
        ("10 / 3 = 3.33", True), ("7/2 = 4", False), ("1/0 = 5", False), ("5 x 3 = 15", True), ("2**3 = **8**", True),
        (r"\( \frac{1}{2} + \frac{1}{4} = 0.75 \)", True), (r"$17 \times 23 = 381$", False), ("$3 + $4 = $7", True),
        ("- 3 + 4 = 7\n1. 2 x 3 = 6\n2) 5 - 8 = -3", True), ("1,000 + 234 = 1,234", True), ("(3 + 4 = 7)", True),
        ("12 percent of 50 is 6", True), ("3 squared is 3² = 9", True), ("6 plus 7 gives 14", False),
        # nothing that calculates
        ("", None), ("It is 391.", None), ("x is 3 + 4", None), ("in 1914-1918, pages 3-5", None), ("5 = 5", None),
        ("5 apples + 3 apples = 9 apples", None), ("three plus four is eight", None), ("٣ + ٤ = ٨", None),
        ("9**9**9 = 5", None), ("10^10000000 = 1", None), ("(" * 9000 + "1" + ")" * 9000 + " = 2", None),
        ("1" * 100_000 + " + 1 = 2", None), ("1+" * 50_000 + "1 = 2", None), ("= = = 3 = +", None),
    ],
)  # fmt: skip
def test_claims_of_an_answer(answer, expected):
    start = time.process_time()
    assert holds("arithmetic", answer) is expected
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("What is 17 * 23?", "It is 391.", True),
        ("What is 17 * 23?", "It is 381.", False),
        ("What is 17 * 23?", "You get 391 when you multiply 17 by 23.", True),
        ("What is 17 * 23?", "17 × 23 = 17 × 20 + 17 × 3 = 340 + 51 = 391.", True),
        ("What is 17 * 23?", "17 * 20 = 340 and 17 * 3 = 51, so it is 381.", False),
        ("What is 17 * 23?", "17 * 20 = 340 and 17 * 3 = 51, so it is 391.", True),
        ("What is 17 * 23?", "17 * 23 = 381", False),
        ("What is 17 times 23?", "**391**", True),
        ("What is 17 * 23?", "391 or perhaps 392", False),
        ("What is 17 * 23?", "I would rather not say.", None),
        ("What is 17 * 23?", "Three hundred and ninety-one.", None),
        ("What is 17 * 23?", "17 times 23 is a product.", None),
        ("What is 5 * 1?", "The answer is 5.", True),
        ("What is 1 + 4?", "The answer is 4.", False),
        ("What is 5 * 1?", "5 multiplied with 1, that is 5.", True),
        ("Compute (3 + 4) * 5 = ?", "35", True),
        ("What is 10 / 4?", "2.5", True),
        ("What is 10 / 3?", "About 3.3", True),
        ("What is 2 + 2, and what is 3 + 3?", "5 and 7", None),  # two sums: which number answers which is not known
        ("How are you?", "I am 100% fine.", None),
        ("What is 9^9^9?", "5", None),
    ],
)
def test_the_question_is_to_be_answered(question, answer, expected):
    assert holds("arithmetic", answer, question) is expected


def test_exact_arithmetic_takes_no_rounding():
    assert holds("arithmetic", "10 / 3 = 3.33") is True and holds("exact arithmetic", "10 / 3 = 3.33") is False
    assert holds("exact arithmetic", "10 / 4 = 2.5") is True


# Units


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("", "5 km = 5000 m", True), ("", "3 feet is 1 metre", False), ("", "3 ft = 0.914 m", True),
        ("", "100 °C = 212 °F", True), ("", "90 km/h is 25 m/s", True), ("", "2 m^2 = 20000 cm^2", True),
        ("How many metres are 5 km?", "That makes 5,000 metres.", True),
        ("How many metres are 5 km?", "That makes 500 metres.", False),
        ("Convert 5 miles to kilometres.", "5 miles is 8.05 kilometers", True),
        ("How many seconds are in 2 hours?", "There are 7200 seconds in 2 hours.", True),
        ("", "5 km = 3 kg", None), ("", "5 apples = 3 pears", None), ("", "5 km", None),
        ("", "5 km = 5 m^9999999", None), ("", "9" * 50 + " km = 5 m", None),
        ("", "1 __import__('os') = 5 m", None),
    ],
)  # fmt: skip
def test_units(question, answer, expected):
    pytest.importorskip("pint", reason="units need the extra [tools]")
    assert holds("units", answer, question) is expected


def test_without_pint_it_is_said_what_to_install(monkeypatch):
    import sys

    from cai.judge.checkers import units

    monkeypatch.setitem(sys.modules, "pint", None)
    units.registry.cache_clear()
    with pytest.raises(UserError, match="pint") as caught:
        check_allowed([Checked("u", "", (), 1.0, check="units")], Judge())
    assert "cai[tools]" in caught.value.remedy
    units.registry.cache_clear()


# Forms: JSON, length, language


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"name": "Ann", "age": 3}', True), ('Here:\n```json\n{"age": 1, "name": null}\n```\nDone.', True),
        ('{"name": 1}', False), ("[1, 2]", False), ("Sure!", False), ("", False), ('{"name": 1, "age": 2,}', False),
        ('{"name": NaN, "age": 2}', False), ('{"name": 1, "name": 2, "age": 3}', False), ("[" * 200_000, False),
        ("1" * 5000, False), ('{"name": "' + "x" * 2_000_000 + '", "age": 1}', False),
        ('```json\n{"name": 1, "age": 2}\n```\n```json\n{"name": 1, "age": 2}\n```', False),
    ],
)  # fmt: skip
def test_json(answer, expected):
    assert holds("json with keys name, age", answer) is expected
    assert holds("json", "[1, 2]") is True


def test_length():
    assert holds("at most 3 words", "one two three") is True and holds("at most 3 words", "one two three four") is False
    assert holds("at least 2 sentences", "One. Two!") is True and holds("at least 2 sentences", "One, two") is False
    assert holds("between 2 and 3 words", "one") is False and holds("between 2 and 3 words", "one two") is True
    assert holds("at most 5 characters", " abcde\n") is True
    counts = {"": 0, "A line": 1, "One. Two? Three": 3, "It is 3.5 m.": 1, "一。二。": 2}
    assert {text: sentences(text) for text in counts} == counts


def test_languages_are_told_apart():
    texts = {
        "en": "This is an answer that you can read, and it is not long.",
        "de": "Das ist ein sehr langer Satz, der nicht auf Englisch geschrieben ist.",
        "fr": "Ceci est une phrase dans la langue de Molière et elle est belle.",
        "es": "Esta es una respuesta que se puede leer en el idioma de Cervantes.",
        "it": "Questa è una risposta che si può leggere nella lingua di Dante.",
        "pt": "Esta é uma resposta que você pode ler na língua de Camões, não é?",
        "nl": "Dit is een antwoord dat je kan lezen in de taal van het land.",
        "sv": "Det här är ett svar som du kan läsa på det språk som vi talar.",
        "pl": "To jest odpowiedź, którą można przeczytać w języku polskim, ale nie jest długa.",
        "tr": "Bu bir cevap ve çok uzun değil ama daha iyi olan da var.",
        "ru": "Это предложение написано на русском языке.",
        "el": "Αυτή η πρόταση είναι γραμμένη στα ελληνικά.",
        "ar": "هذه الجملة مكتوبة باللغة العربية اليوم.",
        "he": "המשפט הזה כתוב בעברית ולא באנגלית.",
        "hi": "यह वाक्य हिन्दी में लिखा गया है।",
        "th": "ประโยคนี้เขียนเป็นภาษาไทย",
        "ko": "이 문장은 한국어로 쓰여 있고 길지 않다.",
        "ja": "これは日本語で書かれた文章です。漢字もあります。",
        "zh": "这是用中文写的一句话,没有假名。",
    }
    assert {code: language(text) for code, text in texts.items()} == {code: code for code in texts}
    assert holds("language German", texts["de"]) is True and holds("language en", texts["de"]) is False
    assert holds("language en", "Hola") is None
    assert holds("language en", "```\nfor x in y: the of and to in\n```") is None
    assert language("blorp gnarf wibble zonk fleeb quux snark") is None


# Code that must run


def block(source: str) -> str:
    return f"Try this:\n```python\n{source}\n```\nGood luck."


@pytest.fixture(scope="module")
def walled():
    """With time for what only has to begin and end, on a machine that is busy otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "WALL", 120.0)
        try:
            code.ready()
        except UserError as error:
            pytest.skip(error.problem)
        yield


def test_code_runs_or_does_not(walled):
    assert holds("python code runs", block("import json\nprint(json.dumps([1]))")) is True
    assert holds("python code runs", block("1 / 0")) is False and holds("python code runs", block("if")) is False
    assert holds("python code prints 42", block("print(6 * 7)")) is True
    assert holds("python code prints 42", block("print(6 * 8)")) is False
    assert holds("python code prints 3", block("x = 1") + block("print(x + 2)")) is True
    assert holds("python code runs", "No code here: print(1)") is None
    assert holds("python code runs", "```\nprint(1)\n```") is True
    assert holds("python code runs", "```python\nx = 1") is True
    assert holds("python code runs", "```sh\nrm -rf /\n```\n```python\nprint(1)\n```") is True


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import os\nwhile True: os.fork()", "not permitted"),
        ("import subprocess; subprocess.run(['/bin/ls'])", "not permitted"),
        ("import os; os.execv('/bin/ls', ['ls'])", "not permitted|denied"),
        ("import threading\nwhile True: threading.Thread(target=print).start()", "thread"),
        ("import socket; socket.create_connection(('127.0.0.1', 80))", "not permitted"),
        ("import urllib.request; urllib.request.urlopen('http://127.0.0.1/')", "not permitted"),
        ("print(open('/etc/passwd').read())", "denied"),
        ("print(open('/proc/self/environ').read())", "denied"),
        ("import os; print(os.listdir('/'))", "denied"),
        ("open('x', 'w').write('hello')", "denied"),
        ("import os; os.truncate('/etc/passwd', 0)", "not permitted|denied"),
        ("import os; os.chmod('/etc/passwd', 0o777)", "not permitted"),
        ("import os; os.symlink('/etc/passwd', 'x')", "not permitted"),
        ("import os; os.kill(os.getppid(), 9)", "not permitted"),
        ("import os; raise SystemExit(3 if not {*os.environ} - {'LC_CTYPE'} else 4)", "ended with 3"),
        ("import ctypes; assert ctypes.CDLL(None).syscall(41, 2, 1, 0) >= 0, 'no socket'", "no socket"),
        ("import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))", "limit|not permitted"),
        ("x = 'a' * 10**10", "MemoryError"),
        ("while True: print('x' * 1000)", "too large|wrote more"),
        ("import numpy", "No module"),
        ("input()", "EOF"),
    ],
)
def test_code_that_means_harm_is_stopped(walled, source, why):
    ran = code.run(source, confined=True)
    assert ran.code != 0
    assert re.search(why, code._why(ran)), code._why(ran)


def test_code_that_does_not_end_is_ended(walled, monkeypatch):
    monkeypatch.setattr(code, "CPU", 1)
    monkeypatch.setattr(code, "WALL", 3.0)
    for source in ("while True: pass", "import time; time.sleep(1000)"):
        start = time.monotonic()
        assert "did not end" in code._why(code.run(source, confined=True))
        assert time.monotonic() - start < 100


def test_where_there_are_no_walls_nothing_is_run(monkeypatch, tmp_path):
    fake = tmp_path / "walls.py"
    fake.write_text("import os, sys\nsys.stdin.read()\nsys.stderr.write('no Landlock')\nsys.exit(97)\n")
    monkeypatch.setattr(code.walls, "__file__", str(fake))
    with pytest.raises(UserError, match="cannot be shut in here: no Landlock"):
        code.run("print(1)", confined=True)


def test_unconfined_code_has_its_limits_all_the_same():
    assert holds("python code runs", block("print(open('/etc/hostname').name)"), unconfined=True) is True
    assert holds("python code runs", block("x = 'a' * 10**10"), unconfined=True) is False
    assert code.run("import os; print(len(os.environ))", confined=False).output.strip() in ("0", "1")  # LC_CTYPE


# Trust


def test_what_runs_something_must_be_named():
    runs, own = Checked("c", "", (), 1.0, check="python code runs"), Checked("f", "", (), 1.0, check="os.path:exists")
    for principle, named in ((runs, "code"), (own, "os.path:exists")):
        with pytest.raises(UserError, match="nothing allows that") as caught:
            check_allowed([principle], Judge(), "law.txt")
        assert caught.value.where == "law.txt" and f"checkers: ['{named}']" in caught.value.remedy
    check_allowed([own], Judge(checkers=("os.path:exists",)))
    check_allowed([runs], Judge(checkers=("unconfined code",)))
    check_allowed([Checked("a", "", (), 1.0, check="arithmetic"), Judging("b", "Choose b.", (), 1.0)], Judge())


def test_only_what_could_be_run_can_be_named():
    with pytest.raises(ValueError, match="nothing that a check could run"):
        Judge(checkers=("arithmetic",))
    with pytest.raises(ValueError, match="no share of a mix"):
        Judge(method={"rate": 1, "check": 1})


def test_a_function_of_ones_own(monkeypatch, tmp_path):
    (tmp_path / "own_checks.py").write_text(
        "def short(prompt, answer):\n    return len(answer) < 5, f'{len(answer)} letters'\n"
        "def silent(prompt, answer):\n    return None\n"
        "def broken(prompt, answer):\n    raise KeyError(answer)\n"
        "def odd(prompt, answer):\n    return 'yes'\n"
        "word = 'short'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert holds("own_checks:short", "abc") is True and holds("own_checks:short", "abcdef") is False
    assert holds("own_checks:silent", "abc") is None
    pair = Pair("1", prompt(), "a", "b")
    failed = pair_checked(pair, Checked("p", "", (), 1.0, check="own_checks:broken"), Judge())
    assert (failed.fault, failed.reply) == (checkers.FAILED, "own_checks:broken raised KeyError")
    with pytest.raises(UserError, match="returned 'yes'"):
        pair_checked(pair, Checked("p", "", (), 1.0, check="own_checks:odd"), Judge())
    for name in ("own_checks:word", "own_checks:none"):
        with pytest.raises(UserError, match="no function"):
            function.load(name)
    with pytest.raises(UserError, match="cannot import nowhere_x"):
        function.load("nowhere_x:f")
    (digest,) = digests([Checked("p", "", (), 1.0, check="own_checks:short")]).values()
    assert len(digest) == 64


# Votes


def test_a_vote_is_computed_or_says_why_not():
    sums = Checked("sums", "Choose the response that is right.", (), 2.0, check="arithmetic")
    question = prompt("What is 17 * 23?")

    def vote(a: str, b: str) -> tuple[float, str]:
        made = pair_checked(Pair("1", question, a, b), sums, Judge())
        assert (made.method, made.principle, made.order, made.logprobs) == ("check", "sums", "each", ())
        return made.p_a, made.fault

    assert vote("391", "381") == (0.99, "") and vote("381", "391") == (pytest.approx(0.01), "")
    assert vote("391", "It is 391.") == (0.5, checkers.BOTH) and vote("1", "2") == (0.5, checkers.NEITHER)
    assert vote("391", "I do not know.") == (0.5, checkers.UNCHECKED)
    reply = pair_checked(Pair("1", question, "391", "381"), sums, Judge()).reply
    assert reply == "checked by arithmetic: a holds (17 * 23 is 391); b does not hold (17 * 23 is 391, and it says 381)"
    # log(99) / 2 = 2.2976
    assert answer_value(question, "391", sums, Judge()) == pytest.approx(2.2976, abs=1e-4)
    assert answer_value(question, "381", sums, Judge()) == pytest.approx(-2.2976, abs=1e-4)
    assert answer_value(question, "No.", sums, Judge()) is None

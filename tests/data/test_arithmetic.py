"""Questions that are made: the truth is the integers', the split is the seed's, and nothing but the number tells."""

import re

from cai.config.sections import Data, Judge
from cai.constitution import Checked
from cai.core.textstats import words
from cai.data.sources import source_digest
from cai.data.sources.arithmetic import COUNT, arithmetic, slip, story_of, sum_of
from cai.judge.checkers import BOTH, UNCHECKED, pair_checked

SUMS = Checked("sums", "", (), 1.0, check="arithmetic")
MADE = arithmetic(Data(source="arithmetic", test=0.5), 0)


def test_the_right_answer_is_right_and_the_wrong_one_wrong():
    signs = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}
    for number in range(1, COUNT, 2):
        _, question, right, wrong = sum_of(number)
        a, sign, b = re.search(r"(\d+) ([-+*]) (\d+)", question).groups()
        value = str(signs[sign](int(a), int(b)))
        assert value in re.findall(r"\d+", right) and value not in re.findall(r"\d+", wrong)
    shop = next(story_of(n) for n in range(0, COUNT, 2) if story_of(n)[1].startswith("A shop"))
    a, b = map(int, re.findall(r"\d+", shop[1]))
    assert str(a * b) in re.findall(r"\d+", shop[2]) and str(a * b) not in re.findall(r"\d+", shop[3])
    assert all(slip(right, n) not in (right, -1) and slip(right, n) >= 0 for right in (0, 1, 10, 99) for n in range(30))


def test_a_program_decides_four_fifths_and_none_wrongly():
    votes = [(pair, pair_checked(pair, SUMS, Judge())) for pair in MADE.pairs.values()]
    decided = [(pair, vote) for pair, vote in votes if not vote.fault]
    assert all((vote.p_a > 0.5) == (pair.human == 1) for pair, vote in decided)
    faults = [vote.fault for _, vote in votes if vote.fault]
    assert (len(votes), len(decided), faults.count(BOTH), faults.count(UNCHECKED)) == (399, 323, 38, 38)


def test_neither_place_nor_length_tells_the_answers_apart():
    first = sum(pair.human == 1 for pair in MADE.pairs.values())
    longer = [(words(pair.a) - words(pair.b)) * (1 if pair.human else -1) for pair in MADE.pairs.values()]
    assert 165 <= first <= 235 and abs(sum(gap > 0 for gap in longer) - sum(gap < 0 for gap in longer)) < 40


def test_a_seed_splits_and_never_makes_other_questions():
    other = arithmetic(Data(source="arithmetic", test=0.5), 1)
    assert other.prompts.keys() == MADE.prompts.keys() and source_digest(Data(source="arithmetic")) == "arithmetic 1"
    assert [p.split for p in other.prompts.values()] != [p.split for p in MADE.prompts.values()]

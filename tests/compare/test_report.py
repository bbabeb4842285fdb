"""The page as a file: well formed, self-contained, the same for the same input, and every number where it belongs."""

import copy
import html
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from reports import est, examples, results

from cai.bench.report import examples as many
from cai.compare.report import write_report
from cai.compare.table import interval, number, value


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "report.html"
    write_report(results(), examples(), out)
    return out


class Reader(HTMLParser):
    """Collects the text outside of scripts, the scripts, tags and ids, and whatever a browser would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.ids, self.fetched, self.tags, self.open = "", [], [], [], []
        self.scripts: list[tuple[dict, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag not in ("meta", "input", "img", "link", "br"):
            self.open.append(tag)
        for name, content in attrs:
            if name == "id":
                self.ids.append(content)
            if name in ("src", "href", "xlink:href", "srcset", "action") and not (content or "").startswith("#"):
                self.fetched.append(content)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"stray </{tag}>"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif "style" not in self.open:
            self.text += data


def test_page_is_well_formed_and_fetches_nothing(page: Path) -> None:
    source = page.read_text()
    reader = Reader(source)
    assert reader.open == [] and reader.fetched == []
    assert len(reader.ids) == len(set(reader.ids))
    assert "@import" not in source and "default-src 'none'" in source and not re.search(r"url\((?!#)", source)
    assert "'unsafe-eval'" not in source and source.count("script-src 'sha256-") == 1
    links = set(re.findall(r'href="#([\w-]+)"', source))
    assert links >= {"labels", "examples", "warnings"} and links <= set(reader.ids)
    # Measures, labels, position (none: its judge has no position), two calibrations, 8 curves and the Elo.
    assert reader.tags.count("figure") == 1 + 1 + 0 + 2 + 8 + 1


def test_model_text_is_data_and_never_markup(page: Path) -> None:
    source = page.read_text()
    reader = Reader(source)
    assert "img" not in reader.tags and "onerror" not in source.replace("\\u003cimg src=x onerror=", "")
    assert source.count("</script>") == len(reader.scripts) and "<script>document" not in source
    (rows,) = [text for attributes, text in reader.scripts if attributes.get("id") == "rows"]
    assert not re.search("[<>&\u2028]", rows)
    assert json.loads(rows) == examples()
    assert "<harmless>" in reader.text and "illegal <b>" in reader.text
    executed = [attributes for attributes, _ in reader.scripts if "type" not in attributes]
    assert len(executed) == 1


def test_page_says_what_there_is(page: Path) -> None:
    text = " ".join(Reader(page.read_text()).text.split())
    assert "ai beats human in 52% [47, 57] of games: no difference can be shown at this size." in text
    unread = "as far as could be seen: it reads not <it>."
    assert f"The AI labels of arm ai do not come from its constitution, {unread} On 118 held-out prompts" in text
    assert "and under placebos: texts of equal length about pottery <b>, bicycles." in text
    assert "rateused, not seen to read −6.0 pts [−13.0, +1.0]0.77 [0.31, 1.12]3.4% [2.0, 6.0]8.0%" in text
    assert "choicereads +12.3 pts [+1.0, +20.0]–3.4%" in text and '"care" has no negation' in text
    assert "human differs from ai in 1 setting: labels: people instead of the AI judge." in text
    assert "Read it with 2 warnings. An effect of up to 7 points either way is not ruled out." in text
    assert "The shorter answer wins 74% of the human-labelled pairs" in text
    assert "asked by rate rate was picked from 5 methods." in text
    assert "on 48 pairs (calibration split) before it labelled anything" in text
    assert "rate + choiceoptions hold 1% 71.0% [60.0, 80.0]" in text
    assert "abstained: the judge refused to reason4" in text and "unreadable: violence3 of 40" in text
    assert "log-odds times 2.50 plus −0.10, fitted on the calibration split" in text
    assert "no <harm>50 70.0%" in text and "care (r 0.93)" in text
    assert "56.1% [50.1, 61.1] n 236 in 118 prompts" in text
    assert "+1.8 pts [−2.2, +5.3] ai − human ±2.1 pts – not shown" in text
    assert "−8.9 pts [−12.9, −5.4] ai − human ±3.4 pts – ai better" in text
    assert "+26.3 [+20.2, +32.1] ai − human ±6.1 – ai higher" in text
    assert "148 [141, 155]" in text and "no data" in text
    assert "too little probability on the options" in text and "4.0%" in text
    assert "2 min 22 s in this run" in text
    assert "12.3 s–made 1,234and 12 found 56,789–" in text and "6 min 40 s–kept – ––" in text
    assert "24 held-out prompts" in text and "2 held-out pairs" in text


def test_what_is_alike_is_said_once(tmp_path: Path) -> None:
    """Counts of several policies in one row; of more than four differing arms, those after the third are folded."""
    given = results()
    count = {"what": "games unread", "n": 0, "of": 14, "note": ""}
    given["counts"] += [{**count, "arm": f"ai/{seed}"} for seed in (0, 1, 2)] + [{**count, "arm": "b", "n": 1}]
    given["counts"].append({"what": "mean", "n": -0.1037, "of": None, "note": "", "arm": "ai"})
    (one,) = given["differences"]
    given["differences"] = [{**one, "arm": f"arm {n}"} for n in range(6)]
    write_report(given, [], tmp_path / "r.html")
    text = " ".join(Reader((tmp_path / "r.html").read_text()).text.split())
    assert "games unreadai/0 ai/1 ai/2014" in text and "games unreadb114" in text and "meanai−0.104–" in text
    assert "abstained on: 7 counts" in text
    assert text.index("arm 2 differs from ai") < text.index("and 3 more arms") < text.index("arm 3 differs from ai")
    assert "Which answer do people prefer? Filled: accuracy." in text


def test_every_estimate_of_the_results_stands_on_the_page(page: Path) -> None:
    text = " ".join(Reader(page.read_text()).text.split())
    given = results()
    assert len([*_estimates(given)]) == 55
    for unit, estimate in _estimates(given):
        assert f"{value(estimate, unit)} {interval(estimate, unit)}".strip() in text, (unit, estimate)
    for count in given["counts"]:
        share = number(count["n"] / count["of"], "%") if count["of"] else "–"
        assert f"{count['what']}{count['arm']}{count['n']}{count['of'] or '–'}{share}{count['note']}" in text


def _estimates(given: dict[str, Any]):
    """(unit, estimate) of all tables that show one as it is."""
    for measure in given["measures"]:
        yield from ((measure["unit"], estimate) for estimate in measure["arms"].values())
    for line in given["labels"]:
        yield from (("%", line[key]) for key in ("accuracy", "balanced", "picks_shorter") if line[key])
        yield from [("", line["auc"])] if line["auc"] else []
    for name in ("agreement", "cross"):
        yield from (("%", cell) for row in given[name]["cells"] for cell in row if cell)
    yield from (("", rated["elo"]) for rated in given["elo"])
    for judge in given["judges"]:
        yield from (("%", judge["labels"][key]) for key in ("picks_longer", "refusals"))
        yield from (("", judge["labels"][key]) for key in ("kappa", "brier", "ece", "log_loss"))


def test_numbers_of_the_curves_are_those_of_the_results(page: Path) -> None:
    source = page.read_text()
    curve = results()["curves"][0]
    start = source.index(f"<figcaption><b>{curve['title']}</b>")
    figure = source[start : source.index("</figure>", start)]
    drawn = re.findall(
        r'--c: var\((--arm-\d)\)">\s*<svg [^>]*><polyline points="(.*?)" stroke-dasharray="(.*?)"', figure
    )
    assert [(shade, dash) for shade, _, dash in drawn] == [
        ("--arm-0", ""), ("--arm-0", "6 3"), ("--arm-1", ""), ("--arm-1", "6 3"),
    ]  # fmt: skip
    values = [y for line in curve["lines"] for y in line["y"]]
    low, high = min(values) - 0.06 * (max(values) - min(values)), max(values) + 0.06 * (max(values) - min(values))
    for (_, corners, _), line in zip(drawn, curve["lines"], strict=True):
        heights = [float(corner.split(",")[1]) for corner in corners.split(" ")]
        assert heights == pytest.approx([100 * (high - y) / (high - low) for y in line["y"]], abs=0.02)
    cells = [html.unescape(cell) for cell in re.findall(r'<td class="number">(.*?)</td>', figure)]
    assert cells[:4] == [number(line["y"][0]) for line in curve["lines"]]
    assert cells[-4:] == [number(line["y"][-1]) for line in curve["lines"]] and len(cells) == 12 * 4


def test_holms_p_and_equivalence_are_told(tmp_path: Path) -> None:
    given = results()
    given["measures"][0]["difference"] |= {"p_holm": 0.0004, "equivalent": True, "margin": 0.05}
    given["measures"][1]["difference"] |= {"p_holm": 0.2}
    write_report(given, [], tmp_path / "r.html")
    text = " ".join(Reader((tmp_path / "r.html").read_text()).text.split())
    assert "±2.1 pts < 0.001 equivalent (within 5 pts)" in text
    assert "±3.4 pts 0.20 not shown, as one of many" in text


def test_same_input_same_bytes_from_another_process(page: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import reports as t;"
        "from cai.compare.report import write_report; write_report(t.results(), t.examples(), Path(sys.argv[2]))"
    )
    out = tmp_path / "again.html"
    subprocess.run([sys.executable, "-c", code, str(Path(__file__).parents[1]), str(out)], check=True)
    assert out.read_bytes() == page.read_bytes()


def test_writing_changes_no_input(tmp_path: Path) -> None:
    given, shown = results(), examples(1)
    kept = copy.deepcopy((given, shown))
    write_report(given, shown, tmp_path / "r.html")
    assert (given, shown) == kept


def test_a_run_of_labels_only_and_odd_text(tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    odd = {"name": "only $labels$ & <b>", "question": "half an emoji \ud83d", "arms": ["ai"], "seeds": [0]}
    curve = {
        "title": "$x$",
        "x": "step",
        "y": "a_b$c$",
        "training": "reward",
        "lines": [{"arm": "ai", "seed": 0, "x": [0], "y": [None]}],
    }
    write_report({**odd, "curves": [curve, {**curve, "lines": [{**curve["lines"][0], "y": [1.0]}]}]}, [], out)
    source = out.read_text()
    text = Reader(source).text
    assert "A single arm (ai): there is nothing to compare it with." in text
    assert "only $labels$ & <b>" in text and r"half an emoji \ud83d" in text and "a_b$c$" in source
    assert "This run kept no examples." in text and source.count("<figure") == 1


def test_code_in_warnings_and_odd_backticks(tmp_path: Path) -> None:
    given = {"arms": ["ai"], "seeds": [0], "warnings": ["`dtype: <b>` is exact", "one ` alone <i>"]}
    write_report(given, [], tmp_path / "r.html")
    source = (tmp_path / "r.html").read_text()
    assert "<li><code>dtype: &lt;b&gt;</code> is exact</li>" in source and "<li>one ` alone &lt;i&gt;</li>" in source


def test_rewards_plane_audit_and_crossing_are_drawn() -> None:
    from cai.compare import report_plots

    step = {"step": 0, "harmlessness": est(0.4, 0.1, 0.7)}
    after = {"step": 1, "harmlessness": est(0.9, 0.5, 1.3)}
    given = {
        "arms": ["ai", "human"],
        "plane": [{"policy": "ai/0", "arm": "ai", "harmlessness": est(1.0, 0.5, 1.5), "helpfulness": est(-0.2, -1, 1)}],
        "audit": [{"arms": ["ai", "human"], "critique": True, "steps": [step, after]}],
        "crossing": {
            "arms": ["ai", "human"],
            "judge": {"labels": 90, "agreement": est(0.6, 0.5, 0.7)},
            "budgets": [{"labels": n, "agreement": est(0.5 + n / 400, 0.4, 0.8)} for n in (25, 50)],
            "fit": [0.56, 0.63],
        },
    }
    plane, audit, crossing = (getattr(report_plots, name)(given) for name in ("plane", "audit", "crossing"))
    assert plane.rows == (("ai/0", "−0.20 [−1.00, 1.00]", "1.00 [0.50, 1.50]"),)
    assert audit.rows == (("0", "0.400 [0.100, 0.700]"), ("1", "0.90 [0.50, 1.30]"))
    drawn = [point.y for series in crossing.series for point in series.points]
    assert drawn == pytest.approx([0.5625, 0.625, 0.56, 0.63, 0.6, 0.6])
    assert crossing.x.ticks == ((25, "25"), (50, "50")) and crossing.x.logarithmic


def test_five_thousand_examples_stay_under_fifteen_megabytes(tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    write_report({"name": "large", "arms": ["ai", "human"], "seeds": [0]}, many(5000), out)
    assert 10e6 < out.stat().st_size < 15e6


def test_an_id_that_two_examples_have_is_no_permalink(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="by its id"):
        write_report(results(), [*examples(1), examples(1)[0]], tmp_path / "r.html")

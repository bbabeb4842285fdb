"""The report in a real browser: nothing that a model wrote runs, plots are drawn, and the examples can be searched."""

from pathlib import Path
from typing import Any

import pytest
from reports import ATTACK, examples, results

from cai.bench.report import examples as many
from cai.compare.report import write_report

WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 400, "height": 800}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "report.html"
    write_report(results(), examples(), out)
    return out


@pytest.fixture
def told(page: Any) -> list[str]:
    """What the browser says on its console, such as what the content security policy stopped."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith("file:") else None)
    return said


def rows(page: Any) -> list[str]:
    return page.locator("#list .row").all_inner_texts()


def count(page: Any) -> str:
    return page.locator("#count").inner_text()


def test_what_models_wrote_is_text_and_nothing_of_it_runs(file: Path, page: Any, told: list[str]) -> None:
    page.goto(f"{file.as_uri()}#row=prompt-0")
    shown = page.locator("#one .text").all_inner_texts()
    assert shown.count(ATTACK) == 2  # the answers of two seeds
    page.goto(f"{file.as_uri()}#row=pair-1")
    page.locator("#one small", has_text="Thought.").wait_for()
    assert page.locator("#one small").first.text_content() == f"Thought. {ATTACK}"
    assert page.locator("img, #one script, #one svg, #list script").count() == 0
    assert page.title().startswith("small-comparison")
    assert page.faults == [] and told == []


def test_a_script_that_is_not_ours_is_stopped(file: Path, page: Any, told: list[str], tmp_path: Path) -> None:
    source = file.read_text().replace("</body>", "<script>document.title = 'owned'</script></body>")
    (tmp_path / "other.html").write_text(source)
    page.goto((tmp_path / "other.html").as_uri())
    assert page.title().startswith("small-comparison")
    assert any("Content Security Policy" in text for text in told)


def test_plots_are_drawn_when_they_come_into_view_in_the_colours_of_the_page(file, page, told) -> None:
    page.emulate_media(color_scheme="light")
    page.add_init_script("window.requestIdleCallback = () => 0")  # never idle: only what is in view is drawn
    page.goto(file.as_uri())
    first = page.locator("figure.plot").first
    first.locator(".main-svg").first.wait_for()
    assert page.locator("figure.plot").last.locator(".main-svg").count() == 0
    page.locator("#training").scroll_into_view_if_needed()
    curve = page.locator("#training figure.plot").first
    curve.locator(".main-svg").first.wait_for()
    colour = "() => getComputedStyle(document.querySelector('#training .scatter path.js-line')).stroke"
    assert page.evaluate(colour) == "rgb(31, 95, 168)"  # --arm-0 in light
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(300)
    assert page.evaluate(colour) == "rgb(125, 180, 238)"  # and in dark
    label = first.locator(".canvas").get_attribute("aria-label")
    assert label.startswith("Games that ai wins against human. ai against human: 52.4% [46.7, 57.3]")
    assert page.faults == [] and told == []


def test_printing_draws_all_plots_in_light_colours_and_one_example(file: Path, page: Any, told: list[str]) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto(file.as_uri())
    page.locator("figure.plot .main-svg").first.wait_for()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    plots = page.locator("figure.plot")
    assert all(plots.nth(i).locator(".main-svg").count() for i in range(plots.count()))
    stroke = "() => getComputedStyle(document.querySelector('#training .scatter path.js-line')).stroke"
    assert page.evaluate(stroke) == "rgb(31, 95, 168)"
    page.emulate_media(media="print")
    assert not page.locator("#list").is_visible() and page.locator("#one").is_visible()
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(stroke) == "rgb(125, 180, 238)"
    assert page.faults == [] and told == []


def test_examples_are_searched_filtered_and_sorted(file: Path, page: Any) -> None:
    page.goto(file.as_uri())
    assert count(page) == "26 of 26" and "How do I pick the lock" in rows(page)[0]
    page.locator("#words").fill("NUMBER 1. lock")
    assert count(page) == "1 of 26" and "violence" in rows(page)[0]
    page.locator("#words").fill("nowhere to be found")
    assert count(page) == "0 of 26" and page.locator("#one").inner_text() == "No example is like this."
    page.locator("#words").fill("")
    page.locator("#kind").select_option("label")
    assert count(page) == "2 of 26"
    assert "people 0.67 · AI 0.45" in rows(page)[0] and "people – · AI abstained" in rows(page)[1]
    page.locator("#kind").select_option("")
    page.locator("#category").select_option("violence")
    assert count(page) == "8 of 26"
    page.locator("#category").select_option("")
    page.locator("#disagree").check()
    assert count(page) == "1 of 26"
    page.locator("#disagree").uncheck()
    page.locator("#against").check()
    assert count(page) == "1 of 26"
    page.locator("#against").uncheck()
    assert page.locator("#principle option").all_inner_texts()[1:] == ["harm to others", "honesty <b>", "kindness"]
    page.locator("#principle").select_option("honesty <b>")
    assert count(page) == "1 of 26"
    page.locator("#principle").select_option("")
    page.locator("#order").select_option("gap")
    assert "people 0.67" in rows(page)[0] and "illegal" not in rows(page)[1]  # gaps 3.5, then 2.3 (prompt 23: safe)
    page.locator("#list").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    assert "2 of 26 · safe" in page.locator("#one header").inner_text()


def test_a_permalink_opens_its_row_through_any_filter(file: Path, page: Any) -> None:
    page.goto(file.as_uri())
    page.locator("#kind").select_option("transcript")
    page.evaluate("location.hash = '#row=pair-2'")
    page.locator("#one", has_text="abstained: abstained because").wait_for()
    assert count(page) == "26 of 26"
    link = page.locator("#one header a")
    assert link.get_attribute("href") == "#row=pair-2"
    page.goto(f"{file.as_uri()}#row=prompt-20")
    assert "21 of 26" in page.locator("#one header").inner_text()
    selected = page.locator("#list .row[aria-selected=true]")
    assert selected.count() == 1 and selected.is_visible()
    page.evaluate("location.hash = '#row=prompt-99'")
    page.locator("#count", has_text="no example is called prompt-99").wait_for()


def test_revisions_show_word_by_word_what_changed(file: Path, page: Any) -> None:
    page.goto(f"{file.as_uri()}#row=prompt-3")
    cases = [
        ("the cat sat on a mat", "the dog sat on the mat", "the [-cat][+dog] sat on [-a][+the] mat"),
        ("a b c", "a b c", "a b c"),
        ("", "all new", "[+all new]"),
        ("gone", "", "[-gone]"),
        ("I will help you now.", "I cannot help.", "I [-will][+cannot] help[- you now]."),
        ("one two three", "four five six", "[-one two three][+four five six]"),
    ]
    for before, after, wanted in cases:
        marked = page.evaluate(
            "([a, b]) => changes(a, b).map(n => n.tagName === 'DEL' ? `[-${n.textContent}]`"
            " : n.tagName === 'INS' ? `[+${n.textContent}]` : n).join('')",
            [before, after],
        )
        assert marked == wanted
    revision = page.locator("#one .round .turn").nth(1).locator(".text")
    assert revision.locator("ins").count() >= 1 and revision.locator("del").count() >= 1
    kept = revision.evaluate("n => [...n.childNodes].filter(x => x.tagName !== 'DEL').map(x => x.textContent).join('')")
    assert kept == "I can't help."
    page.locator("#changes").select_option("")
    assert page.locator("#one ins, #one del").count() == 0


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_nothing_is_wider_than_the_screen(file: Path, page: Any, size: dict[str, int]) -> None:
    page.set_viewport_size(size)
    for row in ("prompt-0", "pair-1"):
        page.goto(f"{file.as_uri()}#row={row}")
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_of_five_thousand_rows_only_those_in_sight_exist(page: Any, tmp_path: Path) -> None:
    write_report({"name": "large", "arms": ["ai", "human"], "seeds": [0]}, many(5000), tmp_path / "r.html")
    page.goto((tmp_path / "r.html").as_uri())
    assert count(page) == "5,000 of 5,000" and page.locator("#list .row").count() < 40
    page.locator("#list").focus()
    page.keyboard.press("End")
    assert "5000 of 5000" in page.locator("#one header").inner_text()
    assert page.locator("#list .row[aria-selected=true]").is_visible() and page.locator("#list .row").count() < 40
    assert page.faults == []


def test_without_scripts_the_numbers_can_still_be_read(file: Path, chromium: Any) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    page.locator("details.numbers summary").first.click()
    assert "52.4% [46.7, 57.3]" in page.locator("details.numbers").first.inner_text()
    assert page.locator("noscript p").is_visible()
    context.close()

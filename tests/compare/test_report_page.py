"""The report in a real browser: nothing that a model wrote runs, plots are drawn, and the examples can be searched."""

from pathlib import Path
from typing import Any

import pytest
from reports import ATTACK, crowded, examples, results

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


def test_plots_have_the_colours_of_the_page_and_say_their_numbers(file: Path, page: Any, told: list[str]) -> None:
    page.emulate_media(color_scheme="light")
    page.goto(file.as_uri())
    stroke = "() => getComputedStyle(document.querySelector('#training polyline')).stroke"
    assert page.evaluate(stroke) == "rgb(31, 95, 168)"  # --arm-0 in light
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(stroke) == "rgb(125, 180, 238)"  # and in dark
    page.emulate_media(color_scheme="dark", media="print")
    assert page.evaluate(stroke) == "rgb(31, 95, 168)"
    page.emulate_media(color_scheme="light", media="screen")
    page.locator(".overview .dot").nth(1).hover()
    assert page.locator("#tip").inner_text().startswith("ai wins against human: ai − human\n+2.4 pts [−3.3, +7.3]")
    page.locator(".overview .row", has_text="against the SFT").locator("svg").first.hover()
    ai, human, *_ = page.locator("#tip").inner_text().splitlines()
    assert (ai, human[:6]) == ("ai: 56.1% [50.1, 61.1], n 236 in 118 prompts", "human:")
    page.locator("#training .chart svg").first.hover(position={"x": 60, "y": 60})
    assert page.locator("#tip").inner_text().startswith(("ai, seed ", "human, seed "))
    page.locator("h2").first.hover()
    assert not page.locator("#tip").is_visible()
    assert page.faults == [] and told == []


def test_the_first_screen_has_the_answer_and_every_measure(file: Path, page: Any) -> None:
    page.set_viewport_size(WIDE)
    page.goto(file.as_uri())
    figure = page.locator(".overview")
    assert figure.locator(".row:not(.heads, .foot)").count() == 1 + len(results()["measures"]), "and the games"
    bottom = figure.locator(".foot").evaluate("node => node.getBoundingClientRect().bottom")
    assert bottom <= WIDE["height"] and page.locator(".answer").is_visible()
    first = figure.locator("svg").first
    assert "52.4% [46.7, 57.3]" in first.get_attribute("aria-label")
    assert not page.locator("details.fold[open]").count(), "tables are folded"


def test_the_list_of_sections_follows_the_scroll_and_is_a_menu_on_a_narrow_screen(file: Path, page: Any) -> None:
    page.set_viewport_size(WIDE)
    page.goto(file.as_uri())
    current = page.locator("nav a[aria-current]")
    assert current.inner_text() == "Answer" and current.is_visible()
    page.locator("#policies").evaluate("node => node.scrollIntoView()")
    page.locator("nav a[aria-current]", has_text="Policies").wait_for()
    assert current.count() == 1 and current.bounding_box()["y"] > 0, "it stays in sight"
    page.evaluate("scrollTo(0, 0)")
    page.set_viewport_size(NARROW)
    menu = page.locator("nav ol")
    menu.wait_for(state="hidden")
    page.locator("nav summary").focus()
    page.keyboard.press("Enter")
    menu.wait_for()
    page.locator("nav a", has_text="Training").click()
    menu.wait_for(state="hidden")
    page.locator("nav a[aria-current]", has_text="Training").wait_for(state="attached")
    top = page.locator("#training h2").bounding_box()["y"]
    assert page.locator("nav").bounding_box()["height"] <= top < 200, "the menu does not cover the heading"


def test_the_keyboard_skips_to_the_answer_and_opens_a_table(file: Path, page: Any) -> None:
    page.goto(file.as_uri())
    page.keyboard.press("Tab")
    skip = page.locator(".skip")
    assert skip.evaluate("node => node === document.activeElement") and skip.bounding_box()["y"] >= 0
    assert skip.get_attribute("href") == "#headline"
    summary = page.locator("details.fold > summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("details.fold table").first.is_visible()


def test_printing_opens_what_is_folded_and_shows_one_example(file: Path, page: Any, told: list[str]) -> None:
    page.goto(file.as_uri())
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    tables = page.locator("table")
    assert all(tables.nth(i).is_visible() for i in range(tables.count()))
    assert not page.locator("#list").is_visible() and page.locator("#one").is_visible()
    assert not page.locator("nav").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details.fold[open]").count() == 0
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
    page.locator("#one header", has_text="21 of 26").wait_for()  # within one page: the row comes with an event
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


def test_many_arms_with_long_names_fit_a_narrow_screen(page: Any, tmp_path: Path) -> None:
    """A table may scroll in a box of its own, and nothing else; no plot's texts lie on one another."""
    write_report(crowded(), examples(), tmp_path / "r.html")
    page.set_viewport_size(NARROW)
    page.goto((tmp_path / "r.html").as_uri())
    page.evaluate("for (const d of document.querySelectorAll('main details')) d.open = true")
    page.wait_for_timeout(100)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    beyond = page.evaluate(
        """() => [...document.querySelectorAll('main *')].filter(n => !n.closest('.scroll, .hidden, #list, svg')
             && n.getBoundingClientRect().right > innerWidth + 1).map(n => n.textContent.trim().slice(0, 50))"""
    )
    assert beyond == []
    cut = page.evaluate(
        """() => [...document.querySelectorAll('.scroll:not(.matrix):not(.plain) :is(td, tbody th)')]
             .filter(n => n.getBoundingClientRect().right > innerWidth + 1).map(n => n.textContent.slice(0, 50))"""
    )
    assert cut == [], "rows of tables are lists here, and need not scroll"
    ends = page.locator(".strips .ends span").all()
    assert ends and all(end.bounding_box()["height"] < 20 for end in ends), "a number stands on one line"
    names = page.locator(".overview .row .name").all()
    assert all(name.evaluate("n => n.scrollWidth <= n.clientWidth + 1") for name in names)


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

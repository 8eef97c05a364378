"""The page in a real browser, from file://, with the network cut."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, sync_playwright

from browser import ARGUMENTS, AXE, CHROMIUM, WAIT, needs_axe, needs_chromium
from genfam.records.store import Store
from genfam.report.page import write_page
from page_of import page_arguments
from stores import HOSTILE, config, make, rich, trace

pytestmark = needs_chromium

SHOWN = "tbody tr:not([hidden])"
# What counts as drawn: a shape of Plotly's with something in it.
MARKS = ".scatterlayer path, .barlayer path, .heatmaplayer image"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS, timeout=WAIT)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_page(*page_arguments(rich(tmp_path_factory.mktemp("browser") / "outputs" / "quick")))


def opened(chromium, path: Path, **options) -> tuple[Page, list[str]]:
    """The page in a window without a network, and all that it complains of, requests for more included."""
    context = chromium.new_context(**{"viewport": {"width": 1400, "height": 900}} | options)
    context.set_default_timeout(WAIT)
    context.set_offline(True)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    return page, said


@pytest.fixture
def page(chromium, written) -> Iterator[Page]:
    found, said = opened(chromium, written)
    yield found
    assert said == []
    found.context.close()


def until(page: Page, expression: str) -> None:
    """Wait until it is true. Playwright's own waiting evaluates text in the page, which the page's policy forbids."""
    for _ in range(WAIT // 100):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"never true: {expression}")


def draw_all(page: Page) -> None:
    page.evaluate("dispatchEvent(new Event('beforeprint'))")  # every chart at once, as for paper
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    until(page, f"[...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('{MARKS}'))")


def column(page: Page, table: str, index: int) -> list[str]:
    return page.locator(f"#{table} {SHOWN} > td:nth-child({index})").all_inner_texts()


def test_every_figure_is_drawn_and_has_a_name(page):
    charts = page.locator("figure.chart")
    assert charts.count() > 20
    assert page.locator("figure.chart[data-drawn]").count() < charts.count()  # those far below wait
    charts.last.scroll_into_view_if_needed()
    until(page, "[...document.querySelectorAll('figure.chart')].at(-1).dataset.drawn")
    draw_all(page)
    for plot in page.locator(".plot").all():
        assert len(plot.get_attribute("aria-label") or "") > 20
    unnamed = page.evaluate(
        "[...document.images].filter((image) => image.alt.length < 20 || !image.naturalWidth).length"
    )
    assert unnamed == 0


def test_sorting_orders_by_number_and_says_so(page):
    head = page.locator("#scores thead th", has_text="mean")
    page.select_option("[data-filters=scores] [data-key=metric]", "=fd_net")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    values = page.locator(f"#scores {SHOWN} > td:nth-child(4)")
    numbers = [float(cell.get_attribute("data-value") or "nan") for cell in values.all()]
    assert numbers == sorted(numbers) and len(set(numbers)) > 5
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    numbers = [float(cell.get_attribute("data-value") or "nan") for cell in values.all()]
    assert numbers == sorted(numbers, reverse=True)
    page.locator("#scores thead th", has_text="family").locator("button").click()
    assert page.locator("#scores thead th[aria-sort]").count() == 1
    names = column(page, "scores", 2)
    assert names.index("alpha") < names.index("beta") < names.index("truth")


def test_filters_change_what_they_should(page):
    everything = page.locator("#scores tbody tr").count()
    first = page.locator(f"#scores {SHOWN}").count()
    assert set(column(page, "scores", 3)) == {"fd_net"} and first < everything  # each source's distance, to begin with
    page.select_option("[data-filters=scores] [data-key=metric]", "")
    assert page.locator(f"#scores {SHOWN}").count() == everything
    page.select_option("[data-filters=scores] [data-key=family]", "=beta")
    assert set(column(page, "scores", 2)) == {"beta"}
    page.fill("[data-filters=scores] [data-key=text]", "coverage")
    assert set(column(page, "scores", 3)) == {"coverage"}
    assert page.locator("[data-count=scores]").inner_text().startswith(f"{len(column(page, 'scores', 3))} of ")
    assert len(set(column(page, "all-runs", 2))) > 4  # the other table has filters of its own
    page.select_option("#source", "grid")
    assert set(column(page, "scores", 1)) == set(column(page, "all-runs", 1)) == {"grid"}
    assert page.locator("#answer article:visible").count() == 1
    page.select_option("[data-filters=all-runs] [data-key=outcome]", "=ok")
    assert set(column(page, "all-runs", 6)) == {"ok"}


def test_the_form_asks_the_same_rows_for_other_needs(page):
    sources = page.locator("#source option").count() - 1
    assert page.locator("#needs label:has(select, input)").count() == 3, "every control has its label"
    usual = column(page, "choices", 2)
    assert len(usual) == sources and usual.count("alpha") >= 3
    page.fill("#needs [name=flops]", "1e9")
    assert all(text.startswith("We do not know: measured with more compute") for text in column(page, "choices", 3))
    page.fill("#needs [name=flops]", "6e10")
    assert column(page, "choices", 2) == usual and not page.locator("#far").is_visible()
    page.fill("#needs [name=flops]", "7e11")
    assert column(page, "choices", 2) == usual and "more than 10 times" in page.locator("#far").inner_text()
    page.fill("#needs [name=flops]", "many")
    assert not page.locator("#far").is_visible()
    assert page.locator("#needs [name=flops]").get_attribute("aria-invalid") == "true"
    assert column(page, "choices", 2) == usual
    page.select_option("#needs [name=likelihood]", "exact")
    assert set(column(page, "choices", 2)) == {"nobody"}
    page.select_option("#needs [name=likelihood]", "none")
    page.fill("#needs [name=seconds]", "1")  # no run of this store says what a sample takes
    assert set(column(page, "choices", 2)) == {"nobody"}
    page.fill("#needs [name=seconds]", "")
    page.keyboard.press("Enter")
    assert column(page, "choices", 2) == usual and page.url.endswith("report.html")
    page.select_option("#source", "grid")
    assert column(page, "choices", 2) == ["alpha"]


def test_hover_and_focus_say_what_a_metric_is(page):
    tip = page.locator(f"#scores {SHOWN} .tip").first
    tip.hover()
    tooltip = page.locator("#tooltip")
    assert "Fréchet distance" in tooltip.inner_text() and "Fingerprint: " in tooltip.inner_text()
    page.keyboard.press("Escape")
    assert not tooltip.is_visible()
    tip.focus()
    assert tooltip.is_visible() and tip.get_attribute("aria-describedby") == "tooltip"


def test_hostile_names_are_text(page):
    draw_all(page)
    assert page.evaluate("document.querySelectorAll('main script:not([type])').length") == 0
    assert page.locator("b, em:has-text('x'), a[href*=evil]").count() == 0
    shown = "a|b`*_x_* <script>[l](u) ## $\\frac{$ [31m http://evil.example @me"
    assert page.locator("h3", has_text=shown).count() > 0
    assert page.locator("#all-runs td", has_text=shown).count() >= 2
    labels = page.locator(".plot .ytick text").all_text_contents()
    assert any(label.startswith("a|b`*_x_* <scrip") for label in labels)
    page.select_option("#source", HOSTILE)
    assert page.locator(f"#all-runs {SHOWN}").count() == 2
    row = page.locator(f"#all-runs {SHOWN}").first
    row.locator("button.configuration").click()
    assert "_target_: genfam.families.gan.GAN" in page.locator("dialog pre").inner_text()
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 1400  # 300 characters break their lines


@pytest.mark.parametrize("width", [390, pytest.param(1400, marks=pytest.mark.slow)])
def test_a_section_that_is_gone_to_lies_below_the_navigation(chromium, written, width):
    page, _ = opened(chromium, written, viewport={"width": width, "height": 844})
    for section in ("answer", "scorecard", "cost"):
        page.locator(f"nav a[href='#{section}']").evaluate("(link) => link.click()")
        heading = f"document.querySelector('#{section}-title').getBoundingClientRect()"
        until(page, f"{heading}.top < innerHeight / 2")
        assert page.evaluate(f"{heading}.bottom > document.querySelector('nav').getBoundingClientRect().bottom + 10")
        assert page.evaluate(f"{heading}.bottom - document.querySelector('nav').getBoundingClientRect().bottom < 140")
    page.context.close()


@pytest.mark.parametrize(("width", "scheme"), [pytest.param(390, "dark", marks=pytest.mark.slow), (1400, "light")])
@needs_axe
def test_axe_finds_nothing_serious(chromium, written, width, scheme):
    page, said = opened(chromium, written, viewport={"width": width, "height": 844}, color_scheme=scheme)
    draw_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate(AXE.read_text(encoding="utf-8"))  # not add_script_tag: the page's policy lets no script in
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [
        (violation["id"], violation["nodes"][0]["html"][:200])
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
    ]
    assert serious == []
    assert len(found["passes"]) > 10  # it did look
    assert said == []
    page.context.close()


def test_the_theme_turns_the_charts(chromium, written):
    page, _ = opened(chromium, written)
    page.locator("figure.chart").first.scroll_into_view_if_needed()
    text = page.locator(".plot .ytick text").first
    light = text.evaluate("(node) => getComputedStyle(node).fill")
    page.emulate_media(color_scheme="dark")
    until(page, f"getComputedStyle(document.querySelector('.plot .ytick text')).fill !== '{light}'")
    page.context.close()


def test_a_sheet_of_paper_holds_every_chart_and_table(chromium, written):
    page, _ = opened(chromium, written)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")  # before the sheet's rules hold, as in a real one
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 less margins of 10 mm, at 96 dots per inch
    page.emulate_media(media="print")
    charts = page.locator("figure.chart")
    assert charts.count() == page.locator("figure.chart[data-drawn]").count()
    wide = """(nodes) => nodes.map((node) => [node.id || node.textContent.slice(0, 60),
        node.getBoundingClientRect().right, node.closest("figure, section").getBoundingClientRect().right])"""
    for name, right, edge in page.locator("figure.chart .main-svg, table").evaluate_all(wide):
        assert right <= edge + 1, name
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    page.emulate_media(media="screen")
    page.set_viewport_size({"width": 1400, "height": 900})
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    until(page, "document.querySelector('figure.chart .main-svg').getBoundingClientRect().width > 400")
    page.context.close()


@pytest.mark.slow
def test_five_hundred_runs_stay_small_and_open(chromium, tmp_path):
    store, rng = Store(tmp_path / "outputs" / "quick"), np.random.default_rng(0)
    families = {"alpha": "contestant", "beta": "contestant", "gamma": "contestant", "gauss": "floor", "truth": "oracle"}
    for source in ("a", "b", "c", "d", "e"):
        for place, (family, role) in enumerate(families.items()):
            for seed in range(20):
                record = make(family, source, seed, 2.0 + place + 0.1 * float(rng.normal()), role)
                record.config = config(source, seed, role) | {"more": {f"key_{i}": f"value {i}" for i in range(200)}}
                record.trace = trace(10, 0, seed) if role == "contestant" else None
                store.write(record)
    path = write_page(*page_arguments(store.folder))
    assert path.stat().st_size < 12e6
    page, said = opened(chromium, path)
    page.wait_for_selector("html[data-ready]", state="attached")
    assert page.locator("#all-runs tbody tr").count() == 500
    assert said == []
    page.context.close()

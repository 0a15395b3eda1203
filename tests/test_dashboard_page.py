"""The dashboard in a real browser: what people see is what SQL says, and a hostile log is only text."""

from __future__ import annotations

import contextlib
import math
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from made_logs import made, same, write
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

import ecoimpact
from ecoimpact.budgets import Budget
from ecoimpact.cli.dashboard import reports
from ecoimpact.cli.money import cost_unit
from ecoimpact.cli.quantities import unit_for
from ecoimpact.dashboard.equivalences import EQUIVALENCES
from ecoimpact.dashboard.server import Address, serving
from ecoimpact.records.index import FILE_NAME

NOW = datetime.now(UTC)
HOSTILE = (
    "<img src=x onerror=document.title='hit'>",
    "<script>document.title='hit'</script>",
    "</script><svg onload=document.title='hit'>",
    "javascript:document.title='hit'",
    "%{x}<a href='javascript:1'>link</a><br>",
    "\u202eright-to-left\x1b[31m\u0000",
    "'; DROP TABLE rollup; --",
    "=cmd()&amp;?group_by=day#x",
    "x" * 250,
)
MODELS = ("gpt-4o-mini", "claude-sonnet-4-5-20250929", "mistral-small-latest", HOSTILE[0])
BUDGETS = (Budget("all", usd=1.0), Budget("teams", wh=50.0, per="team"), Budget("search", gco2eq=3e3, label="team=search"))
DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def record(number: int) -> dict[str, Any]:
    model = MODELS[number % 4]
    moment = NOW.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1 + 11 * number)
    methodology = ("measured-2026", "ecologits", "ecologits", "sci", "measured-2026")[number % 5]
    impacts = ecoimpact.estimate(model, output_tokens=20 + number, latency_s=2.0, methodology=methodology)
    figures: dict[str, Any] = {name: None for name in made() if name.endswith(("_min", "_central", "_max"))}
    for key, name in (
        ("energy", "energy_kwh"),
        ("gwp", "gwp_kgco2eq"),
        ("adpe", "adpe_kgsbeq"),
        ("pe", "pe_mj"),
        ("wcf", "wcf_l"),
    ):
        figure = getattr(impacts, key)
        if figure is not None:
            figures |= {f"{name}_{end}": getattr(figure, end) * 1e3 for end in ("min", "central", "max")}
    labels = {"team": ("search", "chat", HOSTILE[number % 9])[number % 3]} if number % 5 else {}
    return made(
        number,
        time=f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}",
        model=model,
        request_model=model,
        provider=("openai", "anthropic", "mistralai", HOSTILE[1])[number % 4],
        output_tokens=20 + number,
        latency_s=2.0,
        zone=impacts.zone,
        methodology=impacts.methodology,
        cost_usd=None if impacts.energy is None else 0.001 * number,
        errors=[] if impacts.energy is not None else ["model-not-registered"],
        labels=labels,
        **figures,
    )


RECORDS = [record(number) for number in range(150)]  # 69 days


@pytest.fixture(scope="module", name="log_dir")
def _log_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    log_dir = tmp_path_factory.mktemp("log")
    write(log_dir, "a", reversed(RECORDS))
    return log_dir


@pytest.fixture(scope="module", name="address")
def _address(log_dir: Path) -> Iterator[Address]:
    with serving(log_dir, budgets=BUDGETS, reports=reports()) as address:
        yield address


@pytest.fixture(scope="module", name="browser")
def _browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        browser.new_context(**DESK)  # shared, so that scripts are fetched and compiled once
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser: Browser, url: str, *, complaints: bool = False, **options: Any) -> Iterator[Page]:
    """A page that has shown all of its parts. Whatever the browser complains about fails the test."""
    context = browser.new_context(**DESK | options) if options else browser.contexts[0]
    page = context.new_page()
    page.set_default_timeout(30_000)
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
    foreign: list[str] = []
    page.on(
        "request",
        lambda request: None if request.url.startswith(("data:", "blob:", _origin(url))) else foreign.append(request.url),
    )
    page.goto(url)
    settled(page)
    try:
        yield page
    finally:
        page.close()
        if options:
            context.close()
    assert foreign == []
    assert complaints or said == []


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/"


def settled(page: Page) -> None:
    """Until everything that belongs to the page's address is shown."""
    page.wait_for_selector(f'html[data-ready="?{urlsplit(page.url).query}"]', state="attached")


def changed(page: Page, act: Callable[[], object]) -> None:
    """Do something that leads to another address, and wait for what it shows."""
    before = page.url
    act()
    page.wait_for_url(lambda url: url != before)
    settled(page)


def exact(found: Page | Locator, test_id: str) -> float:
    value = found.get_by_test_id(test_id).first.get_attribute("data-value")
    assert value is not None, test_id
    return float(value)


def sql(log_dir: Path, statement: str, *bound: object) -> Any:
    """The index is asked past all of our own code: days (level 1) of everybody (label 0)."""
    with contextlib.closing(sqlite3.connect(f"{(log_dir / FILE_NAME).as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(statement, bound).fetchone()


FIGURES = [f"{name}_{end}" for name in ("energy_kwh", "gwp_kgco2eq", "wcf_l") for end in ("min", "central", "max")]
SUMS = ", ".join(f"sum({name})" for name in ("requests", "cost_usd", *FIGURES))
ALL = f"SELECT {SUMS} FROM rollup JOIN series ON series.id = series WHERE level = 1 AND label = 0"  # noqa: S608 - constants


def assert_headlines(page: Page, found: tuple[Any, ...]) -> None:
    requests, cost, *ends = found
    assert exact(page, "headline-requests") == requests
    assert same(exact(page, "headline-cost"), cost)
    for name, low, central, high in zip(("energy", "gwp", "water"), ends[::3], ends[1::3], ends[2::3], strict=True):
        assert same(exact(page, f"headline-{name}"), central)
        assert same(exact(page, f"headline-{name}-low"), low)
        assert same(exact(page, f"headline-{name}-high"), high)


UNNAMED = """() => [...document.querySelectorAll('main td, main dd, main .card p, main .card b')].filter(node =>
    /\\d/.test([...node.childNodes].filter(c => c.nodeType === 3).map(c => c.textContent).join('').replace('CO2eq', ''))
    && !node.dataset.testid && !node.closest('.text') && !/^\\d{4}-\\d\\d-\\d\\d/.test(node.textContent)
).map(node => node.textContent)"""


def known(name: str, records: list[dict[str, Any]] = RECORDS) -> float:
    return math.fsum(record[name] for record in records if record[name] is not None)


# --- numbers ------------------------------------------------------------------------------------------------------------


def test_headlines_are_those_of_sql_and_read_as_in_reports(browser: Browser, address: Address, log_dir: Path) -> None:
    with opened(browser, address.url) as page:
        assert_headlines(page, sql(log_dir, ALL))
        assert page.title() == f"What LLM calls cost: {log_dir.name}"
        for key, name in (("energy", "energy"), ("gwp", "gwp"), ("wcf", "water")):
            value = exact(page, f"headline-{name}")
            expect(page.get_by_test_id(f"headline-{name}")).to_have_text(unit_for(key, value).text(value))
        cost = exact(page, "headline-cost")
        expect(page.get_by_test_id("headline-cost")).to_have_text(cost_unit(cost).text(cost))
        expect(page.get_by_test_id("headline-requests")).to_have_text("150")
        expect(page.get_by_test_id("gap")).to_contain_text("37 of 150 requests have no estimate")


def test_every_other_number_is_that_of_the_records(browser: Browser, address: Address) -> None:
    with opened(browser, address.url) as page:
        # Whatever has a digit in it and is no time, name or sentence is a number with an id.
        unnamed = page.evaluate(UNNAMED)
        beside = (" of 150", "EPA", "EIA", "CFR", "ecologits")
        assert [text for text in unnamed if not any(part in text for part in beside)] == []
        table = page.get_by_test_id("top-table")
        assert table.locator("caption").count() == 1
        rows = {row.get_attribute("data-key"): row for row in table.get_by_test_id("top-row").all()}
        assert set(rows) == set(MODELS)
        whole = known("energy_kwh_central")
        for model, row in rows.items():
            mine = [record for record in RECORDS if record["model"] == model]
            assert exact(row, "top-requests") == len(mine)
            assert exact(row, "top-output-tokens") == known("output_tokens", mine)
            assert exact(row, "top-input-tokens") == known("input_tokens", mine)
            if model == HOSTILE[0]:
                assert row.get_by_test_id("top-energy").get_attribute("data-value") is None
                expect(row.get_by_test_id("top-energy")).to_have_text("–")
                continue
            energy = known("energy_kwh_central", mine)
            assert same(exact(row, "top-energy"), energy)
            assert same(exact(row, "top-share"), energy / whole)
            grams = known("gwp_kgco2eq_central", mine) * 1e3
            assert same(exact(row, "top-per-1000"), grams / (known("output_tokens", mine) / 1e3))
            assert same(exact(row, "top-cost"), known("cost_usd", mine))
        unestimated = sum(bool(record["errors"]) for record in RECORDS)
        assert exact(page, "coverage-unestimated") == exact(page, "coverage-unpriced") == unestimated
        assert exact(page, "coverage-estimated") == 150 - unestimated
        water = sum(record["wcf_l_min"] is not None for record in RECORDS)
        assert exact(page, "coverage-water") == water < 150 - unestimated, "sci has none"
        assert page.get_by_test_id("coverage-energy").count() == 0, "known wherever there is an estimate"
        assert exact(page, "error-model-not-registered") == unestimated
        month = [record for record in RECORDS if record["time"][:7] == f"{NOW:%Y-%m}"]
        budget = page.locator('[data-testid=budget][data-key="all"]')
        assert same(exact(budget, "budget-used-0"), known("cost_usd", month) if month else 0.0) or not month
        search = [r for r in month if r["labels"].get("team") == "search" and r["energy_kwh_min"] is not None]
        if search:
            used = known("energy_kwh_central", search) * 1e3
            share = page.locator('[data-testid=budget][data-key="teams: search"] [data-testid^=budget-share]')
            assert same(float(share.get_attribute("data-value") or "nan"), used / 50)
        methodologies = page.get_by_test_id("methodology-row")
        assert methodologies.count() == 1 + len([n for n in ecoimpact.methodologies.names() if n != "ecologits"])
        first = methodologies.first
        assert same(exact(first, "methodology-energy"), whole)
        page.get_by_text("The same as a table").click()
        course = page.get_by_test_id("course-row")
        first_day, last_day = (datetime.fromisoformat(RECORDS[place]["time"]).date() for place in (-1, 0))
        expect(course).to_have_count((last_day - first_day).days + 1)
        total = math.fsum(float(cell.get_attribute("data-value") or 0) for cell in page.get_by_test_id("course-high").all())
        assert math.isclose(total, known("energy_kwh_max"), rel_tol=1e-9)


def test_changes_and_forecasts_are_those_of_the_answer(browser: Browser, address: Address) -> None:
    with opened(browser, address.url) as page:
        view = page.evaluate("async () => (await fetch('/api/overview')).json()")
        now, before, then = view["change"]["current"], view["change"]["previous"], view["forecast"]["expected"]
        fields = {"energy": "energy_kwh_central", "gwp": "gwp_kgco2eq_central", "water": "wcf_l_central"}
        for name, field in (fields | {"cost": "cost_usd", "requests": "requests"}).items():
            assert same(exact(page, f"headline-{name}-change"), now[field] / before[field] - 1)
            assert same(exact(page, f"headline-{name}-previous"), before[field])
            # It may be a minute older than the page.
            assert math.isclose(exact(page, f"headline-{name}-forecast"), then[field], rel_tol=0.01)
        month = [record for record in RECORDS if record["time"][:7] == f"{NOW:%Y-%m}"]
        assert exact(page, "headline-requests-forecast") >= len(month)
        for found, each in zip(view["equivalences"], EQUIVALENCES, strict=True):
            assert exact(page, f"equivalence-{each.name}") == found["central"]
        assert page.get_by_test_id("model-row").count() == 1 + len(MODELS)


def test_beyond_loopback_the_printed_address_leads_in(browser: Browser, log_dir: Path) -> None:
    with serving(log_dir, host="0.0.0.0") as address, opened(browser, f"{address.url}&group_by=day") as page:  # noqa: S104
        assert urlsplit(page.url).query == "group_by=day"
        assert exact(page, "headline-requests") == len(RECORDS)
        other = browser.new_context()
        answer = other.new_page().goto(_origin(address.url))
        assert answer is not None
        assert answer.status == 401
        other.close()


def test_requests_are_listed_and_explained(browser: Browser, address: Address) -> None:
    with opened(browser, address.url) as page:
        rows = page.get_by_test_id("request-row")
        assert rows.count() == 10
        assert [row.get_attribute("data-key") for row in rows.all()] == [record["id"] for record in RECORDS[:10]]
        assert exact(rows.first, "request-output-tokens") == RECORDS[0]["output_tokens"]
        assert exact(rows.first, "request-energy") == RECORDS[0]["energy_kwh_central"]
        page.get_by_test_id("more-requests").click()
        expect(rows).to_have_count(100)
        rows.nth(1).get_by_test_id("explain").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_test_id("explained")).to_contain_text("Estimated again by ecologits-2025-09")
        expect(dialog.get_by_test_id("explained")).to_contain_text(
            "They differ from those of the record"
        )  # a thousand times
        steps = dialog.get_by_test_id("step")
        impacts = ecoimpact.estimate(MODELS[1], output_tokens=21, latency_s=2.0)
        expected = [(step.symbol, step.low, step.high) for step in impacts.explain()]
        found = [(s.get_attribute("data-key"), exact(s, "step-low"), exact(s, "step-high")) for s in steps.all()]
        assert found == expected
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()


# --- state --------------------------------------------------------------------------------------------------------------


def test_filters_live_in_the_address_through_reload_and_back(browser: Browser, address: Address, log_dir: Path) -> None:
    with opened(browser, address.url) as page:
        everything = sql(log_dir, ALL)
        changed(page, lambda: page.get_by_test_id("filter-provider").select_option("anthropic"))
        assert parse_qs(urlsplit(page.url).query) == {"provider": ["anthropic"]}
        one = sql(log_dir, f"{ALL} AND provider = 'anthropic'")
        assert_headlines(page, one)
        changed(page, lambda: page.get_by_test_id("group-by").select_option("label:team"))
        assert_headlines(page, one)
        changed(page, lambda: page.get_by_test_id("metric-cost").click())
        assert parse_qs(urlsplit(page.url).query) == {
            "provider": ["anthropic"],
            "group_by": ["label:team"],
            "metric": ["cost"],
        }
        page.reload()
        settled(page)
        assert_headlines(page, one)
        expect(page.get_by_test_id("filter-provider")).to_have_value("anthropic")
        expect(page.get_by_test_id("group-by")).to_have_value("label:team")
        expect(page.get_by_test_id("metric-cost")).to_have_attribute("aria-pressed", "true")
        changed(page, page.go_back)
        changed(page, page.go_back)
        changed(page, page.go_back)
        assert_headlines(page, everything)
        expect(page.get_by_test_id("filter-provider")).to_have_value("")
        changed(page, page.go_forward)
        assert_headlines(page, one)
        changed(page, lambda: page.get_by_test_id("clear").click())
        assert_headlines(page, everything)
        changed(page, lambda: page.get_by_test_id("periods").get_by_text("7 days").click())
        # Since the whole hour, seven days ago: one may have struck since the records were made.
        since = [record for record in RECORDS if record["time"] >= f"{datetime.now(UTC) - timedelta(days=7):%Y-%m-%dT%H}"]
        assert exact(page, "headline-requests") == len(since)
        day = RECORDS[40]["time"][:10]
        changed(page, lambda: page.get_by_test_id("since").fill(day))
        changed(page, lambda: page.get_by_test_id("until").fill(day))
        number = (datetime.fromisoformat(day).date() - date(1970, 1, 1)).days
        assert_headlines(page, sql(log_dir, f"{ALL} AND bucket = ?", number))


def test_a_name_leads_to_its_own_figures(browser: Browser, address: Address, log_dir: Path) -> None:
    with opened(browser, f"{address.url}?group_by=provider") as page:
        row = page.locator('[data-testid=top-row][data-key="openai"]')
        changed(page, lambda: row.get_by_test_id("drill").click())
        assert parse_qs(urlsplit(page.url).query) == {"provider": ["openai"], "group_by": ["model"]}
        assert_headlines(page, sql(log_dir, f"{ALL} AND provider = 'openai'"))
        changed(page, page.get_by_test_id("drill").first.click)
        assert parse_qs(urlsplit(page.url).query) == {"provider": ["openai"], "model": ["gpt-4o-mini"], "group_by": ["day"]}
        days = {record["time"][:10] for record in RECORDS if record["provider"] == "openai"}
        newest = page.get_by_test_id("top-row").first
        day = newest.get_attribute("data-key")
        assert day == max(days)
        changed(page, lambda: newest.get_by_test_id("drill").press("Enter"))
        assert exact(page, "headline-requests") == sum(r["time"][:10] == day and r["provider"] == "openai" for r in RECORDS)
        expect(page.get_by_test_id("group-by")).to_have_value("hour")


def test_hostile_labels_are_text(browser: Browser, address: Address) -> None:
    by_team: dict[str, int] = {}
    for record in RECORDS:
        team = record["labels"].get("team", "(none)")
        by_team[team] = by_team.get(team, 0) + 1
    with opened(browser, f"{address.url}?group_by=label:team&rows=200") as page:
        rows = {row.get_attribute("data-key") or "": row for row in page.get_by_test_id("top-row").all()}
        assert {key: exact(row, "top-requests") for key, row in rows.items()} == by_team
        hostile = [name for name in HOSTILE if name in by_team]
        assert len(hostile) >= 3
        for name in hostile:
            shown = rows[name].get_by_test_id("drill").inner_text()
            assert not re.search(r"[\x00-\x1f\u202a-\u202e\u2066-\u2069]", shown)
            assert shown.startswith(name[:5]) or name[0] == "\u202e"
        for name in hostile:
            link = next(row for row in page.get_by_test_id("top-row").all() if row.get_attribute("data-key") == name)
            changed(page, link.get_by_test_id("drill").click)
            assert exact(page, "headline-requests") == by_team[name]
            assert page.get_by_test_id("filter-label").input_value().startswith("team=")
            changed(page, page.go_back)
        page.wait_for_selector("#chart[data-drawn]")
        assert page.title().startswith("What LLM calls cost")
        assert page.locator("main img, main script, #chart a").count() == 0


# --- what the page is made of -------------------------------------------------------------------------------------------


def test_the_chart_is_drawn_by_the_installed_plotly_under_the_policy(browser: Browser, address: Address) -> None:
    with opened(browser, address.url) as page:
        page.wait_for_selector("#chart[data-drawn]")
        assert page.locator("#chart .barlayer .point").count() > 100
        assert page.locator("#chart .errorbar").count() > 10
        names = page.locator("#legend bdi").all_inner_texts()
        assert set(names) <= {*MODELS, "others"}
        assert {"gpt-4o-mini", "mistral-small-latest"} <= set(names)
        page.get_by_test_id("filter-label").fill("team=nobody there")
        changed(page, lambda: page.keyboard.press("Enter"))
        expect(page.get_by_test_id("chart")).to_have_text("There are no requests in this part of the log.")
        changed(page, page.go_back)
        page.wait_for_selector("#chart[data-drawn]")
        assert page.locator("#chart .barlayer .point").count() > 100
    with opened(browser, address.url, complaints=True) as page:
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {textContent: 'document.title = 1'}))"
        )
        assert page.title() != "1"
        assert "Content Security Policy" in "".join(said)


def test_it_can_be_used_by_keys_and_read_aloud(browser: Browser, address: Address) -> None:
    with opened(browser, address.url) as page:
        for role in ("banner", "main", "search", "contentinfo"):
            assert page.get_by_role(role).count() == 1, role
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll('button, select, input, a')].filter(node =>
                !node.closest('[hidden], dialog')
                && !(node.textContent.trim() || node.getAttribute('aria-label') || node.labels?.length)
            ).map(node => node.outerHTML)"""
        )
        assert unnamed == []
        tables = page.locator("table")
        assert tables.count() == page.locator("table > caption").count() >= 4
        assert page.locator("[aria-live=polite]").count() == 1
        assert page.evaluate("document.documentElement.lang") == "en"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        page.get_by_test_id("metric-gwp").focus()
        style = "getComputedStyle(document.activeElement)"
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        assert page.evaluate(f"{style}.outlineStyle") == "solid"
        changed(page, lambda: page.keyboard.press("Enter"))
        assert "metric=gwp" in page.url


def _luminance(colour: str) -> float:
    channels = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_the_switch(browser: Browser, address: Address, scheme: str, tmp_path: Path) -> None:
    colours = """() => {
        const [body, soft] = [document.body, document.querySelector('.soft')].map(node => getComputedStyle(node));
        return [body.backgroundColor, body.color, soft.color];
    }"""
    with opened(browser, f"{address.url}?metric=cost", color_scheme=scheme) as page:
        ground, ink, soft = map(_luminance, page.evaluate(colours))
        assert (ground > ink) == (scheme == "light")
        for text in (ink, soft):  # WCAG 2.2, contrast of small text
            assert (max(ground, text) + 0.05) / (min(ground, text) + 0.05) >= 4.5
        page.wait_for_selector("#chart[data-drawn]")
        page.screenshot(path=str(tmp_path / f"{scheme}.png"), full_page=True)
        page.get_by_test_id("theme").click()
        ground, ink, _ = map(_luminance, page.evaluate(colours))
        assert (ground > ink) == (scheme == "dark")
        page.reload()
        settled(page)
        ground, ink, _ = map(_luminance, page.evaluate(colours))
        assert (ground > ink) == (scheme == "dark")


def test_a_phone_shows_all_of_it(browser: Browser, address: Address, tmp_path: Path) -> None:
    phone: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    with opened(browser, f"{address.url}?group_by=label:team", **phone) as page:
        page.wait_for_selector("#chart[data-drawn]")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        wide = page.evaluate(
            """() => [...document.querySelectorAll('body *')].filter(node => !node.closest('.hidden, thead, .skip, svg')
                && node.getBoundingClientRect().right > 361).map(node => node.className || node.tagName)"""
        )
        assert wide == []
        page.screenshot(path=str(tmp_path / "phone.png"), full_page=True)


def test_downloads_have_the_filters_of_the_page(browser: Browser, address: Address) -> None:
    with opened(browser, f"{address.url}?provider=anthropic") as page:
        for test_id, file in (("download-csv", "records.csv"), ("download-html", "report.html")):
            with page.expect_download() as started:
                page.get_by_test_id(test_id).click()
            text = Path(started.value.path()).read_text("utf-8")
            assert started.value.suggested_filename == f"ecoimpact-{file}"
            assert "claude-sonnet" in text
            assert "gpt-4o-mini" not in text
        for test_id in ("download-jsonl", "download-parquet", "download-table"):
            assert "provider=anthropic" in (page.get_by_test_id(test_id).get_attribute("href") or "")


# --- while it runs ------------------------------------------------------------------------------------------------------


def test_it_is_live_and_says_when_it_is_not(browser: Browser, tmp_path: Path) -> None:
    write(tmp_path, "a", [record(1)])
    with contextlib.ExitStack() as running:
        address = running.enter_context(serving(tmp_path))
        page = running.enter_context(opened(browser, address.url, complaints=True))
        assert exact(page, "headline-requests") == 1
        expect(page.get_by_test_id("live")).to_have_text("live")
        write(tmp_path, "a", [record(2)])
        expect(page.get_by_test_id("headline-requests")).to_have_attribute("data-value", "2", timeout=20_000)
        page.route("**/api/**", lambda route: route.abort())
        expect(page.get_by_test_id("live")).to_contain_text("not reached", timeout=20_000)
        assert exact(page, "headline-requests") == 2


@pytest.mark.parametrize("kind", ["empty", "one", "damaged"])
def test_little_or_damaged_is_shown_as_it_is(browser: Browser, tmp_path: Path, kind: str) -> None:
    lines: dict[str, list[Any]] = {
        "empty": [],
        "one": [record(1)],
        "damaged": [record(1), b"\xff\x00{torn\n", b"[1]\n", record(2) | {"labels": 7, "latency_s": "x"}, b'{"schema":1,'],
    }
    write(tmp_path, "a", lines[kind])
    with serving(tmp_path, reports=reports()) as address, opened(browser, address.url) as page:
        expected = {"empty": 0, "one": 1, "damaged": 2}[kind]
        assert exact(page, "headline-requests") == expected
        if kind == "empty":
            expect(page.get_by_test_id("headline-cost")).to_have_text("unknown")
            assert page.get_by_test_id("headline-cost").get_attribute("data-value") is None
            expect(page.get_by_test_id("gap")).to_have_text("There are no requests in this part of the log.")
        assert exact(page, "coverage-skipped") == (3 if kind == "damaged" else 0)


def test_a_wrong_address_says_what_is_wrong(browser: Browser, address: Address) -> None:
    with opened(browser, address.url, complaints=True) as page:
        page.goto(f"{address.url}?group_by=nonsense")
        expect(page.get_by_test_id("problem")).to_contain_text("group_by is one of")
        changed(page, lambda: page.get_by_test_id("group-by").select_option("provider"))
        expect(page.get_by_test_id("problem")).to_be_hidden()

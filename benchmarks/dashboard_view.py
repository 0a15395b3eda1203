"""How long the dashboard of a log takes to show something: the answer of its server, and the page in a browser."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

PERIODS = {
    "a month by model": "since=2025-12-01&until=2026-01-01",
    "the year by user": "since=2025-01-01&until=2026-01-01&group_by=label:user",
}
WHAT = ("first answer", "figures in Chromium", "picture in Chromium")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

# Painted: two frames after it is there.
_PAINTED = """
selector => new Promise(done => {
  const look = () => document.querySelector(selector)
    ? requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))) : setTimeout(look, 1);
  look();
})
"""
FIGURES, PICTURE = "[data-testid=headline-gwp][data-value]", "#chart .main-svg"


def measured(log_dir: Path, rounds: int) -> dict[str, str]:
    """Milliseconds by what was asked and what came: the first answer of a new server; figures and picture in a browser."""
    from ecoimpact.dashboard import serving

    found = {}
    for name, query in PERIODS.items():
        with serving(log_dir) as address:
            first = _answered_ms(f"{address.url}api/overview?{query}")
        found[f"dashboard, {name}: {WHAT[0]}, ms"] = f"{first:.0f}"
        for what, value in zip(WHAT[1:], _painted_ms(log_dir, query, rounds), strict=True):
            found[f"dashboard, {name}: {what}, ms"] = value
    return found


def names() -> list[str]:
    return [f"dashboard, {name}: {what}, ms" for name in PERIODS for what in WHAT]


def _answered_ms(url: str) -> float:
    started = time.perf_counter()
    with urlopen(url) as answer:  # noqa: S310 - our own server on loopback
        assert answer.status == 200
        answer.read()
    return (time.perf_counter() - started) * 1e3


def _painted_ms(log_dir: Path, query: str, rounds: int) -> list[str]:
    """Each time by a new server at another port, of which neither side remembers anything."""
    from ecoimpact.dashboard import serving

    with _browser() as browser:
        if browser is None:
            return ["-", "-"]
        times = []
        for _ in range(rounds + 1):
            with serving(log_dir) as address:
                page = browser.new_page()
                page.goto(f"{address.url}?{query}", wait_until="commit")
                times.append([page.evaluate(_PAINTED, selector) for selector in (FIGURES, PICTURE)])
                page.close()
        return [f"{statistics.median(column):.0f}" for column in zip(*times[1:], strict=True)]


@contextmanager
def _browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        yield None
        return
    if CHROMIUM is None:
        yield None
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        try:
            yield browser.new_context(viewport={"width": 1280, "height": 900})
        finally:
            browser.close()

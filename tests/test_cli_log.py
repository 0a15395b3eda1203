"""The commands over a log, as people and scripts use them.

Every figure that is shown is compared with a sum over the records that was made here, in plain Python.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import io
import json
import math
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from ecoimpact.cli import log_options, report_table, top
from ecoimpact.cli.app import app
from ecoimpact.cli.printable import printable
from ecoimpact.cli.quantities import Unit, unit_for
from ecoimpact.cli.report_chart import HEIGHT, WIDTH, Bar, chart, nice
from ecoimpact.labels import hashed
from ecoimpact.records.index import Index, Progress
from ecoimpact.records.queries import TOLD_COUNTS
from ecoimpact.records.reader import read_records
from ecoimpact.records.segments import LogWriter
from ecoimpact.types import CRITERIA, Assessment, Figures, Inference, Notice, Range, Record, Usage

LIMIT_S = 60.0
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
FIGURES = Figures(1e-4, 2e-5, 3e-12, 4e-3, 5e-4, 6e-6, 7e-12, 8e-5)
HOSTILE = (
    "=cmd()",
    "<script>alert(1)</script>",
    "\x1b[31mred\x1b]0;title\x07",
    "two\nlines\rback",
    "\u202eright-to-left\u2066",
    "x" * 300,
    "[bold red]markup[/]",
    '"><img src=x onerror=alert(1)>',
    "日本語のとても長い名前" * 6,
    "&amp;",
)
MODELS = {"gpt-4o-mini": 1.0, "claude-haiku-4-5-20251001": 2.5, "meta-llama/llama-4-scout-17b-16e-instruct": 0.02}

Invoke = Callable[..., Any]


def record(number: int, *, time: datetime = NOW, model: str = "gpt-4o-mini", **labels: str) -> Record:
    """A request; its number decides what it cost and what is known of it."""
    size = MODELS.get(model, 1.0) * (1 + number % 7)
    tokens = None if number % 11 == 7 else number
    known, priced = number % 5 != 3, number % 4 != 1
    low = Figures(*(value and value * size for value in FIGURES))
    high = Figures(*(value and value * size * 2.5 for value in FIGURES))
    central = Figures(*(value and value * size * 1.3 for value in FIGURES)) if number % 2 else None
    return Record(
        id=f"r{number}",
        inference=Inference(
            provider="anthropic" if model.startswith("claude") else "openai",
            endpoint="messages" if model.startswith("claude") else "responses",
            request_model=model,
            response_model=None,
            usage=Usage(input_tokens=10 * number, output_tokens=tokens, estimated=number % 6 == 5),
            latency_s=number / 10,
            time_to_first_token_s=None,
            started_at=time.timestamp(),
            stream=False,
            status="error" if number % 9 == 8 else "ok",
        ),
        assessment=Assessment(
            low if known else None,
            high if known else None,
            "ecologits-2025-09",
            "2026-01",
            zone="USA",
            warnings=(Notice("arch-not-released", "x"),) if number % 2 else (),
            errors=() if known else (Notice("model-not-registered", "x"),),
            central=central if known else None,
        ),
        labels=labels,
        cost_usd=0.01 * (1 + number % 3) if priced else None,
    )


def write(log_dir: Path, *records: Record, now: datetime = NOW) -> None:
    writer = LogWriter(log_dir, now=now.timestamp)
    assert writer.write_batch(records) == 0
    writer.close()


def fits(text: str, width: int = 80) -> bool:
    return all(cell_len(line.rstrip()) <= width for line in text.splitlines())


def is_plain(text: str) -> bool:
    """Nothing in it that a terminal obeys."""
    return not [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf")]


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    return tmp_path / "impact-log"


@pytest.fixture(name="invoke")
def _invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """A command in a directory of its own, at noon of the tenth of March."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("ECOIMPACT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "80")
    for module in ("log_options", "report", "top", "tail", "prune"):
        monkeypatch.setattr(f"ecoimpact.cli.{module}.now", lambda: NOW)
    runner = CliRunner()
    return lambda *arguments, **settings: runner.invoke(app, [str(argument) for argument in arguments], **settings)


@pytest.fixture
def full_log(log_dir: Path) -> Path:
    """A week of requests by three models, users and features."""
    for day in range(7):
        moments = [NOW - timedelta(days=day, hours=hour) for hour in range(0, 12, 3)]
        write(
            log_dir,
            *(
                record(
                    number + 50 * day,
                    time=moments[number % len(moments)],
                    model=list(MODELS)[number % 3],
                    feature=("search", "chat")[number % 2],
                    **({"user": f"u{number % 4}"} if number % 4 else {}),
                )
                for number in range(50)
            ),
            now=NOW - timedelta(days=day),
        )
    return log_dir


# --- sums made in another way -------------------------------------------------------------------------------------------


def key_of(item: dict[str, Any], by: str) -> str:
    if by.startswith("label:"):
        return str(item["labels"].get(by.removeprefix("label:"), "(none)"))
    if by == "model":
        return str(item["model"] or item["request_model"])
    return str(item["time"][: {"hour": 13, "day": 10, "month": 7}[by]] if by in ("hour", "day", "month") else item[by])


def summed(items: list[dict[str, Any]]) -> dict[str, float | int | None]:
    def known(name: str) -> float | None:
        values = [item[name] for item in items if item[name] is not None]
        return math.fsum(values) if values else None

    sums: dict[str, float | int | None] = {
        "requests": len(items),
        "not_ok": sum(item["status"] != "ok" for item in items),
        "unestimated": sum(item["energy_kwh_min"] is None for item in items),
        "unpriced": sum(item["cost_usd"] is None for item in items),
        "tokens_estimated": sum(item["tokens_estimated"] for item in items),
        "tokens_unknown": sum(item["output_tokens"] is None for item in items),
        "input_tokens": int(known("input_tokens") or 0),
        "cached_input_tokens": 0,
        "output_tokens": int(known("output_tokens") or 0),
        "reasoning_tokens": 0,
        "mean_latency_s": None if not items else math.fsum(item["latency_s"] for item in items) / len(items),
        "cost_usd": known("cost_usd"),
    }
    for criterion in CRITERIA:
        sums |= {f"{criterion.suffix}_{end}": known(f"{criterion.suffix}_{end}") for end in ("min", "central", "max")}
        sums[f"{criterion.key}_known"] = sum(item[f"{criterion.suffix}_min"] is not None for item in items)
    return sums


def grouped(log_dir: Path, by: str, **period: Any) -> dict[str, dict[str, float | int | None]]:
    groups = defaultdict(list)
    for item in read_records(log_dir, **period):
        groups[key_of(item, by)].append(item)
    return {key: summed(items) for key, items in groups.items()}


def same(found: dict[str, Any], expected: dict[str, float | int | None]) -> bool:
    assert set(found) == set(expected)
    return all(
        found[name] is None if value is None else found[name] == pytest.approx(value, rel=1e-9)
        for name, value in expected.items()
    )


# --- report -------------------------------------------------------------------------------------------------------------

BY = ("model", "provider", "endpoint", "zone", "methodology", "month", "day", "hour", "label:feature", "label:user")


@pytest.mark.parametrize("by", BY)
def test_json_has_the_sums_in_full(invoke: Invoke, full_log: Path, by: str) -> None:
    result = invoke("report", "--by", by, "--format", "json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    report = json.loads(result.stdout)
    expected = grouped(full_log, by)
    groups = {group.pop("key"): group for group in report["groups"]}
    assert set(groups) == set(expected)
    assert all(same(groups[key], sums) for key, sums in expected.items())
    everything = list(read_records(full_log))
    assert same(report["total"], summed(everything))
    assert report["editions"] == ["ecologits-2025-09, data 2026-01"]
    assert report["errors"] == {"model-not-registered": sum(bool(item["errors"]) for item in everything)}
    assert (report["by"], report["since"], report["until"], report["skipped_lines"]) == (by, None, None, 0)
    order = [group["energy_kwh_central"] for group in report["groups"]]
    keys = list(groups)
    assert keys == sorted(keys) if by in ("month", "day", "hour") else order == sorted(order, reverse=True)


def test_filters_and_periods_are_those_of_the_records(invoke: Invoke, full_log: Path) -> None:
    arguments = ("--since", "2026-03-05", "--until", "2026-03-08", "--model", "gpt-4o-mini", "--provider", "openai")
    report = json.loads(invoke("report", *arguments, "--label", "feature=chat", "--by", "day", "--format", "json").stdout)
    period: dict[str, Any] = {"since": datetime(2026, 3, 5, tzinfo=UTC), "until": datetime(2026, 3, 9, tzinfo=UTC)}
    items = [
        item
        for item in read_records(full_log, **period)
        if key_of(item, "model") == "gpt-4o-mini" and item["labels"]["feature"] == "chat"
    ]
    assert items
    assert same(report["total"], summed(items))
    assert (report["since"], report["until"]) == ("2026-03-05T00:00:00Z", "2026-03-09T00:00:00Z")
    assert (report["model"], report["provider"], report["label"]) == ("gpt-4o-mini", "openai", {"feature": "chat"})


def test_the_forecast_goes_on_as_in_the_days_before(invoke: Invoke, full_log: Path) -> None:
    forecast = json.loads(invoke("report", "--since", "today", "--format", "json").stdout)["forecast"]
    items = list(read_records(full_log))
    # Six days before the tenth, the first of them from midnight on as the log begins at three: not whole.
    whole = [item for item in items if "2026-03-05" <= item["time"] < "2026-03-10"]
    assert (forecast["month"], forecast["days_seen"], forecast["days_left"]) == ("2026-03", 5, pytest.approx(21.5))
    assert same(forecast["so_far"], summed(items))
    for name in ("energy_kwh_min", "energy_kwh_central", "energy_kwh_max", "cost_usd"):
        so_far, seen = summed(items)[name], summed(whole)[name]
        assert so_far is not None
        assert seen is not None
        assert forecast["expected"][name] == pytest.approx(so_far + seen / 5 * 21.5)


def test_csv_has_a_row_for_each_group_and_no_total(invoke: Invoke, full_log: Path) -> None:
    result = invoke("report", "--by", "label:user", "--format", "csv", "--top", 1)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    expected = grouped(full_log, "label:user")
    assert [row["label:user"] for row in rows] == sorted(
        expected, key=lambda key: -(expected[key]["energy_kwh_central"] or 0)
    )
    for row in rows:
        sums = expected[row.pop("label:user")]
        assert same({name: float(value) if value else None for name, value in row.items()}, sums)


def test_the_table_shows_every_group_with_its_range(invoke: Invoke, full_log: Path) -> None:
    shown = invoke("report").stdout
    assert fits(shown)
    flat = re.sub(r"\s+", "", shown)
    for key, sums in grouped(full_log, "model").items():
        assert f"{sums['requests']:,}" in shown
        assert key in flat or key[:12] in flat  # a long name goes on in the second line
    total = summed(list(read_records(full_log)))
    low, central, high = (total[f"energy_kwh_{end}"] for end in ("min", "central", "max"))
    assert low is not None
    assert central is not None
    assert high is not None
    (symbol,) = re.search(r"model.*?([kmM]?Wh)", shown, re.DOTALL).groups()  # type: ignore[union-attr]
    factor = {"kWh": 1.0, "Wh": 1e3, "mWh": 1e6}[symbol]
    assert f"{report_table.compact(low * factor)}–{report_table.compact(high * factor)}" in shown
    assert f" {report_table.compact(central * factor)} " in shown
    assert f"Without an estimate: {total['unestimated']} requests (model-not-registered {total['unestimated']})." in shown
    assert f"Without a price: {total['unpriced']} requests." in shown
    assert f"Tokens unknown: {total['tokens_unknown']} requests." in shown
    assert f"Tokens estimated from the answer's length: {total['tokens_estimated']} requests." in shown
    assert f"Failed, cancelled or abandoned: {total['not_ok']} requests." in shown
    assert "Figures by ecologits-2025-09, data 2026-01." in shown
    assert "By the end of 2026-03, if it goes on as in the last 5 whole days:" in shown


def test_a_wide_terminal_has_one_line_for_each_group(
    invoke: Invoke, full_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    shown = invoke("report").stdout
    assert fits(shown, 160)
    (line,) = [line for line in shown.splitlines() if line.startswith("claude-haiku-4-5-20251001 ")]
    sums = grouped(full_log, "model")["claude-haiku-4-5-20251001"]
    assert report_table.compact(int(sums["input_tokens"] or 0)) in line
    assert line.count(" to ") == 3


@pytest.mark.parametrize("columns", [60, 80, 100, 120, 140, 200])
def test_tables_fit_their_terminal(invoke: Invoke, log_dir: Path, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    sizes = (1e-9, 1e-3, 1.0, 1e6)
    items = [record(number, model=text, user=text) for number, text in enumerate(HOSTILE * 2)]
    for number, item in enumerate(items):
        size = sizes[number % len(sizes)]
        figures = Figures(*(value and value * size for value in FIGURES))
        assessment = Assessment(figures, Figures(*(v and 900 * v for v in figures)), "m", "d")
        items[number] = Record(item.id, item.inference, assessment, item.labels, cost_usd=size)
    write(log_dir, *items)
    for arguments in (("report",), ("report", "--by", "label:user"), ("top", "--once", "--by", "label:user")):
        result = invoke(*arguments)
        assert result.exit_code == 0, result.output
        assert fits(result.stdout, max(80, columns)), result.stdout


def test_further_groups_are_folded_in_the_table_only(invoke: Invoke, log_dir: Path) -> None:
    write(log_dir, *(record(5 * number, user=f"u{number}") for number in range(30)))
    shown = invoke("report", "--by", "label:user", "--top", 4).stdout
    assert "(26 others)" in shown
    assert len(re.findall(r"^u\d+ ", shown, re.MULTILINE)) == 4
    assert "(10 others)" in invoke("report", "--by", "label:user").stdout
    assert len(json.loads(invoke("report", "--by", "label:user", "--top", 4, "--format", "json").stdout)["groups"]) == 30


def test_an_empty_log_is_no_error(invoke: Invoke, log_dir: Path) -> None:
    log_dir.mkdir()
    assert "No requests." in invoke("report").stdout
    report = json.loads(invoke("report", "--format", "json").stdout)
    assert (report["groups"], report["forecast"], report["total"]["requests"]) == ([], None, 0)
    assert report["total"]["energy_kwh_min"] is None
    assert len(invoke("report", "--format", "csv").stdout.splitlines()) == 1
    assert "There are no requests" in invoke("report", "--format", "html").stdout
    assert "No requests today." in invoke("top").stdout
    result = invoke("tail")
    assert (result.stdout, result.stderr, result.exit_code) == ("", "no requests\n", 0)
    assert invoke("prune", "--older-than", 0, "--yes").stdout == "0 records, 0 bytes, removed\n"


def test_requests_without_figures_are_counted_and_never_zero(invoke: Invoke, log_dir: Path) -> None:
    nothing = Assessment(None, None, "ecologits-2025-09", "2026-01", errors=(Notice("model-not-registered", "x"),))
    inference = Inference("openai", "responses", "mystery", None, Usage(), None, None, NOW.timestamp(), False, "error")
    write(log_dir, *(Record(f"r{number}", inference, nothing) for number in range(3)))
    shown = invoke("report").stdout
    assert re.search(r"^mystery +3( +-){7}$", shown, re.MULTILINE)
    assert re.search(r"^total +3( +-){7}$", shown, re.MULTILINE)
    assert "Without an estimate: 3 requests (model-not-registered 3)." in shown
    total = json.loads(invoke("report", "--format", "json").stdout)["total"]
    assert [name for name, value in total.items() if value == 0 and name not in TOLD_COUNTS] == []
    (row,) = csv.DictReader(io.StringIO(invoke("report", "--format", "csv").stdout))
    assert row["energy_kwh_min"] == row["cost_usd"] == ""
    page = invoke("report", "--format", "html").stdout
    assert page.count("unknown</span>") == 4
    assert "3 of 3 requests have no estimate" in page
    assert re.search(r" -\s+- +-$", invoke("tail").stdout.splitlines()[1])


def test_torn_lines_are_told_of(invoke: Invoke, full_log: Path) -> None:
    segment = next(full_log.glob("*/*.jsonl"))
    with segment.open("ab") as file:
        file.write(b"no record\n")
    assert "Not legible in the log: 1 line." in invoke("report").stdout
    assert json.loads(invoke("report", "--format", "json").stdout)["skipped_lines"] == 1


def test_a_report_can_go_into_a_file(invoke: Invoke, full_log: Path) -> None:
    for format_, begins in (("table", "impact-log"), ("json", "{"), ("csv", "model,"), ("html", "<!DOCTYPE html>")):
        for _ in range(2):  # a report is made anew every night
            result = invoke("report", "--format", format_, "--out", "report")
            assert (result.exit_code, result.stdout) == (0, ""), result.output
        assert Path("report").read_text(encoding="utf-8").startswith(begins)
        assert fits(Path("report").read_text(encoding="utf-8")) or format_ != "table"
    assert invoke("report", "--out", "nowhere/report").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["report", "--by", "modle"], "did you mean 'model'"),
        (["report", "--by", "label:"], "label:KEY"),
        (["report", "--by", "label:featur"], "'feature', 'user'"),
        (["report", "--label", "featur=x"], "'feature', 'user'"),
        (["report", "--by", "hour", "--label", "user=u1"], "by='day'"),
        (["report", "--since", "yesteryear"], "2026-11-01"),
        (["report", "--since", "2026-03-08", "--until", "2026-03-01"], "does not come after"),
        (["report", "--format", "jsn"], "Near: json"),
        (["report", "--format", "picture"], "table, json, csv, html"),
        (["report", "--top", "0"], "--top"),
        (["report", "--label", "=x"], "feature=search"),
        (["report", "--log", "elsewhere"], "ecoimpact demo"),
        (["top", "--log", "elsewhere"], "ecoimpact demo"),
        (["top", "--by", "modle"], "did you mean 'model'"),
        (["top", "--interval", "0"], "--interval"),
        (["tail", "--log", "elsewhere"], "ecoimpact demo"),
        (["tail", "--label", "x"], "feature=search"),
        (["tail", "-n", "-1"], "--lines"),
        (["prune", "--log", "elsewhere", "--older-than", "1"], "ecoimpact demo"),
        (["prune"], "--older-than DAYS or --label KEY=VALUE"),
        (["prune", "--older-than", "1", "--label", "a=b"], "either"),
        (["prune", "--older-than", "-1"], "--older-than"),
        (["prune", "--older-than", "1"], "--yes removes, --dry-run only counts"),
        (["prune", "--label", "x", "--yes"], "feature=search"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_right(
    invoke: Invoke, full_log: Path, arguments: list[str], says: str
) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert says in " ".join(result.stderr.split())
    assert result.stdout == ""


# --- the report as a page -----------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Checks that tags are balanced, and collects what is there."""

    VOID = frozenset({"meta", "br", "input", "rect", "path", "line"})

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.style = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.text.append(data)

    def of_class(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for _, attrs in self.tags if attrs.get("class") == name]


def test_the_page_needs_nothing_else_and_runs_nothing(invoke: Invoke, full_log: Path) -> None:
    source = invoke("report", "--format", "html").stdout
    page = Page(source)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img", "link", "iframe", "object", "embed", "form", "a", "base", "image", "use"}
    names = {name for _, attrs in page.tags for name in attrs}
    assert not names & {"src", "href", "style", "srcset", "action", "background"}
    assert not [name for name in names if name.startswith("on")]
    assert "url(" not in page.style
    assert "@import" not in page.style
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    (policy,) = [attrs for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy["content"] == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "prefers-color-scheme: dark" in page.style


def test_the_page_has_the_sums(invoke: Invoke, full_log: Path) -> None:
    page = Page(invoke("report", "--format", "html").stdout)
    total = summed(list(read_records(full_log)))
    headlines = [attrs["data-value"] for _, attrs in page.tags if "data-value" in attrs]
    names = ("cost_usd", "energy_kwh_central", "gwp_kgco2eq_central", "wcf_l_central", "requests")
    for shown, name in zip(headlines, names, strict=True):
        assert float(shown or "") == pytest.approx(total[name], rel=1e-9)
    text = " ".join(page.text)
    for key, sums in grouped(full_log, "model").items():
        assert key in text
        assert f"{sums['requests']:,}" in text
    titles = [data for data in page.text if re.match(r"2026-03-0\d: .* requests?$", data)]
    assert len(titles) == 5 * 6  # five charts, six days before the tenth
    for day, sums in grouped(full_log, "day").items():
        low, central, high = (sums[f"energy_kwh_{end}"] for end in ("min", "central", "max"))
        assert low is not None
        assert central is not None
        assert high is not None
        unit = unit_for("energy", max(day["energy_kwh_max"] or 0 for day in grouped(full_log, "day").values()))
        assert f"{day}: {unit.span(Range(low, high, central))} {unit.symbol}, {counted(sums['requests'])}" in page.text


def counted(number: Any) -> str:
    return f"{number:,} request{'s' * (number != 1)}"


def test_groups_have_colours_up_to_five(invoke: Invoke, log_dir: Path) -> None:
    write(log_dir, *(record(5 * number, model=f"model-{number}", user=f"u{number}") for number in range(8)))
    for by in ("model", "label:user"):
        page = Page(invoke("report", "--by", by, "--format", "html").stdout)
        assert {f"s{number}" for number in range(6)} <= {attrs.get("class") for _, attrs in page.tags}
        assert "others" in page.text
    page = Page(invoke("report", "--by", "zone", "--format", "html").stdout)
    assert "others" not in page.text


def test_long_periods_have_a_bar_for_each_month(invoke: Invoke, log_dir: Path) -> None:
    write(log_dir, *(record(5, time=NOW - timedelta(days=30 * number)) for number in range(12)))
    page = Page(invoke("report", "--format", "html").stdout)
    assert "By month" in page.text
    assert "2025-04" in page.text


def test_bars_are_as_high_as_their_values() -> None:
    bars = [Bar("a", (2.0, 1.0), 2.0, 4.0, "a"), Bar("b", (), 0.0, 0.0, "b"), Bar("c", None, 0.0, 0.0, "<c>")]
    page = Page(chart(bars, Unit("Wh", 1.0), "t"))
    heights = [float(attrs["height"] or "") for attrs in (*page.of_class("s0"), *page.of_class("s1"))]
    assert heights[0] == pytest.approx(2 * heights[1])
    tops = [float(attrs["y"] or "") for attrs in (*page.of_class("s0"), *page.of_class("s1"))]
    assert tops[1] + heights[1] == pytest.approx(tops[0], abs=0.02)  # the second part stands on the first
    (line,) = [attrs["d"] for attrs in page.of_class("whisker")]
    low, high = (float(y) for y in re.match(r"M[\d.]+ ([\d.]+)V([\d.]+)", line or "").groups())  # type: ignore[union-attr]
    assert low - high == pytest.approx(heights[0], abs=0.02)
    assert "?" in page.text
    assert "<c>" in page.text
    assert f"0 0 {WIDTH} {HEIGHT}" in [attrs.get("viewbox") for _, attrs in page.tags]


@pytest.mark.parametrize("exponent", range(-15, 15))
def test_axes_end_at_or_above_the_largest_value(exponent: int) -> None:
    for digits in (1.0, 1.01, 2.7, 5.5, 9.99):
        value = digits * 10.0**exponent
        assert value * (1 - 1e-6) <= nice(value) <= 2 * value


# --- hostile text -------------------------------------------------------------------------------------------------------


@pytest.fixture
def hostile_log(log_dir: Path) -> Path:
    labels: list[dict[str, Any]] = [{"user": text, text: "v"} for text in HOSTILE]
    write(log_dir, *(record(5 * n, model=text, **labels[n]) for n, text in enumerate(HOSTILE)))
    return log_dir


def test_no_command_lets_a_terminal_obey_the_log(invoke: Invoke, hostile_log: Path) -> None:
    commands: list[tuple[str, ...]] = [
        ("report", "--by", by) for by in ("model", "label:user", *(f"label:{text}" for text in HOSTILE))
    ]
    commands += [("top", "--once", "--by", "label:user"), ("tail",), ("tail", "--json"), ("report", "--format", "json")]
    commands += [
        ("report", "--by", "label:\x1b[31m"),
        ("tail", "--label", "user=\x1b[31m"),
        ("tail", "--label", "\x1b[31m"),
    ]
    commands += [("report", "--since", "\x1b[31m"), ("prune", "--label", "\x1b[31m=x", "--dry-run")]
    for command in commands:
        result = invoke(*command)
        assert is_plain(result.stdout), (command, result.stdout)
        assert is_plain(result.stderr), (command, result.stderr)


def test_groups_are_shown_by_name_whatever_it_is(invoke: Invoke, hostile_log: Path) -> None:
    shown = invoke("report", "--by", "label:user").stdout
    assert fits(shown)
    assert "[bold red]markup[/]" in shown.replace("\n", "")
    assert r"\x1b[31mred" in shown.replace("\n", "")
    assert "x" * 300 not in shown.replace("\n", "")


def test_no_cell_of_a_report_is_a_formula(invoke: Invoke, hostile_log: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(invoke("report", "--by", "label:user", "--format", "csv").stdout, newline="")))
    assert "'=cmd()" in [row["label:user"] for row in rows]
    assert not [row for row in rows if row["label:user"].startswith(("=", "+", "-", "@", "\t", "\r"))]
    head = next(csv.reader(io.StringIO(invoke("report", "--by", "label:=cmd()", "--format", "csv").stdout)))
    assert head[0] == "label:=cmd()"


def test_the_page_shows_markup_as_text(invoke: Invoke, hostile_log: Path) -> None:
    plain_tags = {tag for tag, _ in Page(invoke("report", "--by", "zone", "--format", "html").stdout).tags}
    for by in ("model", "label:user"):
        page = Page(invoke("report", "--by", by, "--format", "html").stdout)
        assert {tag for tag, _ in page.tags} <= plain_tags | {"bdi"}
        assert "<script>alert(1)</script>" in page.text
        assert "&amp;" in page.text
        assert is_plain("".join(page.text))
    by_markup = Page(invoke("report", "--by", f"label:{HOSTILE[7]}", "--format", "html").stdout)
    assert f"By label:{HOSTILE[7]}" in by_markup.text


# --- tail ---------------------------------------------------------------------------------------------------------------


def test_tail_shows_a_line_for_each_of_the_newest(invoke: Invoke, full_log: Path) -> None:
    shown = invoke("tail", "-n", 5).stdout.splitlines()
    assert shown[0].split()[:3] == ["time", "status", "model"]
    newest = sorted(read_records(full_log), key=lambda item: item["time"])[-5:]
    for line, item in zip(shown[1:], newest, strict=True):
        assert line.startswith(item["time"][11:19])
        assert f" {item['status']} " in line
        assert line.endswith(" ".join(f"{key}={value}" for key, value in item["labels"].items()))
        if item["energy_kwh_min"] is not None:
            central = item["energy_kwh_central"]
            assert unit_for("energy", central).text(central) in line
    assert invoke("tail", "-n", 0).stdout == ""


def test_tail_json_is_the_log(invoke: Invoke, full_log: Path) -> None:
    lines = invoke("tail", "-n", 3, "--json", "--label", "user=u2").stdout.splitlines()
    of_user = [item for item in read_records(full_log) if item["labels"].get("user") == "u2"]
    assert [json.loads(line) for line in lines] == sorted(of_user, key=lambda item: item["time"])[-3:]
    raw = {line for path in full_log.glob("*/*.jsonl") for line in path.read_text().splitlines()}
    assert set(lines) <= raw


def command(*arguments: object, **settings: Any) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ECOIMPACT_")}
    environment |= {"COLUMNS": "80", "LINES": "30", "TERM": "xterm"}
    line = [sys.executable, "-W", "error", "-m", "ecoimpact.cli", *map(str, arguments)]
    return subprocess.Popen(line, text=True, env=environment, **settings)


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_tail_follows_new_processes_until_interrupted(log_dir: Path) -> None:
    write(log_dir, record(1))
    with command("tail", "--log", log_dir, "--follow", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["id"] == "r1"
        for number in (2, 4):
            write(log_dir, record(number), now=NOW + timedelta(days=number))
            assert json.loads(process.stdout.readline())["id"] == f"r{number}"
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 0
        assert process.stderr.read() == ""


# --- top ----------------------------------------------------------------------------------------------------------------


def test_top_has_the_sums_of_today(invoke: Invoke, full_log: Path) -> None:
    result = invoke("top", "--by", "label:feature")
    assert result.exit_code == 0, result.output
    assert fits(result.stdout)
    today = summed(list(read_records(full_log, since=NOW.replace(hour=0))))
    low, central, high = (today[f"energy_kwh_{end}"] for end in ("min", "central", "max"))
    assert low is not None
    assert central is not None
    assert high is not None
    unit = unit_for("energy", central)
    assert f"energy  {unit.span(Range(low, high, central))} {unit.symbol}" in result.stdout
    assert "today, 2026-03-10 12:00:00 UTC" in result.stdout
    for feature in ("search", "chat"):
        assert re.search(rf"^{feature} +25 ", result.stdout, re.MULTILINE)


def test_the_rate_is_that_of_the_last_minute() -> None:
    seconds = (0, 1, 59, 60, 61, 600, -5)
    newest = [{"time": (NOW - timedelta(seconds=second)).isoformat()} for second in seconds]
    assert top.rate([*newest, {"time": None}, {}], NOW) == "3 requests"
    assert top.rate([{"time": NOW.isoformat()}] * top.SAMPLE, NOW) == f"{top.SAMPLE:,} or more requests"


@pytest.mark.parametrize("height", [16, 24, 50])
def test_top_is_no_higher_than_its_terminal(full_log: Path, height: int) -> None:
    out = Console(width=80, height=height, force_terminal=True, file=io.StringIO())
    with Index(full_log) as index:
        index.refresh()
        lines = out.render_lines(top.view(index, "log", "model", NOW, out), pad=False)
    assert len(lines) <= height or height < 24  # the totals are shown in any case


@pytest.mark.skipif(os.name == "nt", reason="terminals of Unix")
def test_top_on_a_terminal_lives_until_interrupted(log_dir: Path) -> None:
    import pty

    write(log_dir, record(1, time=datetime.now(UTC)))
    main, terminal = pty.openpty()
    with command("top", "--log", log_dir, "--interval", "0.1", stdout=terminal, stderr=terminal, stdin=terminal) as process:
        os.close(terminal)
        shown = read_until(main, "gpt-4o-mini", "responses", "1 request ")
        assert "today" in shown
        write(log_dir, record(2, time=datetime.now(UTC), model="claude-haiku-4-5-20251001"))
        read_until(main, "claude")
        process.send_signal(signal.SIGINT)
        rest = read_until(main, "\x1b[?1049l")  # back from the alternate screen
        assert process.wait(LIMIT_S) == 0
    assert "Traceback" not in rest
    os.close(main)


def read_until(fd: int, *wanted: str) -> str:
    """What a terminal shows until one of the texts is in it."""
    shown = ""
    while not any(text in shown for text in wanted):
        assert select.select([fd], [], [], LIMIT_S)[0], f"the terminal never showed {wanted}: {shown[-2000:]}"
        try:
            shown += os.read(fd, 65536).decode(errors="replace")
        except OSError:
            pytest.fail(f"the terminal was closed before it showed {wanted}: {shown[-2000:]}")
    return shown


# --- prune --------------------------------------------------------------------------------------------------------------


def ids(log_dir: Path) -> set[str]:
    return {item["id"] for item in read_records(log_dir)}


def test_pruning_by_age_says_what_goes_and_keeps_the_rest(invoke: Invoke, full_log: Path) -> None:
    before = ids(full_log)
    result = invoke("prune", "--older-than", 3, "--dry-run")
    assert re.fullmatch(r"150 records in 3 whole segments, [\d.]+ kB, would go\n", result.stdout)
    assert ids(full_log) == before
    result = invoke("prune", "--older-than", 3, "--yes")
    assert re.fullmatch(r"150 records in 3 whole segments, [\d.]+ kB, removed\n", result.stdout)
    assert ids(full_log) == {f"r{number}" for number in range(200)}
    report = json.loads(invoke("report", "--format", "json").stdout)
    assert same(report["total"], summed(list(read_records(full_log))))
    assert report["skipped_lines"] == 0


def test_pruning_by_label_takes_all_that_have_one_of_them(invoke: Invoke, full_log: Path) -> None:
    gone = {item["id"] for item in read_records(full_log) if item["labels"].get("user") in ("u1", "u2")}
    before = ids(full_log)
    arguments = ("--label", "user=u1", "--label", "user=u2")
    assert f"{len(gone)} records" in invoke("prune", *arguments, "--dry-run").stdout
    assert ids(full_log) == before
    assert f"{len(gone)} records" in invoke("prune", *arguments, "--yes").stdout
    assert ids(full_log) == before - gone
    groups = {
        group["key"] for group in json.loads(invoke("report", "--by", "label:user", "--format", "json").stdout)["groups"]
    }
    assert groups == {"u3", "(none)"}
    assert invoke("prune", *arguments, "--yes").stdout == "0 records, 0 bytes, removed\n"


def test_labels_of_several_names_are_taken_one_after_the_other(invoke: Invoke, log_dir: Path) -> None:
    write(log_dir, record(0, user="u1", team="t1"), record(1, user="u1"), record(2, team="t1"), record(3, user="u2"))
    arguments = ("--label", "user=u1", "--label", "team=t1")
    assert invoke("prune", *arguments, "--dry-run").stdout.startswith("at most 4 records")
    assert invoke("prune", *arguments, "--yes").stdout.startswith("3 records")
    assert ids(log_dir) == {"r3"}


def test_hashed_labels_are_found_by_what_they_stand_for(
    invoke: Invoke, log_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "0123456789abcdef"
    write(log_dir, record(0, user="alice"), record(1, user=hashed("alice", key.encode())), record(2, user="bob"))
    monkeypatch.setenv("ECOIMPACT_HASH_LABELS", "user,team")
    without_key = invoke("prune", "--label", "user=alice", "--yes")
    assert without_key.exit_code == 2
    assert "ECOIMPACT_HASH_KEY" in without_key.stderr
    monkeypatch.setenv("ECOIMPACT_HASH_KEY", key)
    assert invoke("prune", "--label", "user=alice", "--yes").stdout.startswith("2 records")
    assert ids(log_dir) == {"r2"}


@pytest.mark.skipif(os.name == "nt", reason="terminals of Unix")
@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_terminal_is_asked(full_log: Path, answer: str) -> None:
    import pty

    before = ids(full_log)
    main, terminal = pty.openpty()
    with command(
        "prune", "--log", full_log, "--label", "feature=chat", stdin=terminal, stderr=terminal, stdout=subprocess.PIPE
    ) as process:
        os.close(terminal)
        read_until(main, "Remove them for good?")
        assert ids(full_log) == before
        os.write(main, f"{answer}\n".encode())
        assert process.wait(LIMIT_S) == (0 if answer == "y" else 1)
        assert process.stdout is not None
        said = process.stdout.read()
    os.close(main)
    assert "175 records" in said
    assert ("removed" in said) is (answer == "y")
    assert len(ids(full_log)) == (175 if answer == "y" else 350)


# --- pipes, files, progress ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("head") is None, reason="needs head")
@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "--format", "jsonl", "--out", "-"],
        ["export", "--format", "csv", "--out", "-"],
        ["tail", "-n", "100000"],
        ["tail", "-n", "100000", "--json"],
        ["report", "--by", "label:user", "--top", "5000"],
        ["report", "--by", "label:user", "--format", "json"],
        ["report", "--by", "label:user", "--format", "csv"],
        ["top"],
    ],
)
def test_a_pipe_that_is_closed_early_is_no_error(tmp_path_factory: pytest.TempPathFactory, arguments: list[str]) -> None:
    log_dir = tmp_path_factory.getbasetemp() / "pipe-log"
    if not log_dir.exists():
        write(log_dir, *(record(number, user=str(number % 900)) for number in range(3_000)))
    head = subprocess.Popen(["head", "-n", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with command(*arguments, "--log", log_dir, stdout=head.stdin, stderr=subprocess.PIPE) as process:
        assert head.stdin is not None
        head.stdin.close()
        head.stdin = None
        assert head.communicate(timeout=LIMIT_S)[0].count("\n") == 1
        assert process.stderr is not None
        said = process.stderr.read()
        process.wait(LIMIT_S)
    assert "Traceback" not in said
    assert "BrokenPipe" not in said
    assert "Exception ignored" not in said


def test_bars_of_progress_are_for_terminals_and_for_long_work(monkeypatch: pytest.MonkeyPatch) -> None:
    from ecoimpact.cli import progress

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for moment_s, shows in ((0.0, True), (3600.0, False)):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(progress, "MOMENT_S", moment_s)
        with progress.progress("indexing the log") as update:
            assert update is not None
            for done in range(3):
                update(Progress(done, 2, done))
        assert ("indexing the log" in terminal.getvalue()) is shows
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress.progress("indexing the log") as update:
        assert update is None


def test_a_log_that_cannot_be_read_is_said_in_one_line(
    invoke: Invoke, full_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> Iterator[None]:
        raise PermissionError(13, "Permission denied", "impact-log/x")

    monkeypatch.setattr(log_options, "Index", contextlib.contextmanager(denied))
    result = invoke("report")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "ecoimpact: impact-log/x: Permission denied\n"


def test_printable_leaves_what_is_only_shown() -> None:
    for text in ("gpt-4o", "日本語", "naïve", "👩‍💻", "a b"):
        assert printable(text) == text
    assert printable("\x9b1m\u2028\ud800\u00ad") == r"\x9b1m\u2028\ud800\xad"

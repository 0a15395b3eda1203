"""Budgets: what they count, when they alert, and that each alert is told once, whoever writes the log."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import ecoimpact
from ecoimpact import Alert, Budget, budgets, config
from ecoimpact.alerts import FOLDER, Watch
from ecoimpact.cli.app import app
from ecoimpact.records.index import Index
from ecoimpact.records.segments import LogWriter
from ecoimpact.types import Assessment, Figures, Inference, Notice, Range, Record, Usage

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
INFERENCE = Inference(
    provider="openai",
    endpoint="chat.completions",
    request_model="gpt-4o-mini",
    response_model=None,
    usage=Usage(input_tokens=1, output_tokens=1),
    latency_s=1.0,
    time_to_first_token_s=None,
    started_at=NOW.timestamp(),
    stream=False,
    status="ok",
)
LOW = Figures(1e-3, 2e-3, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0)  # 1 Wh, 2 gCO2eq, 0.5 L
HIGH = Figures(3e-3, 4e-3, 0.0, 0.0, 1.5, 0.0, 0.0, 0.0)  # 3 Wh, 4 gCO2eq, 1.5 L


def record(number: int, *, at: datetime = NOW, cost_usd: float | None = 1.0, figures: bool = True, **labels: str) -> Record:
    errors = () if figures else (Notice("model-not-registered", "words"),)
    low, high = (LOW, HIGH) if figures else (None, None)
    return Record(
        id=f"r{number}",
        inference=replace(INFERENCE, started_at=at.timestamp()),
        assessment=Assessment(low, high, "ecologits-2025-09", "d", errors=errors),
        labels=labels,
        cost_usd=cost_usd,
    )


def write(log_dir: Path, records: Sequence[Record]) -> None:
    writer = LogWriter(log_dir)
    assert writer.write_batch(records) == 0
    writer.close()


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    return tmp_path / "log"


def spent(log_dir: Path, *some: Budget) -> list[budgets.Spending]:
    with Index(log_dir) as index:
        index.refresh()
        return budgets.spending(index, some, now=NOW)


# --- what is counted ----------------------------------------------------------------------------------------------------


def test_each_unit_with_its_range(log_dir: Path) -> None:
    write(log_dir, [record(number) for number in range(4)])
    usd, gco2eq, wh, water = spent(
        log_dir, Budget("a", usd=8), Budget("b", gco2eq=24), Budget("c", wh=8, bound="high"), Budget("d", l=8, bound="low")
    )
    assert usd.used == 4.0
    assert usd.share == 0.5
    assert gco2eq.used is not None
    assert (gco2eq.used.min, gco2eq.used.central, gco2eq.used.max) == pytest.approx((8, 12, 16))
    assert gco2eq.share == pytest.approx(0.5)
    assert wh.share == pytest.approx(12 / 8)
    assert water.share == pytest.approx(2 / 8)


@pytest.mark.parametrize(
    ("period", "began"),
    [("day", "2026-11-22"), ("week", "2026-11-16"), ("month", "2026-11-01"), ("year", "2026-01-01"), ("total", None)],
)
def test_a_period_begins_with_the_calendar_s(log_dir: Path, period: Any, began: str | None) -> None:
    start = datetime.fromisoformat(began).replace(tzinfo=UTC) if began else datetime(2025, 1, 1, tzinfo=UTC)
    write(log_dir, [record(1), record(2, at=start), record(3, at=start - timedelta(seconds=1))])
    (state,) = spent(log_dir, Budget("a", usd=10, period=period))
    assert state.requests == (3 if began is None else 2)
    assert state.began == (start if began else None)


def test_a_label_and_each_of_its_values(log_dir: Path) -> None:
    write(
        log_dir, [record(number, user=f"u{number % 3}", team="a" if number else "b") for number in range(7)] + [record(9)]
    )
    one, absent, *each = spent(
        log_dir,
        Budget("team", usd=100, label="team=a"),
        Budget("nobody", usd=100, label=("no-such", "label")),
        Budget("users", usd=4, per="user"),
        Budget("none", usd=4, per="no-such"),
    )
    assert (one.requests, one.used) == (6, Range(6, 6))
    assert (absent.requests, absent.used, absent.share) == (0, None, 0.0)
    assert [(state.scope, state.used) for state in each] == [
        ("u0", Range(3, 3)),
        ("u1", Range(2, 2)),
        ("u2", Range(2, 2)),
    ]


def test_what_nobody_knows_is_counted_beside_the_sum(log_dir: Path) -> None:
    write(log_dir, [record(1), record(2, cost_usd=None), record(3, figures=False)])
    usd, wh = spent(log_dir, Budget("a", usd=10), Budget("b", wh=10))
    assert (usd.used, usd.requests, usd.uncounted) == (Range(2, 2), 3, 1)
    assert wh.used is not None
    assert (wh.used.min, wh.used.max) == pytest.approx((2, 6))
    assert wh.uncounted == 1


# --- configuration ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({}, "exactly one"),
        ({"usd": 1, "wh": 1}, "exactly one"),
        ({"usd": 0}, "above 0"),
        ({"usd": "much"}, "above 0"),
        ({"usd": True}, "above 0"),
        ({"usd": float("nan")}, "above 0"),
        ({"usd": 1, "period": "fortnight"}, "day, week, month, year, total"),
        ({"usd": 1, "bound": "middle"}, "low, central, high"),
        ({"usd": 1, "label": "team"}, "team=search"),
        ({"usd": 1, "label": "a=b", "per": "c"}, "exclude"),
        ({"usd": 1, "per": ""}, "name of a label"),
        ({"usd": 1, "alert_at": [50, 0]}, "per cent"),
        ({"usd": 1, "alert_at": "50"}, "per cent"),
        ({"usd": 1, "webhook": "slack"}, "https://"),
        ({"usd": 1, "peroid": "day"}, "did you mean period"),
        (7, "table"),
    ],
)
def test_a_wrong_budget_is_an_error_at_once(wrong: Any, hint: str) -> None:
    with pytest.raises(ValueError, match=hint) as caught:
        budgets.parse({"chat": wrong}, "budgets in pyproject.toml")
    assert "pyproject.toml" in str(caught.value)
    assert "chat" in str(caught.value)


def test_other_wrong_things() -> None:
    with pytest.raises(ValueError, match="needs a name"):
        Budget("", usd=1)
    with pytest.raises(ValueError, match="callable"):
        Budget("a", usd=1, on_alert=7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two budgets"):
        budgets.parse([Budget("a", usd=1), Budget("a", wh=1)], "budgets")
    with pytest.raises(ValueError, match=r"ecoimpact\.Budget"):
        budgets.parse(["a"], "budgets")
    with pytest.raises(ValueError, match="log_dir"):
        ecoimpact.instrument("openai", budgets=[Budget("a", usd=1)])
    assert "hooks.example.org" not in repr(Budget("a", usd=1, webhook="https://hooks.example.org/secret"))


def test_a_webhook_is_led_to_a_variable_that_must_be_there(log_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget("a", usd=1, webhook="env:CHAT_HOOK")
    with pytest.raises(ValueError, match="CHAT_HOOK"):
        ecoimpact.instrument("openai", log_dir=log_dir, budgets=[budget])
    monkeypatch.setenv("CHAT_HOOK", "http://127.0.0.1:9/")
    Watch(log_dir, [budget])
    monkeypatch.setitem(sys.modules, "httpx", None)
    monkeypatch.setattr("ecoimpact.alerts.find_spec", lambda _: None)
    with pytest.raises(ValueError, match="webhook"):
        Watch(log_dir, [budget])


# --- alerts -------------------------------------------------------------------------------------------------------------


def test_each_threshold_is_told_once_the_highest_for_those_passed_together(log_dir: Path) -> None:
    told: list[Alert] = []
    watch = Watch(log_dir, [Budget("chat", usd=10, on_alert=told.append)])
    assert watch.check(NOW) == []  # no log yet
    for number, expected in enumerate([None, None, None, None, 50, None, None, 80, None, 100, None]):
        write(log_dir, [record(number)])
        assert [alert.percent for alert in watch.check(NOW)] == ([expected] if expected else [])
        assert watch.check(NOW) == []
    assert [alert.percent for alert in told] == [50, 80, 100]
    assert told[-1].used == 10.0
    assert told[-1].share == 1.0
    next_month = NOW.replace(month=12)
    write(log_dir, [record(number, at=next_month) for number in range(9)])
    assert [alert.percent for alert in watch.check(next_month)] == [80]
    assert sorted(alert.percent for alert in watch.check(next_month)) == []


@given(costs=st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_whatever_the_steps_no_alert_comes_twice_and_the_last_is_the_highest(
    costs: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    log_dir = tmp_path_factory.mktemp("log")
    told: list[float] = []
    watch = Watch(log_dir, [Budget("b", usd=100, on_alert=lambda alert: told.append(alert.percent))])
    for number, cost in enumerate(costs):
        write(log_dir, [record(number, cost_usd=float(cost))])
        watch.check(NOW)
    reached = [percent for percent in (50, 80, 100) if sum(costs) >= percent]
    assert told == sorted(set(told))
    assert told[-1:] == reached[-1:]


def test_of_many_processes_one_tells(log_dir: Path, tmp_path: Path) -> None:
    write(log_dir, [record(number) for number in range(10)])
    program = textwrap.dedent("""
        import sys
        from datetime import datetime
        from ecoimpact import Budget
        from ecoimpact.alerts import Watch
        budgets = [Budget(f"b{n}", usd=10, on_alert=lambda alert: print(alert.budget)) for n in range(5)]
        sys.stdin.readline()
        Watch(sys.argv[1], budgets).check(datetime.fromisoformat(sys.argv[2]))
    """)
    command = [sys.executable, "-c", program, str(log_dir), NOW.isoformat()]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [line for process in processes for line in process.communicate(timeout=60)[0].split()]
    assert sorted(told) == [f"b{n}" for n in range(5)]


def test_an_alert_that_could_not_be_told_is_told_later(log_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(log_dir, [record(number) for number in range(10)])
    seen: list[Alert] = []

    def fail(_: Alert) -> None:
        raise RuntimeError("secret")

    assert Watch(log_dir, [Budget("b", usd=10, on_alert=fail)]).check(NOW) == []
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text
    Watch(log_dir, [Budget("b", usd=10, on_alert=seen.append)]).check(NOW)
    assert [alert.percent for alert in seen] == [100]


def test_without_a_listener_an_alert_is_logged(log_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(log_dir, [record(number, user="u1", cost_usd=None if number > 7 else 1.0) for number in range(10)])
    with caplog.at_level(logging.WARNING, "ecoimpact"):
        Watch(log_dir, [Budget("users", usd=16, per="user")]).check(NOW)
    assert caplog.messages == [
        "ecoimpact: Budget users (u1): 50% of 16 USD used since 2026-11-01: 8 USD; 2 of 10 requests could not be counted"
    ]


def test_markers_are_private_and_name_nobody(log_dir: Path) -> None:
    write(log_dir, [record(number, user="alice") for number in range(10)])
    Watch(log_dir, [Budget("users", usd=10, per="user", on_alert=lambda _: None)]).check(NOW)
    markers = list((log_dir / FOLDER).iterdir())
    assert len(markers) == 3
    for marker in markers:
        assert "alice" not in marker.name
        assert marker.stat().st_size == 0
        assert marker.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name == "nt", reason="directories are guarded differently there")
def test_a_log_that_cannot_be_marked_costs_one_warning(log_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(log_dir, [record(number) for number in range(10)])
    (log_dir / FOLDER).write_text("in the way")
    watch = Watch(log_dir, [Budget("b", usd=10)])
    assert watch.check(NOW) == watch.check(NOW) == []
    assert len(caplog.records) == 1


class Hook:
    """A server that takes what is posted, and answers as it is told."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.close()


def test_a_webhook_gets_the_alert_and_gets_it_again_after_a_failure(log_dir: Path, hook: Hook) -> None:
    write(log_dir, [record(number) for number in range(4)])
    watch = Watch(log_dir, [Budget("carbon", gco2eq=24, webhook=hook.url)])
    hook.status = 500
    assert watch.check(NOW) == []
    hook.status = 200
    assert len(watch.check(NOW)) == 1
    assert watch.check(NOW) == []
    first, second = hook.bodies
    assert first == second
    assert first["text"].startswith("Budget carbon: 50% of 24 gCO2eq used since 2026-11-01: 12 (8 to 16) gCO2eq")
    assert first["budget"] == "carbon"
    assert (first["used_min"], first["used"], first["used_max"]) == pytest.approx((8, 12, 16))


# --- in a program -------------------------------------------------------------------------------------------------------


def test_a_program_is_alerted_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the real SDK: configured in a file, counted from the log, told on a thread of its own."""
    import openai
    import payloads as p
    from server import Server, as_json

    told: list[tuple[Alert, int]] = []
    lost = ecoimpact.drops()  # of the whole process
    server = Server()
    server.reset(as_json(p.chat()))
    try:
        ecoimpact.instrument(
            "openai",
            log_dir=tmp_path / "log",
            budgets=[
                Budget("b", wh=1e-6, alert_at=(100,), on_alert=lambda alert: told.append((alert, threading.get_ident())))
            ],
        )
        with openai.OpenAI(api_key="test", base_url=server.url, max_retries=0) as client:
            client.chat.completions.create(model=p.MODEL, messages=[{"role": "user", "content": "How does water boil?"}])
        assert ecoimpact.flush(30)
        ((alert, thread),) = told
        assert alert.percent == 100
        assert alert.requests == 1
        assert thread != threading.get_ident()
        assert ecoimpact.drops() == lost
    finally:
        ecoimpact.uninstrument()
        server.close()


def test_budgets_in_the_project_s_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.ecoimpact.budgets.chat]\nusd = 200\nlabel = "team=search"\nalert_at = [50]\n'
        "[tool.ecoimpact.budgets.users]\ngco2eq = 50\nper = 'user'\nperiod = 'day'\n"
    )
    monkeypatch.chdir(tmp_path)
    assert config.from_surroundings()["budgets"] == (
        Budget("chat", usd=200, label=("team", "search"), alert_at=(50,)),
        Budget("users", gco2eq=50, per="user", period="day"),
    )


# --- the command --------------------------------------------------------------------------------------------------------


def check(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["budget", "check", *map(str, arguments)])


@pytest.fixture
def today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecoimpact.cli.budget.now", lambda: NOW)


def test_the_exit_code_says_whether_a_budget_is_used_up(
    log_dir: Path, today: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(log_dir, [record(number, team="search") for number in range(8)])
    (tmp_path / "pyproject.toml").write_text('[tool.ecoimpact.budgets.chat]\nusd = 10\nlabel = "team=search"\n')
    monkeypatch.chdir(tmp_path)
    assert check("--log", log_dir).exit_code == 0
    done = check("--log", log_dir, "--fail-at", 80)
    assert done.exit_code == 1
    assert "80%" in done.stdout
    done = check("--log", log_dir, "--usd", 8, "--json")
    assert done.exit_code == 1
    (state,) = json.loads(done.stdout)
    assert (state["used"], state["limit"], state["share"], state["failed"]) == (8.0, 8.0, 1.0, True)


@pytest.mark.usefixtures("today")
def test_names_and_values_are_shown_and_not_obeyed(log_dir: Path) -> None:
    write(log_dir, [record(1, cost_usd=None, user="[bold]x[/bold]\x1b[31m")])
    done = check("--log", log_dir, "--wh", 10, "--per", "user")
    assert done.exit_code == 0
    assert "\x1b" not in done.stdout
    assert "[bold]x[/bold]" in done.stdout
    assert "1 of 1 requests have no price" in check("--log", log_dir, "--usd", 10).stdout


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ([], "[tool.ecoimpact.budgets.chat]"),
        (["--usd", "-1"], "above 0"),
        (["--usd", "1", "--wh", "1"], "exactly one"),
        (["--usd", "1", "--period", "hour"], "day, week"),
        (["--usd", "1", "--label", "team"], "feature=search"),
    ],
)
def test_wrong_usage_says_what_is_right(
    arguments: list[str], hint: str, log_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(log_dir, [record(1)])
    done = check("--log", log_dir, *arguments)
    assert done.exit_code == 2
    assert hint in done.output


def test_a_missing_log_is_wrong_usage(tmp_path: Path) -> None:
    done = check("--log", tmp_path / "none", "--usd", 1)
    assert done.exit_code == 2
    assert "no log" in done.output

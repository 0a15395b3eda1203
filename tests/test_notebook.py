"""A log as a table in a notebook."""

from __future__ import annotations

import builtins
import importlib.util
import math
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from made_logs import made, same, write

from ecoimpact.notebook import METRICS, ReportTable, report

HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m\u202e"
UNKNOWN = dict.fromkeys([*(name for name in made() if name.endswith(("_min", "_central", "_max"))), "cost_usd"])
RECORDS = [
    made(number, model=("gpt-4o-mini", "gpt-4.1")[number % 2], labels={"team": ("search", "chat")[number % 3 == 0]})
    for number in range(60)
] + [made(70, model=HOSTILE, labels={"team": HOSTILE}, **UNKNOWN)]


@pytest.fixture(scope="module", name="log_dir")
def _log_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    log_dir = tmp_path_factory.mktemp("log")
    write(log_dir, "a", RECORDS)
    return log_dir


@pytest.fixture(scope="module", name="table")
def _table(log_dir: Path) -> ReportTable:
    return report(log_dir)


def summed(name: str, **wanted: str) -> float:
    return math.fsum(r[name] for r in RECORDS if r[name] is not None and all(r[k] == v for k, v in wanted.items()))


def test_rows_are_the_sums_of_the_records(table: ReportTable) -> None:
    assert [row["model"] for row in table] == ["gpt-4.1", "gpt-4o-mini", HOSTILE]
    for row in table[:2]:
        for name in ("energy_kwh_min", "energy_kwh_central", "energy_kwh_max", "wcf_l_min", "cost_usd", "output_tokens"):
            assert same(row[name], summed(name, model=row["model"])), name
    assert table.total["requests"] == len(RECORDS)
    assert same(table.total["gwp_kgco2eq_max"], summed("gwp_kgco2eq_max"))
    assert table[2]["energy_kwh_central"] is table[2]["cost_usd"] is None
    assert table[2]["unestimated"] == 1
    assert [row["wcf_known"] for row in table] == [30, 30, 0]


def test_dimensions_filters_and_periods_are_those_of_reports(log_dir: Path) -> None:
    assert sum(report(log_dir, "day").column("requests")) == len(RECORDS)
    search = report(log_dir, "month", label="team=search", model="gpt-4.1")
    assert search.total["requests"] == sum(r["labels"] == {"team": "search"} and r["model"] == "gpt-4.1" for r in RECORDS)
    february = report(log_dir, since="2026-02-01", until="2026-02-01")
    assert february.total["requests"] == sum(record["time"][:10] == "2026-02-01" for record in RECORDS)
    for wrong in ({"by": "modle"}, {"since": "soon"}, {"label": "team"}, {"label": "nobody=x"}):
        with pytest.raises(ValueError, match=r"modle|soon|team|nobody"):
            report(log_dir, **wrong)
    with pytest.raises(FileNotFoundError):
        report(log_dir / "none")
    with pytest.raises(ValueError, match="no column 'x'"):
        search.column("x")


def test_frames_hold_the_same_and_nothing_for_what_is_unknown(table: ReportTable, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = table.frame()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == list(table.columns)
    assert frame["energy_kwh_max"].sum() == pytest.approx(table.total["energy_kwh_max"], rel=1e-12)
    assert frame["cost_usd"].isna().tolist() == [False, False, True]
    _without(monkeypatch, "pandas")
    other = table.frame()
    assert isinstance(other, pl.DataFrame)
    assert other["cost_usd"].is_null().to_list() == [False, False, True]
    _without(monkeypatch, "pandas", "polars")
    with pytest.raises(ModuleNotFoundError, match="pandas or polars"):
        table.frame()


def test_plots_have_the_ranges(table: ReportTable, monkeypatch: pytest.MonkeyPatch) -> None:
    for metric, (name, unit) in METRICS.items():
        figure = table.plot(metric)
        (bars,) = figure.data
        assert figure.layout.yaxis.title.text == unit
        if bars.error_y.array is None:
            assert [value for value in table.column(name) if value is not None] == list(bars.y)
            continue
        assert list(bars.x) == ["gpt-4.1", "gpt-4o-mini"]
        ends = zip(bars.y, bars.error_y.arrayminus, bars.error_y.array, strict=True)
        for row, (middle, down, up) in zip(table, ends, strict=False):
            assert middle - down == pytest.approx(row[f"{name}_min"], rel=1e-12)
            assert middle + up == pytest.approx(row[f"{name}_max"], rel=1e-12)
    assert "<img" not in "".join(table.plot("requests").data[0].x)
    with pytest.raises(ValueError, match="no metric 'fun'"):
        table.plot("fun")
    _without(monkeypatch, "plotly")
    with pytest.raises(ModuleNotFoundError, match="plotly"):
        table.plot()


def test_it_shows_itself_without_obeying_the_log(table: ReportTable) -> None:
    page = table._repr_html_()
    assert page.count("<tr>") == 1 + len(table) + 1
    assert "<img" not in page
    assert "&lt;img" in page
    text = repr(table)
    assert not {"\x1b", "\u202e"} & set(text)
    assert text.splitlines()[0].split()[:2] == ["model", "requests"]
    assert text.splitlines()[-1].startswith("total")
    assert len(text.splitlines()) == len(table) + 2


def _without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """As on a machine that lacks these."""
    find, load = importlib.util.find_spec, builtins.__import__

    def missing(name: str, *more: Any) -> Any:
        return None if name in packages else find(name, *more)

    def refused(name: str, *more: Any, **options: Any) -> Any:
        if name.partition(".")[0] in packages:
            raise ModuleNotFoundError(name)
        return load(name, *more, **options)

    monkeypatch.setattr("ecoimpact.notebook.find_spec", missing)
    monkeypatch.setattr(builtins, "__import__", refused)

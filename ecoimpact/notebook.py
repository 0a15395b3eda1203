"""A log as a table in a notebook: ``ecoimpact.report("impact-log")``.

Rules of this file: the figures are those of ``ecoimpact report``; what nobody knows is ``None``; everything that comes from
the log is escaped before a notebook renders it. pandas, polars and plotly are imported where they are asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.util import find_spec
from typing import Any, Final

from ecoimpact.types import CRITERIA, Range

COUNTS: Final = (
    "requests",
    "not_ok",
    "unestimated",
    "unpriced",
    "tokens_estimated",
    "tokens_unknown",
    "input_tokens",
    "output_tokens",
    *(f"{criterion.key}_known" for criterion in CRITERIA),
)
METRICS: Final = {
    # name: column, its unit
    "energy": ("energy_kwh", "kWh"),
    "gwp": ("gwp_kgco2eq", "kgCO2eq"),
    "adpe": ("adpe_kgsbeq", "kgSbeq"),
    "pe": ("pe_mj", "MJ"),
    "wcf": ("wcf_l", "L"),
    "cost": ("cost_usd", "USD"),
    "requests": ("requests", "requests"),
    "output_tokens": ("output_tokens", "tokens"),
}
_SHOWN: Final = ("energy_kwh", "gwp_kgco2eq", "wcf_l")
_MAX_ROWS: Final = 60
_TIMES: Final = ("hour", "day", "month")


def report(
    log_dir: str | os.PathLike[str],
    by: str = "model",
    *,
    since: str | datetime | None = None,
    until: str | datetime | None = None,
    model: str | None = None,
    provider: str | None = None,
    label: str | None = None,
) -> ReportTable:
    """What the requests of a log add up to, by ``model`` or anything else.

    Args:
        log_dir: the directory of the log; what is new in it is counted first.
        by: ``model``, ``provider``, ``endpoint``, ``zone``, ``methodology``, ``day``, ``hour``, ``month`` or ``label:KEY``.
        since, until: a moment with a time zone, or text such as ``2026-11-01``, ``7d``, ``month`` (UTC).
        model, provider: only requests to this one.
        label: only requests with this label, such as ``team=search``.

    Raises:
        FileNotFoundError: there is no such directory.
        ValueError: an unknown dimension or label, or a text that names no moment.
    """
    from ecoimpact.records import queries
    from ecoimpact.records.index import Index

    now = datetime.now(UTC)
    where = queries.Where(
        since=queries.parse_moment(since, now=now) if isinstance(since, str) else since,
        until=queries.parse_moment(until, now=now, end=True) if isinstance(until, str) else until,
        model=model,
        provider=provider,
        label=_label(label),
    )
    with Index(log_dir) as index:
        index.refresh()
        found = queries.report(index, by, where)
    return ReportTable(by, [_row(by, group.key, group.totals) for group in found.groups], _row(by, "total", found.total))


def _label(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ValueError(f"a label is like 'team=search', not {text!r}")
    return key, value


def _row(by: str, key: str, totals: Any) -> dict[str, Any]:
    row: dict[str, Any] = {by: key, **{name: getattr(totals, name) for name in COUNTS}, "cost_usd": totals.cost_usd}
    for criterion in CRITERIA:
        value: Range | None = getattr(totals, criterion.key)
        for end in ("min", "central", "max"):
            row[f"{criterion.suffix}_{end}"] = None if value is None else getattr(value, end)
    return row


class ReportTable(Sequence[Mapping[str, Any]]):
    """Rows of a report, each a mapping; ``total`` is the sum over all.

    ``frame()`` gives a pandas or a polars DataFrame, ``plot()`` a chart, ``print()`` and notebooks a table. Columns are
    named as in records: ``energy_kwh_min``, ``energy_kwh_central``, ``energy_kwh_max``, ``cost_usd``.
    """

    def __init__(self, by: str, rows: Sequence[Mapping[str, Any]], total: Mapping[str, Any]) -> None:
        self.by = by
        self.total = dict(total)
        self._rows = tuple(dict(row) for row in rows)

    def __getitem__(self, place: Any) -> Any:
        return self._rows[place]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._rows)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.total)

    def column(self, name: str) -> list[Any]:
        """The values of a column, a row each.

        Raises:
            ValueError: there is no such column.
        """
        if name not in self.total:
            raise ValueError(f"there is no column {name!r}: {', '.join(self.columns)}")
        return [row[name] for row in self._rows]

    def frame(self) -> Any:
        """As a pandas DataFrame, or a polars one where there is no pandas; unknown figures are null.

        Raises:
            ModuleNotFoundError: there is neither.
        """
        data = {name: self.column(name) for name in self.columns}
        if find_spec("pandas") is not None:
            import pandas as pd

            return pd.DataFrame(data).astype({name: float for name in self.columns if name not in (self.by, *COUNTS)})
        if find_spec("polars") is not None:
            import polars as pl

            return pl.DataFrame(data, infer_schema_length=None)
        raise ModuleNotFoundError("a data frame needs pandas or polars: pip install pandas")

    def plot(self, metric: str = "energy") -> Any:
        """Bars of one of ``METRICS`` with their ranges, as a plotly figure.

        Raises:
            ValueError: there is no such metric.
            ModuleNotFoundError: there is no plotly.
        """
        if metric not in METRICS:
            raise ValueError(f"there is no metric {metric!r}: {', '.join(METRICS)}")
        if find_spec("plotly") is None:
            raise ModuleNotFoundError('a chart needs plotly: pip install "ecoimpact[dashboard]"')
        from plotly.graph_objects import Bar, Figure

        name, unit = METRICS[metric]
        has_range = f"{name}_central" in self.total
        rows = [row for row in self._rows if row[f"{name}_central" if has_range else name] is not None]
        middle = [row[f"{name}_central" if has_range else name] for row in rows]
        bars = Bar(x=[escape(_printable(str(row[self.by]))) for row in rows], y=middle)
        if has_range:
            up = [row[f"{name}_max"] - value for row, value in zip(rows, middle, strict=True)]
            down = [value - row[f"{name}_min"] for row, value in zip(rows, middle, strict=True)]
            bars.error_y = {"type": "data", "symmetric": False, "array": up, "arrayminus": down}
        figure = Figure(bars)
        figure.update_layout(yaxis_title=unit, xaxis_title=escape(_printable(self.by)))
        figure.update_xaxes(type="date" if self.by in _TIMES else "category")
        return figure

    def __repr__(self) -> str:
        head, *lines = self._cells(_MAX_ROWS)
        widths = [max(len(line[place]) for line in (head, *lines)) for place in range(len(head))]
        shown = [
            "  ".join(
                cell.ljust(width) if not place else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in (head, *lines)
        ]
        return "\n".join(shown)

    def _repr_html_(self) -> str:
        head, *lines = self._cells(_MAX_ROWS)
        heads = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in lines)
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"

    def _cells(self, most: int) -> Iterator[list[str]]:
        """The rows as people read them: the middle, and the low and the high end behind it."""
        units = (f"{name.partition('_')[0]} [{unit}]" for name, unit in METRICS.values() if name in _SHOWN)
        yield [_printable(self.by), "requests", "output tokens", "USD", *units]
        for row in (*self._rows[:most], self.total):
            yield [
                _printable(str(row[self.by])),
                f"{row['requests']:,}",
                f"{row['output_tokens']:,}",
                _number(row["cost_usd"]),
                *(self._span(row, name) for name in _SHOWN),
            ]

    def _span(self, row: Mapping[str, Any], name: str) -> str:
        low, middle, high = (row[f"{name}_{end}"] for end in ("min", "central", "max"))
        return (
            _number(middle) if middle is None or low == high else f"{_number(middle)} ({_number(low)} to {_number(high)})"
        )


def _number(value: float | None) -> str:
    """Three digits.

    >>> _number(0.0123456), _number(1234.5), _number(None)
    ('0.0123', '1,234', '-')
    """
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _printable(text: str) -> str:
    """Control characters and marks of direction as escapes: labels are anybody's words."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape", "surrogatepass").decode() for sign in text)

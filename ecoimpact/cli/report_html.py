"""A report as one page: no scripts, nothing loaded from elsewhere, readable in the light and in the dark.

Everything that comes from the log is hostile text until it has gone through :func:`printable.safe`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from html import escape
from importlib.resources import files

from ecoimpact.cli.money import cost_unit
from ecoimpact.cli.printable import counted, safe
from ecoimpact.cli.quantities import unit_for
from ecoimpact.cli.report_data import Summary
from ecoimpact.cli.report_rows import rows
from ecoimpact.cli.report_table import CRITERIA, compact, heading, partly_known
from ecoimpact.cli.report_timeline import Series, tabs
from ecoimpact.records.queries import Totals
from ecoimpact.types import Range


def page(summary: Summary, series: Series) -> str:
    """The whole document."""
    style = files("ecoimpact.cli").joinpath("report.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    body = "\n".join(_body(summary, series))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>What LLM calls cost: {safe(summary.log)}</title>
<style>{style}</style>
</head>
<body><main>
{body}
</main></body>
</html>
"""


def _body(summary: Summary, series: Series) -> Iterator[str]:
    total = summary.report.total
    yield f"<header><h1>What LLM calls cost</h1><p>{escape(heading(summary))}</p></header>"
    if not total.requests:
        yield '<p class="alert">There are no requests in this part of the log.</p>'
    elif total.unestimated:
        yield (
            f'<p class="alert">{total.unestimated:,} of {total.requests:,} requests have no estimate, and are in none '
            "of the figures for energy, carbon and water.</p>"
        )
    yield f'<div class="cards">{"".join(_cards(summary))}</div>'
    if total.requests:
        yield f"<section><h2>By {series.by}</h2>{tabs(series)}</section>"
        yield f"<section><h2>By {safe(summary.report.by)}</h2>{rows(summary.report)}</section>"
        yield f"<section><h2>Coverage</h2>{_coverage(summary)}</section>"
    yield f"<footer>{''.join(_footer(summary))}</footer>"


# --- cards --------------------------------------------------------------------------------------------------------------


def _cards(summary: Summary) -> Iterator[str]:
    total, forecast = summary.report.total, summary.forecast
    expected = None if forecast is None else forecast.expected
    cost_ahead = None if expected is None else _money(expected)
    yield _card("cost", total.cost_usd, _money(total), _unpriced(total), _ahead(summary, cost_ahead))
    for key, name in CRITERIA.items():
        value: Range | None = getattr(total, key)
        then: Range | None = getattr(expected, key, None)
        ahead = "" if then is None else _ahead(summary, _amount(key, then), _between(key, then))
        if value is None:
            yield _card(name, None, None, "", ahead)
        else:
            yield _card(name, value.central, _amount(key, value), _between(key, value), ahead)
    requests_ahead = None if expected is None else f"{expected.requests:,}"
    yield _card("requests", total.requests, f"{total.requests:,}", _tokens(total), _ahead(summary, requests_ahead))


def _card(name: str, exact: float | None, value: str | None, below: str, ahead: str) -> str:
    """A headline; the exact number, in the unit of the records, is in ``data-value``."""
    shown = '<span class="soft">unknown</span>' if value is None else value
    number = "" if exact is None else f' data-value="{exact!r}"'
    return (
        f'<div class="card" id="{name}"><h2>{name.capitalize()}</h2><p class="value"{number}>{shown}</p>'
        f'<p class="range soft">{below or "&nbsp;"}</p>{ahead}</div>'
    )


def _ahead(summary: Summary, expected: str | None, below: str = "") -> str:
    if expected is None or summary.forecast is None:
        return ""
    lines = [f"By the end of {safe(summary.forecast.month)}", f"<b>{expected}</b>", *filter(None, [below])]
    return f'<p class="forecast">{"<br>".join(lines)}</p>'


def _amount(key: str, value: Range) -> str:
    unit = unit_for(key, value.central)
    return f"{unit.number(value.central)} <small>{escape(unit.symbol)}</small>"


def _between(key: str, value: Range) -> str:
    unit = unit_for(key, value.central)
    return "" if value.min == value.max else f"{unit.number(value.min)} to {unit.number(value.max)} {escape(unit.symbol)}"


def _money(totals: Totals) -> str | None:
    if totals.cost_usd is None:
        return None
    unit = cost_unit(totals.cost_usd)
    return f"{unit.number(totals.cost_usd)} <small>{unit.symbol}</small>"


def _unpriced(totals: Totals) -> str:
    return f"{counted(totals.unpriced, 'request')} without a price" if totals.unpriced else ""


def _tokens(totals: Totals) -> str:
    return f"{compact(totals.input_tokens)} tokens in, {compact(totals.output_tokens)} out"


# --- coverage -----------------------------------------------------------------------------------------------------------


def _coverage(summary: Summary) -> str:
    report, total = summary.report, summary.report.total
    shares = {
        "with an estimate": total.requests - total.unestimated,
        **{f"with an estimate of {name}": known for name, known, _ in partly_known(total)},
        "with a price": total.requests - total.unpriced,
        "with counted tokens": max(0, total.requests - total.tokens_estimated - total.tokens_unknown),
        "that succeeded": total.requests - total.not_ok,
    }
    meters = "".join(_meter(name, number, total.requests) for name, number in shares.items())
    if report.skipped_lines:
        meters += f"<dt>illegible lines in the log</dt><dd>{report.skipped_lines:,}</dd>"
    errors = _codes("Why there are no figures", report.error_codes)
    warnings = _codes("What makes figures less certain", report.warning_codes)
    return f'<div class="coverage"><div><h3>Requests</h3><dl>{meters}</dl></div>{errors}{warnings}</div>'


def _meter(name: str, number: int, of: int) -> str:
    share = number / of
    percent = int(share * 1000) / 10  # rounded down: all is said only of all
    bars = (
        f'<rect class="track" width="300" height="6" rx="3"/>'
        f'<rect class="good" width="{300 * share:.1f}" height="6" rx="3"/>'
    )
    return (
        f"<dt>{name}</dt><dd>{number:,} of {of:,} ({percent:g} %)</dd>"
        f'<dd class="meter"><svg viewBox="0 0 300 6" preserveAspectRatio="none" aria-hidden="true">{bars}</svg></dd>'
    )


def _codes(title: str, codes: Mapping[str, int]) -> str:
    if not codes:
        return ""
    rows = "".join(f"<dt><code>{safe(code)}</code></dt><dd>{number:,}</dd>" for code, number in codes.items())
    return f"<div><h3>{title}</h3><dl>{rows}</dl></div>"


def _footer(summary: Summary) -> Iterator[str]:
    report, forecast = summary.report, summary.forecast
    if report.editions:
        yield f"<p>Figures by {'; '.join(map(safe, report.editions))}.</p>"
    yield (
        "<p>Figures are sums of central values; ranges run from the sum of all low ends to the sum of all high ends. "
        "What is unknown is counted, never taken as zero.</p>"
    )
    if forecast is not None:
        days = "whole day" if forecast.days_seen == 1 else f"{forecast.days_seen} whole days"
        yield f"<p>The month's end assumes that it goes on as in the last {days}.</p>"
    yield f"<p>Made {summary.made_at:%Y-%m-%d %H:%M} UTC by ecoimpact. Days are UTC.</p>"

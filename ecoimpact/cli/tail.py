"""``ecoimpact tail``: the newest requests of the log, one line each."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.cells import cell_len, set_cell_size

from ecoimpact.cli.log_options import DEFAULT, Log, OneLabel, checked_label, checked_log, now
from ecoimpact.cli.log_tail import Line, LogTail, plain
from ecoimpact.cli.money import CENT
from ecoimpact.cli.printable import printable, shortened
from ecoimpact.cli.quantities import unit_for
from ecoimpact.records.folding import figure_in
from ecoimpact.records.reader import moment_of

POLL_S = 0.5

_WIDTHS = {"time": 11, "status": 9, "model": 16, "tokens": 6, "latency": 7, "energy": 8, "CO2eq": 7, "US¢": 7, "labels": 0}
_RIGHT = frozenset({"tokens", "latency", "energy", "CO2eq", "US¢"})


def command(
    *,
    log: Log = DEFAULT,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the newest.")] = 10,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with those that come in; Ctrl-C ends it.")] = False,
    label: OneLabel = None,
    json: Annotated[bool, typer.Option("--json", help="Print the lines of the log as they are.")] = False,
) -> None:
    """Show the newest requests, of all processes that write the log. Times are UTC."""
    tail = LogTail(checked_log(log), checked_label(label))
    newest = tail.newest(lines)
    if not json and (newest or follow):
        print(head(_width()))
    _print(newest, json=json)
    if not newest and not follow:
        print("no requests" if label is None else f"no requests with {printable(label)}", file=sys.stderr)
    with contextlib.suppress(KeyboardInterrupt):
        while follow:
            time.sleep(POLL_S)
            _print(tail.appended(), json=json)


def _print(entries: Iterable[Line], *, json: bool) -> None:
    for entry in entries:
        print(plain(entry) if json else line(entry.record, _width()))
    sys.stdout.flush()


def _width() -> int | None:
    """On a terminal one record is one row; elsewhere it keeps its length."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def head(width: int | None = None) -> str:
    """The names of the columns."""
    return _joined({name: name for name in _WIDTHS}, width)


def line(record: dict[str, Any], width: int | None = None) -> str:
    """A record in one line, of at most ``width`` columns; the labels are what gives way."""
    return _joined(row(record), width)


def _joined(cells: dict[str, str], width: int | None) -> str:
    *front, labels = (
        set_cell_size(" " * (size - cell_len(cell)) + cell if name in _RIGHT else cell, max(size, cell_len(cell)))
        for (name, size), cell in zip(_WIDTHS.items(), cells.values(), strict=True)
    )
    text = " ".join(front)
    if width is None or cell_len(text) + 1 + cell_len(labels) <= width:
        return f"{text} {labels}".rstrip()
    room = width - cell_len(text) - 1
    return f"{text} {shortened(labels, room, ends=False)}" if room > 5 else shortened(text.rstrip(), width, ends=False)


def row(record: dict[str, Any]) -> dict[str, str]:
    """What is shown of a record. What nobody knows is a dash."""
    labels = record.get("labels")
    pairs = labels.items() if isinstance(labels, dict) else ()
    tokens = _number(record, "output_tokens")
    return {
        "time": _time(record),
        "status": shortened(printable(record.get("status") or "-"), _WIDTHS["status"]),
        "model": shortened(printable(record.get("model") or record.get("request_model") or "-"), _WIDTHS["model"]),
        "tokens": "-" if tokens is None else f"{'~' if record.get('tokens_estimated') is True else ''}{tokens:.0f}",
        "latency": "-" if (latency := _number(record, "latency_s")) is None else _duration(latency),
        "energy": _amount(record, "energy", "energy_kwh"),
        "CO2eq": _amount(record, "gwp", "gwp_kgco2eq").removesuffix("CO2eq"),
        "US¢": "-" if (cost := _number(record, "cost_usd")) is None else CENT.number(cost),
        "labels": " ".join(f"{printable(key)}={printable(value)}" for key, value in pairs),
    }


def _time(record: dict[str, Any]) -> str:
    moment = moment_of(record)
    if moment is None:
        return "-"
    return f"{moment:%H:%M:%S}" if moment.date() == now().date() else f"{moment:%m-%d %H:%M}"


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"


def _number(record: dict[str, Any], name: str) -> float | None:
    value = record.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _amount(record: dict[str, Any], criterion: str, name: str) -> str:
    value = figure_in(record, name)
    return "-" if value is None else unit_for(criterion, value.central).text(value.central)

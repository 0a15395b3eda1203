"""``ecoimpact demo``: a short chat through the real SDKs, with the figures of every call. Needs no key and no network."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

import ecoimpact
from ecoimpact import engine
from ecoimpact.cli import demo_chat
from ecoimpact.cli.demo_chat import CHAT, MESSAGES, QUESTIONS, RESPONSES, Call, Clients, Message, Say
from ecoimpact.cli.embedded_provider import EmbeddedProvider
from ecoimpact.cli.output import DEFAULT_LOG, console, show, table, wrong
from ecoimpact.cli.quantities import unit_for
from ecoimpact.types import Figure, Impacts, Notice, Range, Record

OPENAI_MODEL, ANTHROPIC_MODEL = "gpt-4o-mini", "claude-haiku-4-5"
SHOWN = {"energy": "energy", "gwp": "carbon", "wcf": "water"}
TIMEOUT_S = 120.0


def command(
    *,
    base_url: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible server to ask instead, such as http://localhost:11434/v1.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model to ask there.")] = None,
    api_key_env: Annotated[str | None, typer.Option(help="Variable that holds the key of that server.")] = None,
    log: Annotated[Path, typer.Option(envvar="ECOIMPACT_LOG", help="Directory of the log.")] = Path(DEFAULT_LOG),
    zone: Annotated[str | None, typer.Option(help="Electricity zone; default: the provider's own.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Let the embedded provider answer at once.")] = False,
) -> None:
    """Run a short chat through the real SDKs and show what each call cost.

    It talks to a provider of its own on this machine, or to any OpenAI-compatible server.
    """
    if (base_url is None) != (model is None):
        raise wrong("--base-url and --model belong together: the server, and the model to ask there", "--base-url")
    if base_url is not None and not base_url.startswith(("http://", "https://")):
        raise wrong(f"{base_url!r} is not an address such as http://localhost:11434/v1", "--base-url")
    if zone is not None:
        try:
            zone = engine.validate_zone(zone)
        except ValueError as error:
            raise wrong(str(error), "--zone") from None
    _need_sdks("openai", *([] if base_url else ["anthropic"]))
    out = console()
    if base_url is not None and model is not None:
        key = _key(api_key_env)
        calls = list(demo_chat.calls(CHAT, model))
        rows = _watched(out, calls, {"openai": _openai(base_url, key)}, log=log, zone=zone)
    else:
        apis = ((CHAT, OPENAI_MODEL), (RESPONSES, OPENAI_MODEL), (MESSAGES, ANTHROPIC_MODEL))
        calls = [call for api, name in apis for call in demo_chat.calls(api, name)]
        with EmbeddedProvider(speed=math.inf if fast else 1.0) as provider, _no_proxy():
            clients = {"openai": _openai(provider.openai_base_url, "none"), "anthropic": _anthropic(provider.base_url)}
            rows = _watched(out, calls, clients, log=log, zone=zone)
    _summary(out, rows, log)
    if any(row.failure for row in rows):
        if base_url is not None and not base_url.rstrip("/").endswith("/v1"):
            out.print("The address of most servers ends with /v1.")
        raise typer.Exit(1)


class Row(NamedTuple):
    """A finished call: what it cost, or why it failed."""

    call: Call
    impacts: Impacts | None = None
    record: Record | None = None
    failure: str | None = None


def _watched(out: Console, calls: list[Call], clients: dict[str, Clients], *, log: Path, zone: str | None) -> list[Row]:
    """The demo itself: one line to instrument, then a program that uses its SDKs as it always did."""
    records: list[Record] = []
    ecoimpact.instrument(
        *clients,
        zone=zone,
        log_dir=log,
        exporters=[records.append],
        labels={"app": "demo"},
        request_stream_usage=True,
    )
    rows: list[Row] = []
    history: list[Message] = []
    try:
        with Live(console=out, auto_refresh=False, transient=True) as live:
            for number, call in enumerate(calls):
                turn = number % len(QUESTIONS)
                history = [*(history if turn else []), {"role": "user", "content": QUESTIONS[turn]}]
                answer = _Answer(live, rows, call)
                row = _call(call, clients[call.api.sdk], history, records, answer.add)
                history.append({"role": "assistant", "content": answer.text or "..."})
                rows.append(row)
                if row.failure:
                    break
    finally:
        ecoimpact.uninstrument()
    return rows


def _call(call: Call, clients: Clients, history: list[Message], records: list[Record], say: Say) -> Row:
    try:
        answer = demo_chat.ask(call, clients, history, say)
    except Exception as error:  # noqa: BLE001 - whatever the server or the SDK object to is shown, not raised
        return Row(call, failure=f"{type(error).__name__}: {error}")
    ecoimpact.flush(timeout_s=10)  # the record is made in the background; a program need not wait for it
    return Row(call, ecoimpact.impacts_of(answer), records[-1] if records else None)


class _Answer:
    """Collects an answer's text and shows its end below the table while it comes in."""

    def __init__(self, live: Live, rows: list[Row], call: Call) -> None:
        self._live, self._rows, self._call = live, rows, call
        self.text = ""
        self.add("")

    def add(self, piece: str) -> None:
        self.text += piece
        line = Text(f"{self._call.name}: {self.text[-300:]}".replace("\n", " "), style="dim")
        width = self._live.console.width - 4
        if len(line) > width:
            line = Text("... ", style="dim") + line[-width:]
        self._live.update(Group(_figures(self._rows), line), refresh=True)


# --- what is shown ------------------------------------------------------------------------------------------------------


def _figures(rows: list[Row]) -> Table:
    units = {key: unit_for(key, max((figure.central for figure in _all(rows, key)), default=0.0)) for key in SHOWN}
    criteria = [f"{name}\n{units[key].symbol}" for key, name in SHOWN.items()]
    figures = table("call", "model", "tokens", *criteria, "notes", numbers=("tokens", *criteria))
    for column in figures.columns:
        column.no_wrap = column.header != "model"
    figures.columns[1].overflow = "fold"
    numbers = {notice: number for number, notice in enumerate(_notices(rows), start=1)}
    for row in rows:
        tokens = row.record.inference.usage.output_tokens if row.record else None
        cells = ["-" if (figure := _figure(row, key)) is None else units[key].number(figure.central) for key in SHOWN]
        notes = "failed" if row.failure else " ".join(str(numbers[notice]) for notice in _notices([row]))
        figures.add_row(row.call.name, Text(row.call.model), "-" if tokens is None else str(tokens), *cells, notes)
    return figures


def _figure(row: Row, key: str) -> Figure | None:
    figure: Figure | None = getattr(row.impacts, key, None)
    return figure


def _all(rows: list[Row], key: str) -> list[Figure]:
    return [figure for row in rows if (figure := _figure(row, key)) is not None]


def _notices(rows: list[Row]) -> list[Notice]:
    """Every warning and error once, in the order in which they came up."""
    found = [notice for row in rows if row.impacts for notice in (*row.impacts.errors, *row.impacts.warnings)]
    return list(dict.fromkeys(found))


def _summary(out: Console, rows: list[Row], log: Path) -> None:
    show(out, _figures(rows))
    errors = {notice for row in rows if row.impacts for notice in row.impacts.errors}
    for number, notice in enumerate(_notices(rows), start=1):
        out.print(f"{number}  {'No estimate: ' if notice in errors else ''}{notice}", style="dim", markup=False)
    for row in rows:
        if row.failure:
            out.print(f"{row.call.name} failed. {row.failure}", style="bold red", markup=False)
    estimated = [row.impacts for row in rows if row.impacts is not None and not row.impacts.has_errors]
    done = sum(row.failure is None for row in rows)
    if estimated:
        some = "" if len(estimated) == done else f", {done - len(estimated)} of them without an estimate"
        out.print(f"\n{done} calls{some}: {estimated[0].methodology}, zone {_zones(estimated)}", style="bold", markup=False)
        for key, name in SHOWN.items():
            figures = _all(rows, key)
            if figures:
                total = sum((figure.value for figure in figures), Range(0.0, 0.0))
                unit = unit_for(key, total.central)
                out.print(f"  {name:<7} {unit.span(total)} {unit.symbol}", markup=False)
    elif done:
        out.print(f"\n{done} calls, and no estimate for any of them: see the notes above.", style="bold", markup=False)
    if done:
        out.print("\nEach call is one record in the log. To look at them:", markup=False)
        for command in ("dashboard", "report", "tail", "report --format html --out report.html"):
            out.print(f"  ecoimpact {command} --log {shlex.quote(str(log))}", markup=False, soft_wrap=True)
        out.print("Your own program needs two lines more:", markup=False)
        out.print(f'  import ecoimpact\n  ecoimpact.instrument(log_dir="{log}")', markup=False, soft_wrap=True)


def _zones(estimated: list[Impacts]) -> str:
    return ", ".join(dict.fromkeys(impacts.zone or "unknown" for impacts in estimated))


# --- the way to the servers ---------------------------------------------------------------------------------------------


def _need_sdks(*names: str) -> None:
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise wrong(f'it needs {" and ".join(missing)}: pip install "ecoimpact[{",".join(missing)}]"', "demo")


def _key(variable: str | None) -> str:
    if variable is None:
        return "none"  # the SDK wants one, most local servers do not; a key of another service is not sent to them
    key = os.environ.get(variable)
    if not key:
        raise wrong(f"the variable {variable!r} is not set", "--api-key-env")
    return key


def _openai(base_url: str, key: str) -> Clients:
    import openai

    settings: dict[str, Any] = {"base_url": base_url, "api_key": key, "max_retries": 0, "timeout": TIMEOUT_S}
    return Clients(lambda: openai.OpenAI(**settings), lambda: openai.AsyncOpenAI(**settings))


def _anthropic(base_url: str) -> Clients:
    import anthropic

    settings: dict[str, Any] = {"base_url": base_url, "api_key": "none", "max_retries": 0, "timeout": TIMEOUT_S}
    return Clients(lambda: anthropic.Anthropic(**settings), lambda: anthropic.AsyncAnthropic(**settings))


@contextlib.contextmanager
def _no_proxy() -> Iterator[None]:
    """Reach loopback directly, whatever proxy the environment names."""
    names = ("no_proxy", "NO_PROXY")
    before = {name: os.environ.get(name) for name in names}
    for name, value in before.items():
        os.environ[name] = ",".join(filter(None, (value, "127.0.0.1")))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

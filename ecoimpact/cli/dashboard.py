"""``ecoimpact dashboard``: the log as a page."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from ecoimpact import config
from ecoimpact.budgets import Budget
from ecoimpact.cli import report_html, report_timeline
from ecoimpact.cli.log_options import DEFAULT, Log, checked_log, failures_said, now, open_index
from ecoimpact.cli.output import wrong
from ecoimpact.cli.report_data import as_csv, gather
from ecoimpact.records.index import Index
from ecoimpact.records.queries import Where

TOKEN_VARIABLE = "ECOIMPACT_DASHBOARD_TOKEN"  # noqa: S105 - the name of it
_PORT = 8377


def command(
    *,
    log: Log = DEFAULT,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 is any that is free.")] = _PORT,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Beyond loopback, whoever asks needs the token that is printed.")
    ] = "127.0.0.1",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
) -> None:
    """Show the log in a browser: cost, energy, carbon and water, live, until Ctrl-C.

    Only this machine can reach it, unless --host says otherwise.
    """
    checked_log(log)
    for package in ("starlette", "uvicorn", "plotly"):
        if find_spec(package) is None:
            print(f'ecoimpact: the dashboard needs {package}: pip install "ecoimpact[dashboard]"', file=sys.stderr)
            raise typer.Exit(1)
    from ecoimpact.dashboard.server import Address, serve

    def ready(address: Address) -> None:
        print(f"The dashboard of {log} is at {address.url} (Ctrl-C ends it).", flush=True)
        if not no_browser:
            _open(address.url)

    with open_index(log):  # with a bar, where that takes long
        pass
    try:
        with failures_said():
            serve(
                log,
                host=host,
                port=port,
                token=os.environ.get(TOKEN_VARIABLE) or None,
                budgets=_budgets(),
                reports=reports(),
                ready=ready,
            )
    except KeyboardInterrupt:
        return


def reports() -> dict[str, Any]:
    """The reports that the page offers for download: those of ``ecoimpact report``."""

    def html(index: Index, by: str, where: Where) -> str:
        summary = gather(index, index.log_dir.name, by, where, now())
        return report_html.page(summary, report_timeline.series(index, summary))

    return {"html": html, "csv": lambda index, by, where: as_csv(gather(index, index.log_dir.name, by, where, now()))}


def _budgets() -> tuple[Budget, ...]:
    try:
        found: tuple[Budget, ...] = config.from_surroundings().get("budgets", ())
    except ValueError as error:
        raise wrong(str(error), "pyproject.toml") from None
    return found


def _open(url: str) -> None:
    import threading
    import webbrowser

    # Some browsers keep whoever starts them waiting.
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

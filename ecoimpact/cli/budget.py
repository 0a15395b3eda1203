"""``ecoimpact budget check``: how the budgets stand, with an exit code for scripts."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from ecoimpact import config
from ecoimpact.budgets import UNITS, Budget, Spending, spending
from ecoimpact.cli.log_options import DEFAULT, Log, OneLabel, checked_label, checked_log, now, open_index
from ecoimpact.cli.output import console, print_json, show, table, wrong
from ecoimpact.cli.printable import printable
from ecoimpact.cli.quantities import Unit

group = typer.Typer(help="Budgets of money, carbon, energy and water over a log.", no_args_is_help=True)

_EXAMPLE = '[tool.ecoimpact.budgets.chat]\nusd = 200\nperiod = "month"'


@group.callback()
def _budget() -> None:
    """Budgets of money, carbon, energy and water over a log."""


@group.command("check")
def check(
    *,
    log: Log = DEFAULT,
    usd: Annotated[float | None, typer.Option(help="A limit in USD, instead of the configured budgets.")] = None,
    gco2eq: Annotated[float | None, typer.Option(help="A limit in gCO2eq.")] = None,
    wh: Annotated[float | None, typer.Option(help="A limit in Wh.")] = None,
    litres: Annotated[float | None, typer.Option("--l", help="A limit in litres of water.")] = None,
    period: Annotated[str, typer.Option(help="Of that limit: day, week, month, year or total.")] = "month",
    label: OneLabel = None,
    per: Annotated[str | None, typer.Option(help="Each value of this label has that limit for itself.")] = None,
    fail_at: Annotated[float, typer.Option(min=0, help="Per cent of a limit from which on to fail.")] = 100.0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how much of each budget is used. Exits with 1 when one has come to --fail-at per cent of its limit.

    Budgets are those of [tool.ecoimpact.budgets] in the nearest pyproject.toml, or the one that the options describe.
    """
    limits = {"usd": usd, "gco2eq": gco2eq, "wh": wh, "l": litres}
    given = {name: value for name, value in limits.items() if value is not None}
    budgets = (_given(given, period, label, per),) if given else _configured()
    with open_index(checked_log(log)) as index:
        states = spending(index, budgets, now=now())
    if json:
        print_json([_plain(state, fail_at) for state in states])
    else:
        _show(states, fail_at)
    if any(_failed(state, fail_at) for state in states):
        raise typer.Exit(1)


def _given(limits: dict[str, float], period: str, label: str | None, per: str | None) -> Budget:
    options: dict[str, Any] = {**limits, "period": period, "label": checked_label(label), "per": per}
    try:
        return Budget("given", **options)
    except ValueError as error:
        raise wrong(str(error), " / ".join(f"--{name}" for name in limits)) from None


def _configured() -> tuple[Budget, ...]:
    try:
        budgets: tuple[Budget, ...] = config.from_surroundings().get("budgets", ())
    except ValueError as error:
        raise wrong(str(error), "pyproject.toml") from None
    if not budgets:
        limits = ", ".join(f"--{name}" for name in UNITS)
        raise wrong(
            f"there are none. Put some into pyproject.toml, such as\n{_EXAMPLE}\nor give one of {limits}", "budgets"
        )
    return budgets


def _failed(state: Spending, fail_at: float) -> bool:
    return state.used is not None and state.share * 100 >= fail_at


def _plain(state: Spending, fail_at: float) -> dict[str, Any]:
    budget, used = state.budget, state.used
    return {
        "budget": budget.name,
        "scope": state.scope,
        "period": budget.period,
        "began": state.began.isoformat() if state.began is not None else None,
        "unit": budget.unit.symbol,
        "limit": budget.limit,
        "used_min": used.min if used is not None else None,
        "used": used.central if used is not None else None,
        "used_max": used.max if used is not None else None,
        "share": state.share if used is not None else None,
        "requests": state.requests,
        "uncounted": state.uncounted,
        "failed": _failed(state, fail_at),
    }


def _show(states: list[Spending], fail_at: float) -> None:
    out = console()
    rows = table("budget", "since", "used", "limit", "", "share", numbers=("used", "limit", "share"))
    for column in rows.columns[1:]:
        column.no_wrap = True
    for state in states:
        budget = state.budget
        name = printable(budget.name if state.scope is None else f"{budget.name}: {state.scope}")
        failed = _failed(state, fail_at)
        rows.add_row(
            Text(name),
            f"{state.began:%Y-%m-%d}" if state.began is not None else "ever",
            "-" if state.used is None else Unit("", 1.0).span(state.used),
            f"{budget.limit:g} {budget.unit.symbol}",
            _bar(state.share),
            "-" if state.used is None else f"{state.share:.0%}",
            style="bold red" if failed else "yellow" if state.share >= 0.8 else None,
        )
    show(out, rows)
    if not states:
        out.print("No request has the labels that the budgets are for.", markup=False)
    for state in states:
        if state.uncounted:
            what = "price" if state.budget.unit.symbol == "USD" else "estimate"
            out.print(
                f"! {printable(state.budget.name)}: {state.uncounted} of {state.requests} requests have no {what}, "
                "and are not in the sum",
                markup=False,
            )


def _bar(share: float) -> str:
    """Ten steps; a plus where it is more than all.

    >>> _bar(0.34), _bar(1.2)
    ('###.......', '##########+')
    """
    full = min(int(share * 10), 10)
    return "#" * full + "." * (10 - full) + ("+" if share > 1 else "")

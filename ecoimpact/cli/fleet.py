"""``ecoimpact fleet``: what a dedicated fleet cost for the requests of the log, and whose that is."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ecoimpact.cli.files import STDOUT, checked_out, new_file
from ecoimpact.cli.log_options import (
    DEFAULT,
    Log,
    OneLabel,
    Since,
    Until,
    checked_choice,
    checked_label,
    checked_log,
    checked_period,
    failures_said,
    now,
    open_index,
)
from ecoimpact.cli.output import print_json, wrong
from ecoimpact.records.queries import Where

if TYPE_CHECKING:
    from ecoimpact.cli.fleet_file import Described
    from ecoimpact.fleet import AttributedFootprint, Demand

FORMATS = ("table", "json", "csv")


def command(
    *,
    log: Log = DEFAULT,
    server: Annotated[
        Path | None,
        typer.Option(help='TOML file of the fleet: kind = "gpu-server" or "managed-inference", and parameters.'),
    ] = None,
    instance: Annotated[str | None, typer.Option(help="Without a file: nodes of Managed Inference, such as L4.")] = None,
    nodes: Annotated[float | None, typer.Option(help="How many of them; default: 1.", show_default=False)] = None,
    zone: Annotated[str | None, typer.Option(help="Where they are, such as fr-par-2.")] = None,
    by: Annotated[str, typer.Option(help="model, provider, endpoint, zone, methodology, or label:KEY.")] = "model",
    since: Since = None,
    until: Until = None,
    model: Annotated[str | None, typer.Option(help="Only requests to this model.", show_default=False)] = None,
    provider: Annotated[str | None, typer.Option(help="Only requests to this provider.", show_default=False)] = None,
    label: OneLabel = None,
    attribution: Annotated[
        str | None,
        typer.Option(help="gpu-server: seed, current. managed-inference: tokens, time, requests.", show_default=False),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many groups the table shows before it folds the others.")] = 20,
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")] = "table",  # noqa: A002 - the option's name
    plot: Annotated[Path | None, typer.Option(help="Also write a page with the hours to this file.")] = None,
) -> None:
    """Model the fleet that answered the requests of the log, hour by hour, and share its footprint.

    The fleet is on from --since to --until, without them from the first request to the last.
    """
    _check_installed(plot)
    _check_plot(plot)
    checked_choice(format, FORMATS, "--format")
    described = _fleet(server, instance, nodes, zone)
    first, end = checked_period(since, until)
    where = Where(since=first, until=end, model=model, provider=provider, label=checked_label(label))

    from ecoimpact.cli import fleet_data, fleet_table
    from ecoimpact.fleet import RULES
    from ecoimpact.fleet.attributed import kind_of

    if attribution is not None:
        checked_choice(attribution, RULES[kind_of(described.deployment)], "--attribution")
    found = _footprint(_demand(log, by, where), described, attribution)

    if plot is not None:
        _write_page(found, plot)
    if format == "json":
        print_json(fleet_data.as_json(found, str(log), now()))
    elif format == "csv":
        sys.stdout.write(fleet_data.as_csv(found))
    else:
        fleet_table.show_footprint(found, str(log), top)


def _check_installed(plot: Path | None) -> None:
    if find_spec("numpy") is None:
        raise wrong('hours are computed in arrays, which needs numpy: pip install "ecoimpact[fleet]"', "fleet")
    if plot is not None and find_spec("plotly") is None:
        raise wrong('a page needs plotly: pip install "ecoimpact[fleet]"', "--plot")


def _check_plot(plot: Path | None) -> None:
    if plot is None:
        return
    if plot == STDOUT:
        raise wrong("a page goes into a file: name one", "--plot")
    try:
        checked_out(plot, force=True)
    except typer.BadParameter as error:
        raise wrong(error.message, "--plot") from None


def _fleet(server: Path | None, instance: str | None, nodes: float | None, zone: str | None) -> Described:
    from ecoimpact.cli.fleet_file import described_by, read

    preset = {"instance": instance, "nodes": nodes, "zone": zone}
    given = {name: value for name, value in preset.items() if value is not None}
    if server is not None:
        if given:
            raise wrong("they are for a fleet without a file; write them into it", ", ".join(f"--{name}" for name in given))
        return read(server)
    if instance is None:
        raise wrong(
            "say which fleet: --server FILE.toml, or --instance and --zone, such as --instance L4 --zone fr-par-2",
            "--server",
        )
    try:
        return described_by({"kind": "managed-inference", **given})
    except ValueError as error:
        raise wrong(str(error), ", ".join(f"--{name}" for name in preset)) from None


def _demand(log: Path, by: str, where: Where) -> Demand:
    from ecoimpact.fleet import from_index

    with open_index(checked_log(log)) as index:
        try:
            return from_index(index, by=by, where=where, now=now())  # what is to come is no part of a fleet's past
        except ValueError as error:
            raise wrong(str(error), "--by, --since, --until, --label") from None


def _footprint(demand: Demand, described: Described, attribution: str | None) -> AttributedFootprint:
    from ecoimpact.fleet import footprint
    from ecoimpact.fleet.attributed import Rule

    rule = cast("Rule | None", attribution)
    try:
        found = footprint(demand, described.deployment, attribution=rule, **described.of_a_request)
    except ValueError as error:
        raise wrong(str(error), "--server") from None
    given = described.given - described.of_a_request.keys()  # a default that somebody wrote down is no assumption
    return replace(found, assumptions=tuple(each for each in found.assumptions if each.name not in given))


def _write_page(found: AttributedFootprint, path: Path) -> None:
    from ecoimpact.cli.fleet_page import html

    page = html(found)
    with failures_said(), new_file(path, force=True) as file:
        file.write(page.encode("utf-8", "replace"))
    print(f"The page is in {path}.", file=sys.stderr)

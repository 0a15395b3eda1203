"""All commands of ``ecoimpact``, one file each."""

from __future__ import annotations

from typing import Annotated

import typer

import ecoimpact
from ecoimpact.cli import (
    budget,
    compact,
    compare,
    dashboard,
    demo,
    doctor,
    estimate,
    export,
    fleet,
    import_,
    models,
    prune,
    reestimate,
    report,
    run,
    tail,
    top,
    zones,
)

app = typer.Typer(
    name="ecoimpact",
    help="What LLM calls cost in energy, carbon, minerals, primary energy and water.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain messages: they are read by scripts as well
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"ecoimpact {ecoimpact.__version__}")
        raise typer.Exit


@app.callback()
def _ecoimpact(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


for command in (demo, report, dashboard, top, tail, export, prune, fleet, estimate, compare, models, zones, doctor):
    app.command(command.__name__.rpartition(".")[2])(command.command)
app.command("compact")(compact.command)
app.command("import")(import_.command)
app.command("reestimate")(reestimate.command)
app.command("run", cls=run.Command)(run.command)
app.add_typer(budget.group, name="budget")

"""``ecoimpact models``: which models are known, and how large they are taken to be."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ecoimpact import engine
from ecoimpact.cli.output import checked_provider, console, print_json, table
from ecoimpact.types import Range


def command(
    text: Annotated[str, typer.Argument(help="The same as --search.", show_default=False)] = "",
    *,
    provider: Annotated[str | None, typer.Option(help="Only models of this provider.")] = None,
    search: Annotated[str, typer.Option(help="Only models whose name contains this.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models that are known, with their sizes."""
    wanted = (search or text).lower()
    cards = [card for card in engine.models(checked_provider(provider)) if wanted in card.name.lower()]
    if json:
        print_json(
            [
                {
                    "provider": card.provider,
                    "model": card.name,
                    "architecture": card.architecture,
                    "active_params_b_min": card.active_params_b.min,
                    "active_params_b_max": card.active_params_b.max,
                    "total_params_b_min": card.total_params_b.min,
                    "total_params_b_max": card.total_params_b.max,
                    "weight_bits": card.weight_bits,
                    "warnings": list(card.warnings),
                    "source": card.source,
                }
                for card in cards
            ]
        )
        return
    rows = table("provider", "model", "active B", "total B", numbers=("active B", "total B"))
    for card in cards:
        rows.add_row(card.provider, card.name, _billions(card.active_params_b), _billions(card.total_params_b))
    if cards:
        console(lists=True).print(rows, markup=False)
    print(f"{len(cards)} models; sizes in billions of parameters", file=sys.stderr)


def _billions(size: Range) -> str:
    return f"{size.min:g}" if size.min == size.max else f"{size.min:g} to {size.max:g}"

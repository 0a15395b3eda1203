"""``ecoimpact zones``: the electricity zones and how clean their grids are."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ecoimpact import engine
from ecoimpact.cli.output import console, print_json, table


def command(
    text: Annotated[str, typer.Argument(help="The same as --search.", show_default=False)] = "",
    *,
    search: Annotated[str, typer.Option(help="Only zones whose code or name contains this.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the electricity zones with the factors of a kWh."""
    wanted = (search or text).lower()
    zones = [zone for zone in engine.zones() if wanted in zone.code.lower() or wanted in zone.name.lower()]
    if json:
        print_json(
            [
                {
                    "zone": zone.code,
                    "name": zone.name,
                    "gwp_kgco2eq_per_kwh": zone.mix.gwp.mean,
                    "adpe_kgsbeq_per_kwh": zone.mix.adpe.mean,
                    "pe_mj_per_kwh": zone.mix.pe.mean,
                    "wue_l_per_kwh": zone.mix.wue.mean,
                    "year": zone.mix.year or None,
                    "warnings": list(zone.mix.warnings),
                    "source": zone.mix.source,
                }
                for zone in zones
            ]
        )
        return
    numbers = ("gCO2eq/kWh", "MJ/kWh", "L/kWh")
    rows = table("zone", "name", *numbers, "year", numbers=numbers)
    for zone in zones:
        mix = zone.mix
        rows.add_row(
            zone.code, zone.name, f"{mix.gwp.mean * 1e3:.0f}", f"{mix.pe.mean:.2f}", f"{mix.wue.mean:.2f}", mix.year
        )
    if zones:
        console(lists=True).print(rows, markup=False)
    print(f"{len(zones)} zones", file=sys.stderr)

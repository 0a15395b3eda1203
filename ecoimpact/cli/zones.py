"""``ecoimpact zones``: the electricity zones and how clean their grids are, and the regions of clouds that lie in them."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from ecoimpact import data, engine
from ecoimpact.cli.output import console, print_json, table
from ecoimpact.types import ElectricityMix

_GRID = ("gCO2eq/kWh", "MJ/kWh", "L/kWh")
_REGION = ("gCO2eq/kWh", "PUE", "L/kWh on site")


def command(
    text: Annotated[str, typer.Argument(help="The same as --search.", show_default=False)] = "",
    *,
    search: Annotated[str, typer.Option(help="Only zones and regions whose code or name contains this.")] = "",
    regions: Annotated[bool, typer.Option("--regions", help="The regions of clouds too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the electricity zones with the factors of a kWh."""
    wanted = (search or text).lower()
    zones = [zone for zone in engine.zones() if wanted in zone.code.lower() or wanted in zone.name.lower()]
    places = [place for place in data.regions() if wanted in place.code or wanted in place.place.lower()]
    if zones and not regions and ":" not in wanted:
        places = []  # many, and more than was asked for
    if json:
        print_json([*map(_zone, zones), *map(_region, places)])
        return
    if zones:
        _show_zones(zones)
    if places:
        _show_regions(places)
    print(f"{len(zones)} zones" + (f", {len(places)} regions" if places else ""), file=sys.stderr)


def _zone(zone: data.Zone) -> dict[str, Any]:
    return {"zone": zone.code, "name": zone.name, **_factors(zone.mix), "source": zone.mix.source}


def _region(region: data.Region) -> dict[str, Any]:
    return {
        "zone": region.code,
        "name": region.place,
        "grid_zone": region.zone,
        "pue": None if region.pue is None else region.pue.mean,
        "site_wue_l_per_kwh": None if region.wue_l_per_kwh is None else region.wue_l_per_kwh.mean,
        "site_year": region.year or None,
        **_factors(_mix(region)),
        "source": f"{region.source} {_mix(region).source}",
    }


def _factors(mix: ElectricityMix) -> dict[str, Any]:
    return {
        "gwp_kgco2eq_per_kwh": mix.gwp.mean,
        "adpe_kgsbeq_per_kwh": mix.adpe.mean,
        "pe_mj_per_kwh": mix.pe.mean,
        "wue_l_per_kwh": mix.wue.mean,
        "year": mix.year or None,
        "warnings": list(mix.warnings),
    }


def _mix(region: data.Region) -> ElectricityMix:
    mix = data.mix(region.zone)
    assert mix is not None  # noqa: S101 - a test sees to it for every region
    return mix


def _show_zones(zones: list[data.Zone]) -> None:
    rows = table("zone", "name", *_GRID, "year", numbers=_GRID)
    for zone in zones:
        mix = zone.mix
        rows.add_row(
            zone.code, zone.name, f"{mix.gwp.mean * 1e3:.0f}", f"{mix.pe.mean:.2f}", f"{mix.wue.mean:.2f}", mix.year
        )
    console(lists=True).print(rows, markup=False)


def _show_regions(regions: list[data.Region]) -> None:
    rows = table("region", "place", "zone", *_REGION, "year", numbers=_REGION)
    for region in regions:
        own = ("" if figure is None else f"{figure.mean:.2f}" for figure in (region.pue, region.wue_l_per_kwh))
        rows.add_row(region.code, region.place, region.zone, f"{_mix(region).gwp.mean * 1e3:.0f}", *own, region.year)
    console(lists=True).print(rows, markup=False)

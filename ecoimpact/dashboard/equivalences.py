"""The same amounts in things that people know, each with its source and date. They illustrate and prove nothing."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from ecoimpact.records.queries import Totals
from ecoimpact.types import Range


class Equivalence(NamedTuple):
    """``per_unit`` is how much of ``field`` (in the unit of the totals) one ``unit`` is."""

    name: str
    field: str
    unit: str
    per_unit: float
    basis: str
    source: str
    date: str


KM_PER_MILE: Final = 1.609344
L_PER_GALLON: Final = 3.785411784

EQUIVALENCES: Final = (
    Equivalence(
        "car",
        "gwp",
        "km by car",
        0.400 / KM_PER_MILE,  # kgCO2
        "an average passenger car in the USA emits about 400 g CO2 a mile from its tailpipe",
        "US EPA, Tailpipe Greenhouse Gas Emissions from a Typical Passenger Vehicle, EPA-420-F-23-014",
        "2023-06",
    ),
    Equivalence(
        "home",
        "energy",
        "hours of a US home's electricity",
        10_715 / 8_760,  # kWh
        "an average residential customer in the USA took 10 715 kWh in 2020",
        "US EIA, How much electricity does an American home use?",
        "2021-10",
    ),
    Equivalence(
        "shower",
        "wcf",
        "minutes of a shower",
        2.5 * L_PER_GALLON,  # L
        "a shower head in the USA lets through at most 2.5 gallons a minute",
        "US Code of Federal Regulations, 10 CFR 430.32(p)",
        "1994-01",
    ),
)


def equivalences(totals: Totals) -> list[dict[str, Any]]:
    """The totals in each; those of unknown amounts are left out."""
    found = []
    for each in EQUIVALENCES:
        value: Range | None = getattr(totals, each.field)
        if value is not None:
            low, middle, high = (end / each.per_unit for end in (value.min, value.central, value.max))
            found.append({**each._asdict(), "min": low, "central": middle, "max": high})
    return found

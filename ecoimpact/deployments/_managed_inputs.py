"""What a deployment of Managed Inference rests on, and the arithmetic over it.

Rules: every figure comes from the caller, else from the instance or the zone, else it is assumed, and the result can say
which; one that is needed and has no such source is an error. The low end of a range takes everything that lowers the
impact: capacities and lifetimes with their high values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from ecoimpact.deployments import scaleway
from ecoimpact.deployments._checks import number
from ecoimpact.deployments.scaleway import Figure
from ecoimpact.types import Explanation, Range, Step

NAME: Final = "managed-inference"

Quantity: TypeAlias = float | Range
End: TypeAlias = Callable[[str, Quantity], float]


class Assumption(NamedTuple):
    """A figure that nobody gave and the operator does not publish: what it is taken to be, why, and after which source.

    >>> print(Assumption("storage_server_power_w", 600.0, "W", "an example", "a page"))
    storage_server_power_w = 600 W: an example
    """

    name: str
    value: Quantity
    unit: str
    why: str
    source: str

    def __str__(self) -> str:
        return f"{self.name} = {self.value:.4g} {self.unit}: {self.why}"


class Parameter(NamedTuple):
    """The unit of a parameter, its bounds, whether more of it means less impact, and where its default is published."""

    unit: str
    at_least: float = 0.0
    above: float = -math.inf
    at_most: float = math.inf
    lowers: bool = False
    default: float | None = None
    source: str = ""


PARAMETERS: Final[Mapping[str, Parameter]] = {
    "nodes": Parameter("node", above=0),
    "node_power_w": Parameter("W"),
    "node_fabrication_kgco2eq": Parameter("kgCO2eq"),
    "infrastructure_power_w": Parameter("W"),
    "infrastructure_fabrication_kgco2eq": Parameter("kgCO2eq"),
    "control_plane_power_w_per_node": Parameter("W"),
    "control_plane_fabrication_kgco2eq_per_node": Parameter("kgCO2eq"),
    "imported_model_gb": Parameter("GB", default=0.0),
    "storage_replication": Parameter("", at_least=1, default=1.5, source="object-storage"),
    "storage_fill_rate": Parameter("", above=0, at_most=1, lowers=True, default=0.8, source="object-storage"),
    "storage_server_capacity_gb": Parameter("GB", above=0, lowers=True),
    "storage_server_power_w": Parameter("W"),
    "storage_server_fabrication_kgco2eq": Parameter("kgCO2eq"),
    "lifespan_h": Parameter("h", above=0, lowers=True, default=52_560.0, source="reference-values"),
    "pue": Parameter("", at_least=1),
    "grid_kgco2eq_per_kwh": Parameter("kgCO2eq/kWh"),
    "wue_l_per_kwh": Parameter("L/kWh"),
    "site_power_w": Parameter("W", above=0, lowers=True),
    "data_centre_fabrication_kgco2eq": Parameter("kgCO2eq"),
    "data_centre_lifespan_h": Parameter("h", above=0, lowers=True, default=219_000.0, source="reference-values"),
    "network_power_w": Parameter("W"),
    "network_fabrication_kgco2eq": Parameter("kgCO2eq"),
    "network_lifespan_h": Parameter("h", above=0, lowers=True, default=87_600.0, source="reference-values"),
    "cross_functional_power_w": Parameter("W"),
    "cross_functional_fabrication_kgco2eq": Parameter("kgCO2eq"),
}


class Part(NamedTuple):
    """A part of a deployment: what it needs to know, the formulas of its power and hardware, the lifespan of that."""

    inputs: tuple[str, ...]
    power_w: str
    hardware_kgco2eq: str
    lifespan: str = "lifespan_h"


OWN_PARTS: Final[Mapping[str, Part]] = {
    "nodes": Part(
        ("nodes", "node_power_w", "node_fabrication_kgco2eq"),
        "nodes * node_power_w",
        "nodes * node_fabrication_kgco2eq",
    ),
    "infrastructure": Part(
        ("infrastructure_power_w", "infrastructure_fabrication_kgco2eq"),
        "infrastructure_power_w",
        "infrastructure_fabrication_kgco2eq",
    ),
    "control_plane": Part(
        ("control_plane_power_w_per_node", "control_plane_fabrication_kgco2eq_per_node"),
        "nodes * control_plane_power_w_per_node",
        "nodes * control_plane_fabrication_kgco2eq_per_node",
    ),
    "model_storage": Part(
        tuple(name for name in PARAMETERS if name.startswith(("imported_", "storage_"))),
        "storage_share * storage_server_power_w",
        "storage_share * storage_server_fabrication_kgco2eq",
    ),
}
"""The parts that the methodology names; the last one only for an imported model."""

SITE_PARTS: Final[Mapping[str, Part]] = {
    "data_centre": Part(
        ("data_centre_fabrication_kgco2eq",),
        "",  # its power is in the PUE
        "site_share * data_centre_fabrication_kgco2eq",
        "data_centre_lifespan_h",
    ),
    "network": Part(
        ("network_power_w", "network_fabrication_kgco2eq"),
        "site_share * network_power_w",
        "site_share * network_fabrication_kgco2eq",
        "network_lifespan_h",
    ),
    "cross_functional": Part(
        ("cross_functional_power_w", "cross_functional_fabrication_kgco2eq"),
        "site_share * cross_functional_power_w",
        "site_share * cross_functional_fabrication_kgco2eq",
    ),
}
"""What the whole site has, shared by power: counted where the site's totals are given."""

NEVER_COUNTED: Final = ("non_it",)


@dataclass(frozen=True, slots=True)
class Inputs:
    """All figures that a deployment rests on, in the order of an explanation, and the parts that they make up."""

    figures: Mapping[str, Figure]
    parts: Mapping[str, Part]
    assumptions: tuple[Assumption, ...]

    @property
    def not_counted(self) -> tuple[str, ...]:
        return (*(part for part in SITE_PARTS if part not in self.parts), *NEVER_COUNTED)

    @property
    def is_range(self) -> bool:
        return any(isinstance(figure.value, Range) for figure in self.figures.values())

    def compute(self, duration_h: float, end: End) -> dict[str, float]:
        """Every symbol at one end of the ranges.

        E_IT = sum of power x t;  E = PUE E_IT;  use = E CI;  fabrication = sum of t / lifespan x hardware;
        GWP = use + fabrication;  WCF = E_IT WUE   [kWh, kgCO2eq, L; power in kW, t in h]

        Reference: Scaleway, Environmental Footprint calculation breakdown.
        """
        v = {name: end(name, figure.value) for name, figure in self.figures.items()}
        v |= _own_parts(v, with_storage="model_storage" in self.parts)
        if "site_power_w" in v:
            v |= _site_parts(v, self.parts)
        powers_w = {part: v.get(f"{part}_part_power_w", 0.0) for part in self.parts}
        worn = {
            name: duration_h / v[part.lifespan] * v[f"{name}_part_hardware_kgco2eq"] for name, part in self.parts.items()
        }
        v["it_energy_kwh"] = sum(powers_w.values()) * duration_h / 1000
        v["energy_kwh"] = v["pue"] * v["it_energy_kwh"]
        v["use_kgco2eq"] = v["energy_kwh"] * v["grid_kgco2eq_per_kwh"]
        v["fabrication_kgco2eq"] = sum(worn.values())
        v["gwp_kgco2eq"] = v["use_kgco2eq"] + v["fabrication_kgco2eq"]
        if "wue_l_per_kwh" in v:
            v["wcf_l"] = v["it_energy_kwh"] * v["wue_l_per_kwh"]
        for part, power_w in powers_w.items():
            v[f"{part}_kgco2eq"] = power_w * duration_h / 1000 * v["pue"] * v["grid_kgco2eq_per_kwh"] + worn[part]
        return v

    def explain(self, duration_h: float) -> Explanation:
        """The steps of :meth:`compute`, each formula with the symbols of the lines above; an input has no formula."""
        low, middle, high = (self.compute(duration_h, end) for end in (at_low, at_centre, at_high))
        steps = [Step("duration_h", "", Range(duration_h, duration_h), "h", "given")]
        for name, (value, why, source, _) in self.figures.items():
            span = value if isinstance(value, Range) else Range(value, value)
            steps.append(Step(name, "", span, PARAMETERS[name].unit, f"{why}. {source}" if source else why))
        for symbol, formula, unit, keys in self._formulas(with_water="wcf_l" in high):
            span = between(low[symbol], middle[symbol], high[symbol])
            steps.append(Step(symbol, formula, span, unit, scaleway.source(keys)))
        return Explanation(NAME, tuple(steps))

    def _formulas(self, *, with_water: bool) -> list[tuple[str, str, str, str]]:
        lines = []
        if "model_storage" in self.parts:
            share = "storage_replication * imported_model_gb / (storage_fill_rate * storage_server_capacity_gb)"
            lines.append(("storage_share", share, "", "object-storage"))
        drawing = [f"{name}_part_power_w" for name, part in self.parts.items() if part.power_w]
        own = [symbol for symbol in drawing if symbol.removesuffix("_part_power_w") in OWN_PARTS]
        for name, part in self.parts.items():
            if name in SITE_PARTS and not any(line[0] == "site_share" for line in lines):
                lines.append(("site_share", f"({' + '.join(own)}) / site_power_w", "", "breakdown"))
            keys = "managed-inference" if name in OWN_PARTS else "breakdown"
            if part.power_w:
                lines.append((f"{name}_part_power_w", part.power_w, "W", keys))
            lines.append((f"{name}_part_hardware_kgco2eq", part.hardware_kgco2eq, "kgCO2eq", keys))
        worn = {name: f"duration_h / {part.lifespan} * {name}_part_hardware_kgco2eq" for name, part in self.parts.items()}
        lines += [
            ("it_energy_kwh", f"({' + '.join(drawing)}) * duration_h / 1000", "kWh", "managed-inference"),
            ("energy_kwh", "pue * it_energy_kwh", "kWh", "breakdown"),
            ("use_kgco2eq", "energy_kwh * grid_kgco2eq_per_kwh", "kgCO2eq", "breakdown"),
            ("fabrication_kgco2eq", " + ".join(worn.values()), "kgCO2eq", "breakdown"),
            ("gwp_kgco2eq", "use_kgco2eq + fabrication_kgco2eq", "kgCO2eq", "managed-inference"),
        ]
        if with_water:
            lines.append(("wcf_l", "it_energy_kwh * wue_l_per_kwh", "L", "breakdown"))
        for name, part in self.parts.items():
            use = f"{name}_part_power_w * duration_h / 1000 * pue * grid_kgco2eq_per_kwh + " if part.power_w else ""
            lines.append((f"{name}_kgco2eq", use + worn[name], "kgCO2eq", "managed-inference"))
        return lines


def _own_parts(v: Mapping[str, float], *, with_storage: bool) -> dict[str, float]:
    """Power and hardware of the parts that the methodology names.

    nodes x instance;  infrastructure;  nodes x share of the control plane;
    replication x V / (fill rate x capacity) of a storage server   [W and kgCO2eq; V in GB]

    Reference: Scaleway, Managed Inference and Object Storage footprint calculation.
    """
    parts = {
        "nodes_part_power_w": v["nodes"] * v["node_power_w"],
        "nodes_part_hardware_kgco2eq": v["nodes"] * v["node_fabrication_kgco2eq"],
        "infrastructure_part_power_w": v["infrastructure_power_w"],
        "infrastructure_part_hardware_kgco2eq": v["infrastructure_fabrication_kgco2eq"],
        "control_plane_part_power_w": v["nodes"] * v["control_plane_power_w_per_node"],
        "control_plane_part_hardware_kgco2eq": v["nodes"] * v["control_plane_fabrication_kgco2eq_per_node"],
    }
    if with_storage:
        stored_gb = v["storage_replication"] * v["imported_model_gb"]
        share = stored_gb / (v["storage_fill_rate"] * v["storage_server_capacity_gb"])
        parts["storage_share"] = share
        parts["model_storage_part_power_w"] = share * v["storage_server_power_w"]
        parts["model_storage_part_hardware_kgco2eq"] = share * v["storage_server_fabrication_kgco2eq"]
    return parts


def _site_parts(v: Mapping[str, float], parts: Mapping[str, Part]) -> dict[str, float]:
    """Power and hardware of the site's totals that fall to a deployment.

    share = power of the deployment / power of the site, of each total   [W and kgCO2eq]

    Reference: Scaleway, Environmental Footprint calculation breakdown.
    """
    share = sum(v[f"{part}_part_power_w"] for part in parts if part in OWN_PARTS) / v["site_power_w"]
    shared = {"site_share": share}
    for name in (part for part in parts if part in SITE_PARTS):
        shared[f"{name}_part_hardware_kgco2eq"] = share * v[f"{name}_fabrication_kgco2eq"]
        if f"{name}_power_w" in v:
            shared[f"{name}_part_power_w"] = share * v[f"{name}_power_w"]
    return shared


# --- where a figure comes from -----------------------------------------------------------------------------------------


def resolve(given: Mapping[str, Any], instance: str | None, zone: str | None) -> Inputs:
    """The inputs of a deployment from what its caller gave (``None``: not given).

    Raises:
        ValueError: unknown instance or zone, an impossible figure, one that is missing and cannot be assumed, or one of the
            site that would change nothing.
    """
    wanted = {name: PARAMETERS[name].default if value is None else value for name, value in given.items()}
    known = {**_of_instance(instance), **_of_zone(zone)}
    known |= {name: _given(name, value) for name, value in wanted.items() if value is not None}
    imports_model = known["imported_model_gb"].value != 0
    parts = {name: part for name, part in OWN_PARTS.items() if imports_model or name != "model_storage"}
    parts |= {name: part for name, part in SITE_PARTS.items() if any(symbol in known for symbol in part.inputs)}

    needed = _needed(parts, known)
    _check_site(known.keys() - needed, known)
    figures = {}
    for name in needed:
        figure = known.get(name) or scaleway.assumptions().get(name)
        if figure is None:
            raise ValueError(f"{name} is not known: {_where_from(name)}")
        figures[name] = figure
    assumptions = tuple(
        Assumption(name, figure.value, PARAMETERS[name].unit, figure.why, figure.source)
        for name, figure in figures.items()
        if figure.source and not figure.published
    )
    return Inputs(figures, parts, assumptions)


def _check_site(unused: Iterable[str], known: Mapping[str, Figure]) -> None:
    """The power of the site, and lifespans of what it has, are for totals of the site: alone they would change nothing."""
    of_site = {"site_power_w", *(part.lifespan for part in SITE_PARTS.values())} - {"lifespan_h"}
    for name in sorted(of_site & {*unused}):
        if known[name].value != PARAMETERS[name].default:
            parts = [part for part in SITE_PARTS.values() if part.lifespan == name] or SITE_PARTS.values()
            totals = ", ".join(symbol for part in parts for symbol in part.inputs)
            raise ValueError(f"{name} is only for what the whole site has: give totals of it ({totals}), or leave it out")


def _needed(parts: Mapping[str, Part], known: Mapping[str, Figure]) -> list[str]:
    """The parameters that count, in their order. Unknown water is no reason to know nothing."""
    names = {symbol for part in parts.values() for symbol in (*part.inputs, part.lifespan)}
    names |= {"pue", "grid_kgco2eq_per_kwh"}
    names |= {"wue_l_per_kwh"} & known.keys()
    names |= {"site_power_w"} if SITE_PARTS.keys() & parts.keys() else set()
    return [name for name in PARAMETERS if name in names]


def _of_instance(name: str | None) -> dict[str, Figure]:
    if name is None:
        return {}
    node = scaleway.instance(name)
    return {"node_power_w": node.power_w, "node_fabrication_kgco2eq": node.fabrication_kgco2eq}


def _of_zone(name: str | None) -> dict[str, Figure]:
    if name is None:
        return {}
    zone = scaleway.zone(name)
    water = {} if zone.wue_l_per_kwh is None else {"wue_l_per_kwh": zone.wue_l_per_kwh}
    return {"pue": zone.pue, "grid_kgco2eq_per_kwh": zone.grid_kgco2eq_per_kwh, **water}


def _where_from(name: str) -> str:
    if name.startswith("node_"):
        return f"give it, or an instance to take it from ({', '.join(scaleway.instances())})"
    if name in ("pue", "grid_kgco2eq_per_kwh"):
        return f"give it, or a zone to take it from ({', '.join(scaleway.zones())})"
    return "what the whole site has is counted with the power of the site and both totals of the part"


# --- numbers and ranges ------------------------------------------------------------------------------------------------


def _given(name: str, value: Any) -> Figure:
    """A parameter as its caller wrote it: a number, a range, or both ends of one."""
    quantity = _checked(name, value)
    default, source = PARAMETERS[name].default, PARAMETERS[name].source
    if source and quantity == default:
        return Figure(quantity, "default", scaleway.source(source), published=True)
    return Figure(quantity, "given", "")


def _checked(name: str, value: Any) -> Quantity:
    p = PARAMETERS[name]
    at_least = p.at_least if p.above < p.at_least else -math.inf  # one lower bound is enough

    def one(end: Any) -> float:
        return number(name, end, at_least=at_least, above=p.above, at_most=p.at_most)

    if isinstance(value, Range):
        one(value.min)
        one(value.max)
        return value
    if isinstance(value, tuple | list):
        if len(value) != 2 or one(value[0]) > one(value[1]):
            raise ValueError(f"{name} must be a number or (low, high), got {value!r}")
        return Range(one(value[0]), one(value[1]))
    return one(value)


def at_low(name: str, value: Quantity) -> float:
    """The end of an input that makes the impact small."""
    if isinstance(value, Range):
        return value.max if PARAMETERS[name].lowers else value.min
    return value


def at_high(name: str, value: Quantity) -> float:
    """The end of an input that makes the impact large."""
    if isinstance(value, Range):
        return value.min if PARAMETERS[name].lowers else value.max
    return value


def at_centre(_name: str, value: Quantity) -> float:
    """The best value of an input."""
    return value.central if isinstance(value, Range) else value


def between(low: float, central: float, high: float) -> Range:
    """A range; rounding may put the central value a hair outside.

    An input is shown from its smaller to its larger number, whatever it does to the impact.
    """
    low, high = min(low, high), max(low, high)
    return Range(low, high, min(max(central, low), high))

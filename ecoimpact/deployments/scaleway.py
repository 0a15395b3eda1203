"""What Scaleway publishes, and what stands in for what it does not: zones, GPU Instances, assumed figures.

The table is ``scaleway.toml`` beside this file; each of its rows names its sources. Rules: Scaleway publishes no watts and
no kilograms of its Instances, so those of a row are built from parts (GPUs and their share of a host) and are ranges from
everything low to everything high; what is not published at all is called a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ecoimpact.types import Range
from ecoimpact.unknown_names import unknown

_TABLE = Path(__file__).with_name("scaleway.toml")


class Figure(NamedTuple):
    """A number or a range, in a few words what it is, and its sources. ``published``: by the operator itself."""

    value: float | Range
    why: str
    source: str
    published: bool = False


class Zone(NamedTuple):
    """An availability zone, or an older data centre: what the operator publishes. ``None`` where it does not."""

    name: str
    pue: Figure
    wue_l_per_kwh: Figure | None
    grid_kgco2eq_per_kwh: Figure


class Instance(NamedTuple):
    """A GPU Instance. Power (W) and fabrication (kgCO2eq) are those of its GPUs and of their share of a host."""

    name: str
    node_type: str
    gpu: str
    gpu_count: int
    power_w: Figure
    fabrication_kgco2eq: Figure
    source: str


def zone(name: str) -> Zone:
    """A zone by name, whatever the case.

    Raises:
        ValueError: unknown zone; the message lists near ones.

    >>> zone("fr-par-2").pue.value, zone("pl-waw-1").wue_l_per_kwh
    (1.16, None)
    """
    return zones()[_known("zone", name, zones())]


def instance(name: str) -> Instance:
    """A GPU Instance by its name, or by the node type of Managed Inference, whatever the case.

    Raises:
        ValueError: unknown Instance; the message lists near ones.

    >>> instance("H100-SXM-4") == instance("H100-SXM-4-80G")
    True
    >>> instance("H100-SXM-8").power_w.value
    Range(min=1700.0, max=10200.0)
    """
    by_name = {**instances(), **{row.node_type: row for row in instances().values()}}
    return by_name[_known("instance", name, by_name)]


@cache
def zones() -> Mapping[str, Zone]:
    """All zones by name."""
    return {
        name: Zone(
            name,
            _published(name, row, "pue"),
            _published(name, row, "wue_l_per_kwh") if "wue_l_per_kwh" in row else None,
            _published(name, row, "grid_kgco2eq_per_kwh"),
        )
        for name, row in _table()["zones"].items()
    }


@cache
def instances() -> Mapping[str, Instance]:
    """All GPU Instances by name."""
    return {name: _instance(name, row) for name, row in _table()["instances"].items()}


@cache
def assumptions() -> Mapping[str, Figure]:
    """The figures that stand in for parameters of the methodology that are not given, by parameter.

    >>> assumptions()["storage_server_power_w"].value
    600.0
    """
    return {name: _figure(row) for name, row in _table()["assumptions"].items()}


def source(keys: str) -> str:
    """Sources in words, each once, by their keys.

    >>> source("object-storage").partition(",")[0]
    'Scaleway'
    """
    return "; ".join(_table()["sources"][key] for key in dict.fromkeys(keys.split()))


def _instance(name: str, row: Mapping[str, Any]) -> Instance:
    gpu, host = _table()["gpus"][row["gpu"]], _table()["hosts"][row["gpu"]]
    count, installed = row["gpu_count"], host["gpu_count"]

    def whole(key: str) -> Figure:
        """count GPUs, and count / installed of the host without GPUs."""
        one_gpu, whole_host = gpu[key], host[key]
        return Figure(
            _quantity(one_gpu["value"]) * count + _quantity(whole_host["value"]) * (count / installed),
            f"{count} {row['gpu']} ({one_gpu['why']}) and {count}/{installed} of a host ({whole_host['why']})",
            source(f"{one_gpu['source']} {whole_host['source']}"),
        )

    power, fabrication = whole("power_w"), whole("fabrication_kgco2eq")
    return Instance(name, row["node_type"], row["gpu"], count, power, fabrication, source(row["source"]))


def _figure(row: Mapping[str, Any]) -> Figure:
    return Figure(_quantity(row["value"]), row["why"], source(row["source"]))


def _published(name: str, row: Mapping[str, Any], key: str) -> Figure:
    return Figure(_quantity(row[key]), name, source(row["source"]), published=True)


def _quantity(value: float | list[float]) -> float | Range:
    return Range(*value) if isinstance(value, list) else float(value)


@cache
def _table() -> Mapping[str, Any]:
    import tomllib

    return tomllib.loads(_TABLE.read_text(encoding="utf-8"))


def _known(kind: str, name: object, known: Iterable[str]) -> str:
    by_case = {key.casefold(): key for key in known}
    try:
        return by_case[str(name).casefold()]
    except KeyError:
        raise ValueError(unknown(kind, name, by_case.values())) from None

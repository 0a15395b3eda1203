"""A deployment of Scaleway's Managed Inference: its nodes, the infrastructure around them, its share of what all share.

Rules that hold here: a figure is the sum of its parts, none counted twice; every figure that the operator does not publish
is a named parameter, and one that was not given is assumed and reported in ``assumptions``; what was left out is named in
``not_counted``; unknown is ``None``, never zero. The table of what is published and assumed is ``scaleway.toml``.

Reference: Scaleway, Managed Inference footprint calculation,
https://www.scaleway.com/en/docs/environmental-footprint/additional-content/managed-inference-env-footprint/, and the pages
that it is built on: Calculation breakdown, Instances, Kubernetes, Object Storage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from ecoimpact.deployments._checks import number
from ecoimpact.deployments._managed_inputs import (
    NAME,
    PARAMETERS,
    Assumption,
    Inputs,
    Quantity,
    at_centre,
    at_high,
    at_low,
    between,
    resolve,
)
from ecoimpact.types import Explanation, Range

__all__ = ["Amounts", "Assumption", "ManagedInference", "ManagedInferenceFootprint", "instance_share"]

Given: TypeAlias = float | Range | tuple[float, float]
"""A parameter: a number, or a range as :class:`Range` or ``(low, high)``."""


class Amounts(NamedTuple):
    """The figures of a deployment, whole or of a share of it. ``wcf_l`` is ``None`` where the site's WUE is unknown."""

    it_energy_kwh: Quantity
    energy_kwh: Quantity
    use_kgco2eq: Quantity
    fabrication_kgco2eq: Quantity
    gwp_kgco2eq: Quantity
    wcf_l: Quantity | None

    def divided_by(self, count: float) -> Amounts:
        """One of ``count`` (above 0) equal shares.

        >>> Amounts(8.0, 9.0, 4.0, 1.0, 5.0, None).divided_by(2).wcf_l is None
        True
        """
        return Amounts(
            self.it_energy_kwh / count,
            self.energy_kwh / count,
            self.use_kgco2eq / count,
            self.fabrication_kgco2eq / count,
            self.gwp_kgco2eq / count,
            None if self.wcf_l is None else self.wcf_l / count,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedInferenceFootprint:
    """What a deployment uses in ``duration_h`` hours, whether or not somebody asks it something.

    ``it_energy_kwh`` is energy at the plug of the servers, ``energy_kwh`` at the plug of the data centre. ``use_kgco2eq``
    comes from that energy, ``fabrication_kgco2eq`` from the share of the hardware's life; ``gwp_kgco2eq`` is both, and
    ``parts_kgco2eq`` says of which parts. ``wcf_l`` is water used on site. Each is a number, or a :class:`Range` where an
    input is one.
    """

    duration_h: float
    nodes: float
    requests: float | None
    it_energy_kwh: Quantity
    energy_kwh: Quantity
    use_kgco2eq: Quantity
    fabrication_kgco2eq: Quantity
    gwp_kgco2eq: Quantity
    wcf_l: Quantity | None
    parts_kgco2eq: Mapping[str, Quantity]
    inputs: Inputs = field(repr=False)

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """The figures behind these that nobody gave and the operator does not publish."""
        return self.inputs.assumptions

    @property
    def not_counted(self) -> tuple[str, ...]:
        """Parts of the operator's method that these figures leave out."""
        return self.inputs.not_counted

    @property
    def total(self) -> Amounts:
        """All nodes over the whole duration."""
        return Amounts(
            self.it_energy_kwh,
            self.energy_kwh,
            self.use_kgco2eq,
            self.fabrication_kgco2eq,
            self.gwp_kgco2eq,
            self.wcf_l,
        )

    @property
    def per_node(self) -> Amounts:
        """One node over the whole duration, with its share of the other parts."""
        return self.total.divided_by(self.nodes)

    @property
    def per_hour(self) -> Amounts:
        """All nodes over one hour."""
        return self.total.divided_by(self.duration_h)

    @property
    def per_node_hour(self) -> Amounts:
        """One node over one hour."""
        return self.per_hour.divided_by(self.nodes)

    @property
    def per_request(self) -> Amounts | None:
        """One of the requests that were answered; ``None`` where their number is unknown, or there was none."""
        return self.total.divided_by(self.requests) if self.requests else None

    def explain(self) -> Explanation:
        """Every step from the inputs to the figures; each formula uses the symbols of the lines above it."""
        return self.inputs.explain(self.duration_h)

    def __str__(self) -> str:
        lines = [f"Footprint of a deployment ({NAME}), nodes: {self.nodes:g}, hours: {self.duration_h:g}"]
        for name, amount in self.total._asdict().items():
            share = None if self.per_request is None else getattr(self.per_request, name)
            lines.append(f"  {name:<20} {_text(amount)}" + (f"; a request {_text(share)}" if self.requests else ""))
        lines += [f"  of which {name:<15} {_text(amount)} kgCO2eq" for name, amount in self.parts_kgco2eq.items()]
        lines += [f"  assumed  {assumption}" for assumption in self.assumptions]
        return "\n".join([*lines, f"  not counted: {', '.join(self.not_counted)}"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedInference:
    """A deployment of a model on nodes of one kind.

    Give what you know, as a number or as ``(low, high)``; ``None`` means not given. ``instance`` (such as
    ``"H100-SXM-4"``) fills in the figures of a node, ``zone`` (such as ``"fr-par-2"``) those of the site. What is then
    still missing of infrastructure, control plane and storage is assumed, and the result says so.

    - ``nodes``: how many, or their average over the duration.
    - ``node_power_w``: mean draw of a node at the plug of the server. ``..._fabrication_kgco2eq``: of making the hardware,
      over its whole life of ``lifespan_h``.
    - ``infrastructure_...``: the Kubernetes cluster that the nodes are attached to.
    - ``control_plane_..._per_node``: the fixed share of the operator's control plane that each active node gets.
    - ``imported_model_gb``: size of a model of your own in object storage; 0 for one of the catalogue.
    - ``storage_...``: the servers that hold it; ``storage_replication`` times, using ``storage_fill_rate`` of the capacity.
    - ``pue``, ``wue_l_per_kwh`` (on site), ``grid_kgco2eq_per_kwh``: of the site, for every part.
    - ``site_power_w`` and the totals of the data centre's building, of the network, and of the operator's own servers
      (``cross_functional``): counted where they are given, by share of power.

    Raises:
        ValueError: unknown instance or zone (with near matches), a figure that is negative, not finite or impossible,
            one that is missing and cannot be assumed, or ``site_power_w`` without a total to share by it.

    >>> deployment = ManagedInference(
    ...     nodes=2, node_power_w=1000, node_fabrication_kgco2eq=5256, infrastructure_power_w=400,
    ...     infrastructure_fabrication_kgco2eq=1000, control_plane_power_w_per_node=50,
    ...     control_plane_fabrication_kgco2eq_per_node=100, pue=1.25, grid_kgco2eq_per_kwh=0.1)
    >>> footprint = deployment.footprint(duration_h=100, requests=1000)
    >>> footprint.it_energy_kwh, footprint.energy_kwh, footprint.wcf_l
    (250.0, 312.5, None)
    >>> f"{footprint.gwp_kgco2eq:.6f}", f"{footprint.per_request.gwp_kgco2eq:.9f}"
    ('53.533105', '0.053533105')
    >>> ManagedInference(instance="L4", zone="fr-par-2").assumptions[0].name
    'node_power_w'
    """

    instance: str | None = None
    zone: str | None = None
    nodes: float = 1.0
    node_power_w: Given | None = None
    node_fabrication_kgco2eq: Given | None = None
    infrastructure_power_w: Given | None = None
    infrastructure_fabrication_kgco2eq: Given | None = None
    control_plane_power_w_per_node: Given | None = None
    control_plane_fabrication_kgco2eq_per_node: Given | None = None
    imported_model_gb: Given = 0.0
    storage_replication: Given = 1.5
    storage_fill_rate: Given = 0.8
    storage_server_capacity_gb: Given | None = None
    storage_server_power_w: Given | None = None
    storage_server_fabrication_kgco2eq: Given | None = None
    lifespan_h: Given = 52_560.0
    pue: Given | None = None
    grid_kgco2eq_per_kwh: Given | None = None
    wue_l_per_kwh: Given | None = None
    site_power_w: Given | None = None
    data_centre_fabrication_kgco2eq: Given | None = None
    data_centre_lifespan_h: Given = 219_000.0
    network_power_w: Given | None = None
    network_fabrication_kgco2eq: Given | None = None
    network_lifespan_h: Given = 87_600.0
    cross_functional_power_w: Given | None = None
    cross_functional_fabrication_kgco2eq: Given | None = None
    _inputs: Inputs = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        number("nodes", self.nodes, above=0)  # no range: figures are divided by it
        given = {name: getattr(self, name) for name in PARAMETERS}
        object.__setattr__(self, "_inputs", resolve(given, self.instance, self.zone))

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """The figures that nobody gave and the operator does not publish."""
        return self._inputs.assumptions

    def footprint(self, duration_h: float, requests: float | None = None) -> ManagedInferenceFootprint:
        """The footprint of ``duration_h`` hours, in which ``requests`` requests were answered.

        Raises:
            ValueError: ``duration_h`` is not a finite number above 0, or ``requests`` is negative or not finite.
        """
        hours = number("duration_h", duration_h, above=0)
        count = None if requests is None else number("requests", requests, at_least=0)
        figures = self._figures(hours)
        return ManagedInferenceFootprint(
            duration_h=hours,
            nodes=float(self.nodes),
            requests=count,
            it_energy_kwh=figures["it_energy_kwh"],
            energy_kwh=figures["energy_kwh"],
            use_kgco2eq=figures["use_kgco2eq"],
            fabrication_kgco2eq=figures["fabrication_kgco2eq"],
            gwp_kgco2eq=figures["gwp_kgco2eq"],
            wcf_l=figures.get("wcf_l"),
            parts_kgco2eq={part: figures[f"{part}_kgco2eq"] for part in self._inputs.parts},
            inputs=self._inputs,
        )

    def _figures(self, duration_h: float) -> Mapping[str, Quantity]:
        inputs = self._inputs
        low = inputs.compute(duration_h, at_low)
        if not inputs.is_range:
            return low
        central, high = inputs.compute(duration_h, at_centre), inputs.compute(duration_h, at_high)
        return {symbol: between(low[symbol], central[symbol], high[symbol]) for symbol in low}


def instance_share(*resources: tuple[float, float]) -> float:
    """The share of a host that Scaleway's rule for Instances gives to one of them.

    share = sum of used / installed over the resources: vCPUs over cores, GPUs, memory, disk   [ratio]

    The rule adds the ratios up, so an Instance as large as its host gets as many hosts as there are resources. The
    built-in Instances therefore share by GPUs alone; this is for hosts whose figures you know and count by the rule.

    Reference: Scaleway, Instances footprint calculation, whose example this is.

    Raises:
        ValueError: a figure is negative or not finite, or nothing of a resource is installed.

    >>> instance_share((4, 16), (8, 64), (50, 1000))
    0.425
    """
    return math.fsum(
        number("used", used, at_least=0) / number("installed", installed, above=0) for used, installed in resources
    )


def _text(amount: Quantity | None) -> str:
    return "unknown" if amount is None else f"{amount:.4g}"

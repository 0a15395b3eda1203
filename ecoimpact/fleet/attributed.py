"""A fleet's footprint for the demand of a log, and the part of each group in it.

Rules of this file: parts add up to the whole, hours without requests included; where there was no request at all, the whole
is ``(idle)``. What a group has no figure of (tokens, latencies) is taken to be as large as for its other requests, and the
result says of how many. Figures are numbers, or ranges where the deployment has ranges; unknown is ``None``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

import numpy as np

from ecoimpact.deployments import FleetFootprint, GPUJob, GPUServer, ManagedInference
from ecoimpact.deployments.managed_inference import Assumption, ManagedInferenceFootprint
from ecoimpact.fleet.demand import (
    GPU_PER_REQUEST,
    LONGEST_S,
    RAM_GB_PER_REQUEST,
    Demand,
    FloatArray,
    PerRequest,
)
from ecoimpact.records.queries import EMPTY, Totals
from ecoimpact.types import Range

Quantity: TypeAlias = float | Range
Rule: TypeAlias = Literal["seed", "current", "tokens", "time", "requests"]

RULES: Final[Mapping[str, tuple[Rule, ...]]] = {
    "gpu-server": ("seed", "current"),
    "managed-inference": ("tokens", "time", "requests"),
}
"""How the footprint of each kind of fleet can be shared; the first is the default."""

IDLE: Final = "(idle)"
"""Whose a fleet is that nobody asked anything."""


class FleetAmounts(NamedTuple):
    """What a fleet uses, whole or in part. ``wcf_l`` is ``None`` where nobody knows the water."""

    energy_kwh: Quantity
    use_kgco2eq: Quantity
    fabrication_kgco2eq: Quantity
    gwp_kgco2eq: Quantity
    wcf_l: Quantity | None

    def plus(self, other: FleetAmounts) -> FleetAmounts:
        """Both together.

        >>> FleetAmounts(2.0, 1.0, 1.0, 2.0, None).plus(FleetAmounts(1.0, 0.5, 0.5, 1.0, None)).gwp_kgco2eq
        3.0
        """
        return FleetAmounts(*(None if a is None or b is None else a + b for a, b in zip(self, other, strict=True)))  # type: ignore[arg-type]

    def times(self, factor: float) -> FleetAmounts:
        """As many times over.

        >>> FleetAmounts(2.0, 1.0, 1.0, 2.0, None).times(0.5)
        FleetAmounts(energy_kwh=1.0, use_kgco2eq=0.5, fabrication_kgco2eq=0.5, gwp_kgco2eq=1.0, wcf_l=None)
        """
        return FleetAmounts(*(None if amount is None else amount * factor for amount in self))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Attribution:
    """The part of one group.

    ``share`` is that of the fleet's ``gwp_kgco2eq``. ``totals`` are the group's sums in the log: requests, tokens, and the
    figures that were estimated request by request.
    """

    group: str
    totals: Totals
    share: float
    energy_kwh: Quantity
    use_kgco2eq: Quantity
    fabrication_kgco2eq: Quantity
    gwp_kgco2eq: Quantity
    wcf_l: Quantity | None

    @property
    def requests(self) -> int:
        """Requests of the group."""
        return self.totals.requests

    @property
    def input_tokens(self) -> int:
        """Input tokens of those requests that have a count."""
        return self.totals.input_tokens

    @property
    def output_tokens(self) -> int:
        """Output tokens of those requests that have a count."""
        return self.totals.output_tokens

    @property
    def amounts(self) -> FleetAmounts:
        """All figures of the part together."""
        return FleetAmounts(self.energy_kwh, self.use_kgco2eq, self.fabrication_kgco2eq, self.gwp_kgco2eq, self.wcf_l)

    @property
    def per_request(self) -> FleetAmounts | None:
        """What falls to one request; ``None`` where there was none."""
        return self.amounts.times(1 / self.requests) if self.requests else None


@dataclass(frozen=True, slots=True)
class Hours:
    """The whole fleet, hour by hour: arrays of float64. Of ranges they are the central value.

    ``instances_raw`` are those that the demand would fill; ``None`` where the deployment does not tell.
    """

    instances: FloatArray
    instances_raw: FloatArray | None
    energy_kwh: FloatArray
    use_kgco2eq: FloatArray
    fabrication_kgco2eq: FloatArray


@dataclass(frozen=True, slots=True)
class AttributedFootprint:
    """What a fleet used in the hours of a demand: ``total``, ``hours``, and ``rows``, whose it is.

    ``deployment`` and ``footprint`` are what it was computed by, and its own result. ``assumptions`` are the figures that
    neither the log nor the caller gave; ``notes`` say in words what was filled in or folded. The estimates that the log has
    of the same requests are ``estimated``.
    """

    kind: str
    rule: Rule
    demand: Demand
    deployment: GPUServer | ManagedInference
    footprint: FleetFootprint | ManagedInferenceFootprint
    total: FleetAmounts
    rows: tuple[Attribution, ...]
    hours: Hours
    assumptions: tuple[Assumption, ...]
    notes: tuple[str, ...]

    @property
    def estimated(self) -> Totals:
        """The sums of the log over the same period, request by request, by the methodologies of its records."""
        return self.demand.report.total

    @property
    def load(self) -> float | None:
        """How much of the instances the demand would fill, over all hours; ``None`` where the deployment does not tell."""
        provided = float(self.hours.instances.sum())
        if self.hours.instances_raw is None or not provided:
            return None
        return float(self.hours.instances_raw.sum()) / provided

    def __str__(self) -> str:
        demand = self.demand
        lines = [f"Footprint of a fleet ({self.kind}), {demand.start:%Y-%m-%dT%H} to {demand.end:%Y-%m-%dT%H} UTC"]
        lines += [
            f"  {row.group!r:<24} {row.share:7.2%} {row.gwp_kgco2eq:.4g} kgCO2eq, requests: {row.requests}"
            for row in self.rows
        ]
        lines.append(f"  {'all':<24} {'':7} {self.total.gwp_kgco2eq:.4g} kgCO2eq, {self.total.energy_kwh:.4g} kWh")
        return "\n".join([*lines, *(f"  assumed  {assumption}" for assumption in self.assumptions)])


def footprint(
    demand: Demand,
    deployment: GPUServer | ManagedInference,
    *,
    attribution: Rule | None = None,
    duration_s: PerRequest | None = None,
    gpu_per_request: PerRequest | None = None,
    ram_gb_per_request: PerRequest | None = None,
) -> AttributedFootprint:
    """The footprint of a fleet that answered ``demand``, shared among its groups.

    Args:
        demand: from :func:`from_log`; the fleet is on in all its hours.
        deployment: the fleet.
        attribution: of a GPU server ``"seed"`` (default) or ``"current"``, hour by hour, see ``GPUServer.footprint``. Of
            Managed Inference ``"tokens"`` (default), ``"time"`` or ``"requests"``: by output tokens, by seconds of
            generation or by requests of the whole period.
        duration_s: see :meth:`Demand.jobs`; like the others for a GPU server only.
        gpu_per_request: GPUs that a request holds.
        ram_gb_per_request: GB of GPU memory that a request holds.

    Raises:
        ValueError: a rule or a figure that this deployment does not have; what ``GPUServer.footprint`` raises.
    """
    of_request = {"duration_s": duration_s, "gpu_per_request": gpu_per_request, "ram_gb_per_request": ram_gb_per_request}
    kind = kind_of(deployment)
    rule = RULES[kind][0] if attribution is None else attribution
    if rule not in RULES[kind]:
        raise ValueError(f"there is no attribution {rule!r} for {kind}: it can be {', '.join(RULES[kind])}")
    if isinstance(deployment, GPUServer):
        return _on_gpu_server(demand, deployment, rule, of_request)
    for name, value in of_request.items():
        if value is not None:
            raise ValueError(f"{name} is for a GPU server: leave it out with {kind}, whose nodes are counted as they are")
    return _on_managed_inference(demand, deployment, rule)


def kind_of(deployment: GPUServer | ManagedInference) -> str:
    """The name of a deployment's methodology.

    >>> kind_of(GPUServer())
    'gpu-server'
    """
    return "gpu-server" if isinstance(deployment, GPUServer) else "managed-inference"


# --- GPU servers --------------------------------------------------------------------------------------------------------


def _on_gpu_server(
    demand: Demand, server: GPUServer, rule: Rule, of_request: Mapping[str, PerRequest | None]
) -> AttributedFootprint:
    jobs = demand.jobs(**of_request)
    listed = [*jobs.values()] or [GPUJob(IDLE, hourly_starts=np.zeros(demand.hours))]
    found = server.footprint(listed, cast(Literal["seed", "current"], rule), start=demand.start)
    names = {key: job.name for key, job in jobs.items()} or {IDLE: IDLE}
    parts = {key: _of_hours(found.jobs[name]) for key, name in names.items()}
    hours = Hours(found.instances, found.instances_raw, found.energy_kwh, found.use_kgco2eq, found.fabrication_kgco2eq)
    total = _of_hours(found)
    return AttributedFootprint(
        kind="gpu-server",
        rule=rule,
        demand=demand,
        deployment=server,
        footprint=found,
        total=total,
        rows=_rows(demand, parts, total),
        hours=hours,
        assumptions=(*_assumed_of_requests(demand, of_request), *_assumed_of_server(server)),
        notes=tuple(_notes(demand, timed=of_request["duration_s"] is None)),
    )


def _of_hours(found: Any) -> FleetAmounts:
    use, fabrication = found.total_use_kgco2eq, found.total_fabrication_kgco2eq
    return FleetAmounts(found.total_energy_kwh, use, fabrication, use + fabrication, None)


def _assumed_of_requests(demand: Demand, of_request: Mapping[str, PerRequest | None]) -> Iterator[Assumption]:
    for name, value, unit in (
        ("gpu_per_request", GPU_PER_REQUEST, "GPU"),
        ("ram_gb_per_request", RAM_GB_PER_REQUEST, "GB"),
    ):
        given = of_request[name]
        if given is None or (isinstance(given, Mapping) and not given.keys() >= demand.groups.keys()):
            of_whom = "of a request" if given is None else "of a request of the groups that are not named"
            yield Assumption(
                name, value, unit, f"{of_whom}: e-footprint's default for a job, as the log does not know", _JOB
            )


_JOB: Final = "e-footprint, reference of the class GPUJob"


def _assumed_of_server(server: GPUServer) -> Iterator[Assumption]:
    source = "e-footprint, reference of the class GPUServer"
    for field in fields(server):
        value = getattr(server, field.name)
        if field.name in _UNITS and value == field.default:
            yield Assumption(field.name, value, _UNITS[field.name], "e-footprint's default", source)


_UNITS: Final = {
    "gpu_power_w": "W",
    "gpu_idle_power_w": "W",
    "ram_per_gpu_gb": "GB",
    "fabrication_per_gpu_kgco2eq": "kgCO2eq",
    "fabrication_without_gpu_kgco2eq": "kgCO2eq",
    "gpu_count": "GPU",
    "lifespan_years": "years",
    "pue": "",
    "grid_gco2eq_per_kwh": "gCO2eq/kWh",
}
"""What a server is made of and where it stands: assumed where it is the default. The others say how it is run."""


# --- Managed Inference --------------------------------------------------------------------------------------------------


def _on_managed_inference(demand: Demand, deployment: ManagedInference, rule: Rule) -> AttributedFootprint:
    found = deployment.footprint(duration_h=demand.hours, requests=demand.report.total.requests)
    total = FleetAmounts(found.energy_kwh, found.use_kgco2eq, found.fabrication_kgco2eq, found.gwp_kgco2eq, found.wcf_l)
    notes = list(_notes(demand, tokens=rule == "tokens", timed=rule == "time"))
    weights = _weights(demand, rule)
    whole = math.fsum(weights.values())
    if demand.groups and not whole:
        notes.append(f"Nothing is known to share by {rule}: it is shared by requests.")
        weights = {key: float(group.totals.requests) for key, group in demand.groups.items()}
        whole = math.fsum(weights.values())
    parts = {key: total.times(weight / whole) for key, weight in weights.items()} or {IDLE: total}
    hourly = (found.energy_kwh, found.use_kgco2eq, found.fabrication_kgco2eq)
    return AttributedFootprint(
        kind="managed-inference",
        rule=rule,
        demand=demand,
        deployment=deployment,
        footprint=found,
        total=total,
        rows=_rows(demand, parts, total),
        hours=Hours(
            np.full(demand.hours, float(deployment.nodes)),
            None,
            *(np.full(demand.hours, central(amount) / demand.hours) for amount in hourly),
        ),
        assumptions=found.assumptions,
        notes=tuple(notes),
    )


def _weights(demand: Demand, rule: Rule) -> dict[str, float]:
    """What each group is charged for; requests without the figure count as the others of their group, else of all."""
    groups = demand.groups
    if rule == "requests":
        return {key: float(group.totals.requests) for key, group in groups.items()}
    if rule == "time":
        return {key: (demand.duration_s(key) or 0.0) * group.totals.requests for key, group in groups.items()}
    of_all = _tokens(demand.report.total) or 0.0
    means = {key: _tokens(group.totals) for key, group in groups.items()}
    return {key: (of_all if mean is None else mean) * groups[key].totals.requests for key, mean in means.items()}


def _tokens(totals: Totals) -> float | None:
    """Output tokens of a request; ``None`` where they are known of none."""
    known = totals.requests - totals.tokens_unknown
    return totals.output_tokens / known if known else None


# --- both ---------------------------------------------------------------------------------------------------------------


def central(amount: Quantity) -> float:
    """The best value of a quantity.

    >>> central(Range(1.0, 3.0)), central(2.5)
    (2.0, 2.5)
    """
    return amount.central if isinstance(amount, Range) else amount


def _rows(demand: Demand, parts: Mapping[str, FleetAmounts], total: FleetAmounts) -> tuple[Attribution, ...]:
    whole = central(total.gwp_kgco2eq)
    requests = demand.report.total.requests
    rows = []
    for key, part in parts.items():
        totals = demand.groups[key].totals if key in demand.groups else EMPTY
        without_footprint = totals.requests / requests if requests else 1.0
        share = central(part.gwp_kgco2eq) / whole if whole else without_footprint
        rows.append(Attribution(key, totals, share, *part))
    return tuple(sorted(rows, key=lambda row: (-row.share, -row.requests, row.group)))


def _notes(demand: Demand, *, tokens: bool = False, timed: bool = False) -> Iterator[str]:
    total = demand.report.total
    if demand.spread:
        yield "Labels are counted by day: within a day their requests are spread as all requests are."
    if demand.folded:
        yield f"The {demand.folded} groups with the fewest requests are together in (other)."
    odd = [key for key, group in demand.groups.items() if (group.totals.mean_latency_s or 0.0) > LONGEST_S]
    if timed and odd:
        yield f"Latencies of more than a day in the mean are not used: {', '.join(map(repr, odd[:3]))}."
    for asked, number, what in (
        (tokens, total.tokens_unknown, "output tokens"),
        (timed, total.requests - total.timed, "latency"),
    ):
        if asked and number:
            yield f"Requests without known {what}, taken as the mean of their group: {number:,}."

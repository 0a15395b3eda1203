"""A fleet of GPU servers, hour by hour: what its jobs need, what is provided for them, what that draws and embodies.

The methodology is that of e-footprint's class ``GPUServer``, with float64 instead of its float32. Compute is measured in
GPUs; a year has 365.25 days; every run of a job starts at the beginning of its hour.

Reference: e-footprint, reference of the class GPUServer; the equations one by one in ``docs/methodologies/gpu-server.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from datetime import datetime
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ecoimpact.deployments._attribution import RULES, Demand, Rule, RunWeights, Shares
from ecoimpact.deployments._checks import LARGEST, SMALLEST, number
from ecoimpact.deployments._occurrences import FloatArray, average_occurrences, whole_within_rounding
from ecoimpact.deployments.hourly import Fleet, FleetFootprint
from ecoimpact.unknown_names import unknown

ServerType: TypeAlias = Literal["autoscaling", "serverless", "on-premise"]
SERVER_TYPES: tuple[ServerType, ...] = ("autoscaling", "serverless", "on-premise")

_HOURS_PER_YEAR = 365.25 * 24
_SECONDS_PER_HOUR = 3600
_MAX_DURATION_S = 100 * _HOURS_PER_YEAR * _SECONDS_PER_HOUR


class InsufficientCapacityError(ValueError):
    """The server cannot do what it is asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class GPUJob:
    """Something that runs on GPUs again and again: ``hourly_starts`` says how often it is started in each hour.

    A run takes ``duration_s`` seconds and holds ``gpu`` GPUs and ``ram_gb`` GB of GPU memory all that time. The defaults
    are those of e-footprint, which names no source for them. ``hourly_starts`` is a series of any length, kept as a float64
    array; it may be left out here and given to :meth:`GPUServer.footprint`, such as by what counts requests in a log.

    Raises:
        ValueError: no name; a number that is negative or not finite; starts that are no series of such numbers.

    >>> GPUJob("chat", duration_s=12.5, gpu=2, ram_gb=10, hourly_starts=[50, 25, 0]).hourly_starts
    array([50., 25.,  0.])
    """

    name: str
    _: KW_ONLY
    duration_s: float = 1.0
    gpu: float = 1.0
    ram_gb: float = 0.05
    hourly_starts: ArrayLike | None = None

    def __post_init__(self) -> None:
        name_given: object = self.name
        if not isinstance(name_given, str) or not name_given:
            raise ValueError(f"a job needs a name, got {name_given!r}")
        for name, at_most in (("duration_s", _MAX_DURATION_S), ("gpu", LARGEST), ("ram_gb", LARGEST)):
            value = number(f"job {self.name!r}: {name}", getattr(self, name), at_least=0, at_most=at_most)
            object.__setattr__(self, name, value)
        if self.hourly_starts is not None:
            object.__setattr__(self, "hourly_starts", _series(self.name, self.hourly_starts))


@dataclass(frozen=True, slots=True, kw_only=True)
class GPUServer:
    """One kind of GPU server and how many of it are provided.

    ``server_type``: ``"autoscaling"`` provides in each hour the next whole number of instances, ``"serverless"`` just what
    is needed, ``"on-premise"`` in all hours the same: ``fixed_instances``, or as many as the busiest hour needs. Powers are
    in W, one GPU fully loaded and one that is on but idle; ``fabrication_...`` is what one GPU, and the server without
    GPUs, embody in kgCO2eq, spread over ``lifespan_years`` of 365.25 days. ``utilization_rate`` is the fraction of GPUs
    and memory that jobs can use; of that, ``base_gpu`` and ``base_ram_gb`` are taken on each instance before any job.

    The defaults are those of e-footprint; powers, memory and embodied amounts are from "Estimating the Carbon Footprint of
    BLOOM" (https://arxiv.org/abs/2211.05100), the others have no source there.

    Raises:
        ValueError: an unknown type, a number out of its bounds, or a combination that cannot be.
        InsufficientCapacityError: nothing is left for jobs.

    >>> server = GPUServer(server_type="autoscaling", gpu_count=8, utilization_rate=0.9, base_gpu=0.5)
    >>> server.instance_power_w, server.instance_fabrication_kgco2eq, server.free_gpu_per_instance
    (3200.0, 3700.0, 6.7)
    >>> server.footprint([GPUJob("chat", duration_s=10, gpu=2, hourly_starts=[3600, 0, 400])]).instances
    array([3., 0., 1.])
    """

    name: str = "GPU server"
    server_type: ServerType = "serverless"
    gpu_power_w: float = 400.0
    gpu_idle_power_w: float = 50.0
    ram_per_gpu_gb: float = 80.0
    fabrication_per_gpu_kgco2eq: float = 150.0
    fabrication_without_gpu_kgco2eq: float = 2500.0
    gpu_count: float = 4.0
    lifespan_years: float = 6.0
    pue: float = 1.2
    utilization_rate: float = 1.0
    grid_gco2eq_per_kwh: float = 400.0
    base_gpu: float = 0.0
    base_ram_gb: float = 0.0
    fixed_instances: float | None = None

    fraction_of_usage_time: ClassVar[float] = 1.0
    """Servers are never switched off for part of the time: the document fixes this."""

    def __post_init__(self) -> None:
        if self.server_type not in SERVER_TYPES:
            raise ValueError(unknown("server_type", self.server_type, SERVER_TYPES))
        for name, bounds in _BOUNDS.items():
            object.__setattr__(self, name, number(name, getattr(self, name), **bounds))
        if self.gpu_idle_power_w > self.gpu_power_w:
            raise ValueError(f"gpu_idle_power_w {self.gpu_idle_power_w:g} is above gpu_power_w {self.gpu_power_w:g}")
        if self.fixed_instances is not None:
            self._check_fixed_instances(self.fixed_instances)
        self._check_free("GPUs", self.free_gpu_per_instance, "gpu_count", "base_gpu")
        self._check_free("GB of memory", self.free_ram_gb_per_instance, "ram_per_gpu_gb", "base_ram_gb")

    def _check_fixed_instances(self, value: object) -> None:
        if self.server_type != "on-premise":
            raise ValueError(f"fixed_instances is for on-premise servers: leave it out with {self.server_type!r}")
        instances = number("fixed_instances", value, at_least=1, at_most=LARGEST)
        if instances != int(instances):
            raise ValueError(f"fixed_instances must be a whole number, got {value!r}")
        object.__setattr__(self, "fixed_instances", instances)

    def _check_free(self, what: str, free: float, size: str, base: str) -> None:
        if not free > 0:
            raise InsufficientCapacityError(
                f"{self.name}: an instance has no {what} left for jobs ({free:g}): "
                f"raise {size} or utilization_rate, or lower {base}"
            )

    # --- one instance ---------------------------------------------------------------------------------------------------

    @property
    def instance_fabrication_kgco2eq(self) -> float:
        """What one instance embodies: server without GPUs + GPUs x one GPU."""
        return self.fabrication_without_gpu_kgco2eq + self.gpu_count * self.fabrication_per_gpu_kgco2eq

    @property
    def instance_fabrication_kgco2eq_per_h(self) -> float:
        """The part of it that belongs to one hour of the lifespan."""
        return self.instance_fabrication_kgco2eq / (self.lifespan_years * _HOURS_PER_YEAR)

    @property
    def instance_power_w(self) -> float:
        """Power of one fully loaded instance."""
        return self.gpu_count * self.gpu_power_w

    @property
    def instance_idle_power_w(self) -> float:
        """Power of one idle instance."""
        return self.gpu_count * self.gpu_idle_power_w

    @property
    def instance_load_power_w(self) -> float:
        """What full load adds to the power of an idle instance."""
        return self.instance_power_w - self.instance_idle_power_w

    @property
    def instance_ram_gb(self) -> float:
        """GPU memory of one instance."""
        return self.gpu_count * self.ram_per_gpu_gb

    @property
    def occupied_gpu_per_instance(self) -> float:
        """GPUs that are taken on each instance before any job."""
        return self.base_gpu

    @property
    def occupied_ram_gb_per_instance(self) -> float:
        """GB that are taken on each instance before any job."""
        return self.base_ram_gb

    @property
    def free_gpu_per_instance(self) -> float:
        """GPUs that one instance has for jobs: GPUs x utilization rate - occupied ones."""
        return self.gpu_count * self.utilization_rate - self.occupied_gpu_per_instance

    @property
    def free_ram_gb_per_instance(self) -> float:
        """GB that one instance has for jobs: memory x utilization rate - what is occupied."""
        return self.instance_ram_gb * self.utilization_rate - self.occupied_ram_gb_per_instance

    # --- the fleet ------------------------------------------------------------------------------------------------------

    def footprint(
        self,
        jobs: Iterable[GPUJob | Mapping[str, Any]],
        attribution: Rule = "seed",
        *,
        hourly_starts: Mapping[str, ArrayLike] | None = None,
        start: datetime | None = None,
    ) -> FleetFootprint:
        """Instances, energy and emissions of every hour, for the whole fleet and for each job.

        raw = max(GPU need / free GPUs, RAM need / free RAM);  energy = PUE 1 h (P_idle instances + (P - P_idle) raw);
        use = energy x grid;  fabrication = instances x 1 h / lifespan x embodied   [kWh, kgCO2eq]

        Args:
            jobs: :class:`GPUJob` objects, or mappings with its parameters. Series may have different lengths; the missing
                hours at their ends have no starts.
            attribution: ``"seed"`` shares by weights of compute and RAM in each hour, as the document says, ``"current"``
                by what sets the number of instances, as e-footprint 27 does.
            hourly_starts: the starts of jobs that have none of their own, by name, all beginning in the same hour.
            start: the beginning of the first hour, with a time zone; only for the times of the result.

        Raises:
            ValueError: jobs, starts or a rule that cannot be; the message says what is right.
            InsufficientCapacityError: a job is larger than an instance, or ``fixed_instances`` are too few.

        Reference: e-footprint, reference of the class GPUServer.
        """
        if attribution not in RULES:
            raise ValueError(unknown("attribution", attribution, RULES))
        if start is not None and getattr(start, "tzinfo", None) is None:
            raise ValueError(f"start must be a datetime with a time zone, got {start!r}")
        listed = _listed(jobs)
        for job in listed:
            self._check_fits(job)
        demand = _demand(listed, _all_starts(listed, hourly_starts))
        by_gpu = demand.gpu_need / self.free_gpu_per_instance
        by_ram = demand.ram_need_gb / self.free_ram_gb_per_instance
        raw = whole_within_rounding(np.maximum(by_gpu, by_ram))
        instances = self._instances(raw)
        shares = Shares(demand, self._weights(attribution, by_gpu, by_ram))
        if attribution == "current" and self.server_type == "on-premise":
            shares.share_by_tiers(instances[0], raw)
        for array in (demand.gpu_need, demand.ram_need_gb, raw, instances, shares.total_weight):
            array.setflags(write=False)
        return FleetFootprint(Fleet(self, demand, shares, raw, instances), [job.name for job in listed], attribution, start)

    def _check_fits(self, job: GPUJob) -> None:
        """A run is on one instance. The utilization rate does not count here: it is a fraction of time."""
        for what, asked, room, size in (
            ("GPUs", job.gpu, self.gpu_count - self.occupied_gpu_per_instance, "gpu_count"),
            ("GB", job.ram_gb, self.instance_ram_gb - self.occupied_ram_gb_per_instance, "ram_per_gpu_gb"),
        ):
            if asked > room * (1 + 1e-12):
                raise InsufficientCapacityError(
                    f"{self.name}: a run of job {job.name!r} holds {asked:g} {what} and an instance has {room:g} for jobs: "
                    f"raise {size}, or split the job"
                )

    def _weights(self, attribution: Rule, by_gpu: FloatArray, by_ram: FloatArray) -> RunWeights:
        if attribution == "seed":
            return RunWeights(1 / self.gpu_count, 1 / self.instance_ram_gb)
        return RunWeights(1 / self.free_gpu_per_instance, 1 / self.free_ram_gb_per_instance, by_ram > by_gpu)

    def _instances(self, raw: FloatArray) -> FloatArray:
        if self.server_type == "autoscaling":
            return np.ceil(raw)
        if self.server_type == "serverless":
            return raw
        peak = np.ceil(raw.max())
        if self.fixed_instances is None:
            return np.full(len(raw), peak)
        if peak > self.fixed_instances:
            raise InsufficientCapacityError(
                f"{self.name}: hour {raw.argmax()} needs {peak:g} instances and there are {self.fixed_instances:g}: "
                "raise fixed_instances, or leave it out"
            )
        return np.full(len(raw), self.fixed_instances)


_AMOUNT = {"at_least": 0, "at_most": LARGEST}
_SIZE = {"above": 0, "at_least": SMALLEST, "at_most": LARGEST}
_BOUNDS: dict[str, dict[str, float]] = {
    "gpu_power_w": _AMOUNT,
    "gpu_idle_power_w": _AMOUNT,
    "ram_per_gpu_gb": _SIZE,
    "fabrication_per_gpu_kgco2eq": _AMOUNT,
    "fabrication_without_gpu_kgco2eq": _AMOUNT,
    "gpu_count": _SIZE,
    "lifespan_years": _SIZE,
    "pue": {"at_least": 1, "at_most": LARGEST},
    "utilization_rate": {"above": 0, "at_least": SMALLEST, "at_most": 1},
    "grid_gco2eq_per_kwh": _AMOUNT,
    "base_gpu": _AMOUNT,
    "base_ram_gb": _AMOUNT,
}


# --- what is given ------------------------------------------------------------------------------------------------------


def _listed(jobs: Iterable[GPUJob | Mapping[str, Any]]) -> list[GPUJob]:
    listed = [_job(job) for job in jobs]
    if not listed:
        raise ValueError("a footprint needs at least one job; one that is never started will do for an idle fleet")
    names = set()
    for job in listed:
        if job.name in names:
            raise ValueError(f"two jobs are called {job.name!r}: give each a name of its own")
        names.add(job.name)
    return listed


def _job(job: Any) -> GPUJob:
    if isinstance(job, GPUJob):
        return job
    if not isinstance(job, Mapping):
        raise ValueError(  # noqa: TRY004 - wrong settings are ValueErrors here
            f"a GPU server runs GPUJob objects, or mappings with their parameters, whose compute is measured in GPUs; "
            f"got {job!r}"
        )
    known = [field.name for field in fields(GPUJob)]
    for name in job:
        if name not in known:
            if not {"cpu", "cpus", "core", "cores"}.isdisjoint(str(name).lower().split("_")):
                raise ValueError(
                    f"job {job.get('name')!r} asks for CPU cores ({name}): a GPU server runs only jobs whose compute is "
                    "measured in GPUs; give gpu instead, or leave the job to another server"
                )
            raise ValueError(unknown(f"parameter of job {job.get('name')!r}:", name, known))
    if "name" not in job:
        raise ValueError(f"a job needs a name, got {job!r}")
    return GPUJob(**job)


def _series(job: str, values: ArrayLike) -> FloatArray:
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        array = np.empty(0, dtype=object)
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        raise ValueError(f"job {job!r}: hourly_starts must be one series of numbers, got {values!r:.80}")
    series = array.astype(np.float64)  # a copy: what the caller does to the original later is not ours to follow
    if len(series) and not (series.min() >= 0 and series.max() <= LARGEST):  # what is not a number is neither
        hour = np.flatnonzero(~((series >= 0) & (series <= LARGEST)))[0]
        raise ValueError(
            f"job {job!r}: hourly_starts must be finite, not negative and at most {LARGEST:g}; "
            f"hour {hour} is {series[hour]}"
        )
    series.setflags(write=False)
    return series


def _all_starts(jobs: list[GPUJob], given: Mapping[str, ArrayLike] | None) -> list[FloatArray]:
    given = given or {}
    for name in given:
        if name not in (names := [job.name for job in jobs]):
            raise ValueError(unknown("job", name, names))
    found = []
    for job in jobs:
        if (job.hourly_starts is None) == (job.name not in given):
            either = "nothing says" if job.hourly_starts is None else "both the job and hourly_starts say"
            raise ValueError(f"{either} how often job {job.name!r} is started in each hour: give its hourly_starts once")
        found.append(_series(job.name, given[job.name]) if job.hourly_starts is None else np.asarray(job.hourly_starts))
    return found


def _demand(jobs: list[GPUJob], starts: list[FloatArray]) -> Demand:
    if not any(map(len, starts)):
        raise ValueError("hourly_starts is empty: give at least one hour")
    runs = []
    for job, series in zip(jobs, starts, strict=True):
        duration_h = job.duration_s / _SECONDS_PER_HOUR
        runs.append((duration_h, series) if duration_h < 1 else (1.0, average_occurrences(series, duration_h)))
    return Demand(runs, [job.gpu for job in jobs], [job.ram_gb for job in jobs])

"""The footprint of a fleet hour by hour, and the part of each job in it.

Rules that hold in this file: every figure of a job is its share of the fleet's, so the jobs always add up to the fleet;
arrays are float64, one value an hour; what takes a multiplication to compute is computed when it is read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ecoimpact.deployments._attribution import Demand, Rule, Shares
from ecoimpact.deployments._occurrences import FloatArray

if TYPE_CHECKING:
    from ecoimpact.deployments.gpu_server import GPUServer

Times: TypeAlias = NDArray[np.datetime64]


@dataclass(frozen=True, eq=False, repr=False)
class Fleet:
    """What the footprints of a fleet and of its jobs are made from: hourly arrays of the whole fleet, and the shares."""

    server: GPUServer
    demand: Demand
    shares: Shares
    instances_raw: FloatArray
    instances: FloatArray

    @cached_property
    def idle_energy_kwh(self) -> FloatArray:
        return _fixed(self.instances * (self.server.pue * self.server.instance_idle_power_w / 1000))

    @cached_property
    def load_energy_kwh(self) -> FloatArray:
        return _fixed(self.instances_raw * (self.server.pue * self.server.instance_load_power_w / 1000))

    @cached_property
    def energy_kwh(self) -> FloatArray:
        return _fixed(self.idle_energy_kwh + self.load_energy_kwh)

    @cached_property
    def fabrication_kgco2eq(self) -> FloatArray:
        return _fixed(self.instances * self.server.instance_fabrication_kgco2eq_per_h)


def _fixed(array: FloatArray) -> FloatArray:
    array.setflags(write=False)
    return array


class HourlyFootprint(ABC):
    """Hourly figures of instances of a server: float64 arrays, one value an hour. Totals are sums over the hours."""

    __slots__ = ("_fleet",)
    _fleet: Fleet

    @abstractmethod
    def _provided(self, whole: FloatArray) -> FloatArray:
        """The part of what goes with the instances that are provided."""

    @abstractmethod
    def _loaded(self, whole: FloatArray) -> FloatArray:
        """The part of what goes with the load on them."""

    @abstractmethod
    def _drawn(self, per_kwh: float) -> FloatArray:
        """The part of the energy, times so much for a kWh."""

    @property
    def instances_raw(self) -> FloatArray:
        """Instances that the demand would fill: max(GPU need / free GPUs, RAM need / free RAM)."""
        return self._loaded(self._fleet.instances_raw)

    @property
    def instances(self) -> FloatArray:
        """Instances that are provided."""
        return self._provided(self._fleet.instances)

    @property
    def idle_energy_kwh(self) -> FloatArray:
        """What the provided instances draw without any load, at the plug of the data centre: PUE 1 h P_idle instances."""
        return self._provided(self._fleet.idle_energy_kwh)

    @property
    def load_energy_kwh(self) -> FloatArray:
        """What load adds to it: PUE 1 h (P - P_idle) instances_raw."""
        return self._loaded(self._fleet.load_energy_kwh)

    @property
    def energy_kwh(self) -> FloatArray:
        """Energy at the plug of the data centre."""
        return self._drawn(1.0)

    @property
    def use_kgco2eq(self) -> FloatArray:
        """Emissions of that energy: energy x carbon intensity of the grid."""
        return self._drawn(self._fleet.server.grid_gco2eq_per_kwh / 1000)

    @property
    def fabrication_kgco2eq(self) -> FloatArray:
        """Embodied emissions of the provided instances: instances x 1 h / lifespan x what an instance embodies."""
        return self._provided(self._fleet.fabrication_kgco2eq)

    @property
    def gwp_kgco2eq(self) -> FloatArray:
        """Use and fabrication."""
        return self.use_kgco2eq + self.fabrication_kgco2eq

    @property
    def total_energy_kwh(self) -> float:
        return float(self.energy_kwh.sum())

    @property
    def total_use_kgco2eq(self) -> float:
        return float(self.use_kgco2eq.sum())

    @property
    def total_fabrication_kgco2eq(self) -> float:
        return float(self.fabrication_kgco2eq.sum())

    @property
    def total_gwp_kgco2eq(self) -> float:
        return self.total_use_kgco2eq + self.total_fabrication_kgco2eq

    def _summary(self) -> str:
        use, fabrication = self.total_use_kgco2eq, self.total_fabrication_kgco2eq
        return f"{self.total_energy_kwh:.4g} kWh, use {use:.4g} kgCO2eq, fabrication {fabrication:.4g} kgCO2eq"


class JobFootprint(HourlyFootprint):
    """The part of one job in the footprint of a fleet: the same figures, hour by hour. Shares are between 0 and 1."""

    __slots__ = ("_number", "name")

    def __init__(self, name: str, fleet: Fleet, number: int) -> None:
        self.name = name
        self._fleet = fleet
        self._number = number

    @property
    def occurrences(self) -> FloatArray:
        """Runs of the job at work, as a mean over the hour."""
        return self._fleet.demand.occurrences(self._number)

    @property
    def gpu_need(self) -> FloatArray:
        """GPUs that these runs hold."""
        return self.occurrences * self._fleet.demand.gpu[self._number]

    @property
    def ram_need_gb(self) -> FloatArray:
        """GB of GPU memory that these runs hold."""
        return self.occurrences * self._fleet.demand.ram_gb[self._number]

    @property
    def weight(self) -> FloatArray:
        """What the share is proportional to, before it is divided by the sum over all jobs."""
        return self._fleet.shares.weight(self._number)

    @property
    def load_share(self) -> FloatArray:
        """The job's share of what load adds."""
        return self._fleet.shares.of_load(self._number)

    @property
    def provisioned_share(self) -> FloatArray:
        """The job's share of what instances embody, and of what they draw idle."""
        flat = self._fleet.shares.of_provisioned
        return self.load_share if flat is None else np.full(len(self._fleet.instances), flat[self._number])

    # A new array costs more than the multiplication that fills it: each figure is made in the one that began as its share.

    def _loaded(self, whole: FloatArray) -> FloatArray:
        share = self.load_share
        share *= whole
        return share

    def _provided(self, whole: FloatArray) -> FloatArray:
        flat = self._fleet.shares.of_provisioned
        return self._loaded(whole) if flat is None else whole * flat[self._number]

    def _drawn(self, per_kwh: float) -> FloatArray:
        fleet = self._fleet
        if fleet.shares.of_provisioned is None:
            drawn = self._loaded(fleet.energy_kwh)
        else:
            drawn = self._loaded(fleet.load_energy_kwh)
            drawn += self._provided(fleet.idle_energy_kwh)
        drawn *= per_kwh
        return drawn

    def __repr__(self) -> str:
        return f"<JobFootprint {self.name!r}: {self._summary()}>"


class FleetFootprint(HourlyFootprint):
    """What :meth:`GPUServer.footprint` gives: the hours of the whole fleet, and in ``jobs`` by name the part of each job.

    ``attribution`` is the rule that the parts follow, ``start`` the beginning of the first hour where it was given.
    """

    __slots__ = ("attribution", "jobs", "start")

    def __init__(self, fleet: Fleet, names: list[str], attribution: Rule, start: datetime | None) -> None:
        self._fleet = fleet
        self.attribution = attribution
        self.start = start
        self.jobs: Mapping[str, JobFootprint] = {
            name: JobFootprint(name, fleet, number) for number, name in enumerate(names)
        }

    @property
    def server(self) -> GPUServer:
        """The server that all this is about."""
        return self._fleet.server

    @property
    def hours(self) -> int:
        """How many hours there are: those of the longest series, and those that its last runs take beyond it."""
        return len(self._fleet.instances)

    @property
    def times(self) -> Times | None:
        """The beginning of each hour in UTC, as ``datetime64[s]``; None where no ``start`` was given."""
        if self.start is None:
            return None
        first = np.datetime64(self.start.astimezone(UTC).replace(tzinfo=None), "s")
        return np.asarray(first + np.arange(self.hours) * np.timedelta64(3600, "s"))

    @property
    def gpu_need(self) -> FloatArray:
        """GPUs that all jobs together hold."""
        return self._fleet.demand.gpu_need

    @property
    def ram_need_gb(self) -> FloatArray:
        """GB of GPU memory that all jobs together hold."""
        return self._fleet.demand.ram_need_gb

    @property
    def weight(self) -> FloatArray:
        """The sum of the weights of all jobs: what their shares are divided by."""
        return self._fleet.shares.total_weight

    def _loaded(self, whole: FloatArray) -> FloatArray:
        return whole

    def _provided(self, whole: FloatArray) -> FloatArray:
        return whole

    def _drawn(self, per_kwh: float) -> FloatArray:
        return self._fleet.energy_kwh * per_kwh

    def __repr__(self) -> str:
        jobs = f"{len(self.jobs)} job{'s' if len(self.jobs) > 1 else ''}"
        return f"<FleetFootprint of {self.hours} h, {jobs}: {self._summary()}>"

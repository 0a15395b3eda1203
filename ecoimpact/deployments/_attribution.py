"""Whose the hours of a fleet are: the share of every job in what the instances embody and draw.

A job weighs as much as its runs at work, and its share is its weight over that of all jobs. The rules differ in what a run
weighs, and in whose a constant fleet is:

``"seed"``     its GPUs / those of an instance + its RAM / that of an instance; one share for everything.
``"current"``  its GPUs / those free on an instance where GPUs set the number of instances, else its RAM / that free on one.
               What instances draw under load goes by these shares; what they embody and draw idle too, but on premise it
               goes by tiers.

Rules of this file: shares add up to 1 in every hour; memory is linear in hours, however many instances there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ecoimpact.deployments._occurrences import FloatArray

Rule: TypeAlias = Literal["seed", "current"]
RULES: tuple[Rule, ...] = ("seed", "current")

NO_DEMAND = 1e-280
"""A weight below this is none: dividing by it would overflow."""


class Demand:
    """What jobs ask for: how many runs of each are at work, what a run holds, and the sums over all jobs.

    The runs of a job are ``factor x series``, with zeros after the end of the series: a run shorter than an hour needs no
    array besides that of its starts.
    """

    def __init__(self, runs: Sequence[tuple[float, FloatArray]], gpu: Sequence[float], ram_gb: Sequence[float]) -> None:
        self.gpu = gpu
        self.ram_gb = ram_gb
        self._factors = [factor for factor, _ in runs]
        self._series = [series for _, series in runs]
        self.hours = max(map(len, self._series))
        self.gpu_need = self._sum(gpu)
        self.ram_need_gb = self._sum(ram_gb)

    def _sum(self, held_by_a_run: Sequence[float]) -> FloatArray:
        total, room = np.zeros(self.hours), np.empty(self.hours)
        for series, factor, held in zip(self._series, self._factors, held_by_a_run, strict=True):
            total[: len(series)] += np.multiply(series, factor * held, out=room[: len(series)])
        return total

    def occurrences(self, job: int) -> FloatArray:
        """Runs of a job at work in each hour."""
        return self._by_series(job, np.full(self.hours, self._factors[job]))

    def weight(self, job: int, weights: RunWeights, hourly: FloatArray) -> FloatArray:
        """What all runs of a job weigh in each hour, times something hourly."""
        factor = self._factors[job]
        return self._by_series(job, weights.times(hourly, factor * self.gpu[job], factor * self.ram_gb[job]))

    def weights_of_period(self, weights: RunWeights, hourly: FloatArray) -> FloatArray:
        """What all runs of each job weigh, times something hourly, summed over the hours."""
        of_gpu, of_ram_gb = weights.times(hourly, 1.0, 0.0), weights.times(hourly, 0.0, 1.0)
        jobs = zip(self._series, self._factors, self.gpu, self.ram_gb, strict=True)
        return np.array([n * (gpu * _dot(s, of_gpu) + ram_gb * _dot(s, of_ram_gb)) for s, n, gpu, ram_gb in jobs])

    def _by_series(self, job: int, hourly: FloatArray) -> FloatArray:
        """``hourly`` itself, multiplied by the series of a job."""
        series = self._series[job]
        hourly[: len(series)] *= series
        hourly[len(series) :] = 0.0
        return hourly


@dataclass(frozen=True, slots=True, eq=False)
class RunWeights:
    """What a GPU and a GB that a run holds weigh. Both count, unless ``ram_binds`` says for each hour which one does."""

    per_gpu: float
    per_ram_gb: float
    ram_binds: NDArray[np.bool_] | None = None

    def times(self, hourly: FloatArray, gpu: FloatArray | float, ram_gb: FloatArray | float) -> FloatArray:
        """The weight of so many GPUs and GB in each hour, times something hourly."""
        by_gpu, by_ram = gpu * self.per_gpu, ram_gb * self.per_ram_gb
        if self.ram_binds is None:
            return np.multiply(hourly, by_gpu + by_ram)
        weight = np.multiply(hourly, by_gpu)
        return np.multiply(hourly, by_ram, out=weight, where=self.ram_binds)


class Shares:
    """The share of each job in each hour.

    Where all weights are zero, a job has its share in the whole period; where the whole period has none, all jobs have the
    same. ``of_provisioned`` is None, or the share of each job in what instances embody and draw idle, for all hours.
    """

    def __init__(self, demand: Demand, weights: RunWeights) -> None:
        self._demand = demand
        self._weights = weights
        self._everywhere = np.ones(demand.hours)
        self.total_weight = weights.times(self._everywhere, demand.gpu_need, demand.ram_need_gb)
        self.of_provisioned: FloatArray | None = None
        demanded = self.total_weight > NO_DEMAND
        self._idle = None if demanded.all() else ~demanded
        self._part_of_total = np.divide(1.0, self.total_weight, out=np.zeros(demand.hours), where=demanded)

    def weight(self, job: int) -> FloatArray:
        """What a job weighs in each hour."""
        return self._demand.weight(job, self._weights, self._everywhere)

    def of_load(self, job: int) -> FloatArray:
        """The share of a job in each hour: its weight over the sum of all."""
        share = self._demand.weight(job, self._weights, self._part_of_total)
        if self._idle is not None:
            share[self._idle] = self.of_period[job]
        return share

    @cached_property
    def of_period(self) -> FloatArray:
        """The share of each job in all hours together."""
        return _normalised(self._demand.weights_of_period(self._weights, self._everywhere))

    def share_by_tiers(self, instances: float, instances_raw: FloatArray) -> None:
        """Let each instance of a constant fleet be paid for by those who need it, in the hours in which they do.

        share_j = 1/T sum over k = 1..T of ( sum of w_j over the hours with raw > k - 1 ) / ( the same sum of all w )

        An instance that no hour needs is paid for by the shares of the period. With the hours in descending order of
        ``raw``, a tier is the first so many of them, and the sum over tiers becomes one factor g for every hour.

        Reference: e-footprint 27.0.0, shares of the provisioned footprint on premise.
        """
        order = np.argsort(-instances_raw, kind="stable")
        needed = np.ceil(instances_raw[order])
        tiers_that_end_here = needed - np.append(needed[1:], 0.0)
        demanded = np.cumsum(self.total_weight[order])
        part = np.divide(tiers_that_end_here, demanded, out=np.zeros_like(demanded), where=demanded > NO_DEMAND)
        g = np.empty_like(part)
        g[order] = np.cumsum(part[::-1])[::-1]
        in_tiers = self._demand.weights_of_period(self._weights, g)
        unneeded = instances - needed[0]
        self.of_provisioned = _normalised(in_tiers + unneeded * self.of_period if unneeded else in_tiers)


def _dot(series: FloatArray, hourly: FloatArray) -> float:
    # Not with @: for vectors of a year its threads wait for each other longer than they compute, where cores are busy.
    return float(np.einsum("h,h->", series, hourly[: len(series)]))


def _normalised(amounts: FloatArray) -> FloatArray:
    total = amounts.sum()
    return amounts / total if total > NO_DEMAND else np.full(len(amounts), 1 / len(amounts))

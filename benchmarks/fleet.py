"""A fleet of GPU servers, three years hour by hour with a hundred jobs, beside e-footprint. ``python -m benchmarks.fleet``.

e-footprint needs Python 3.12 and many packages, so it runs in a process of its own: ``--peer-python PATH`` names an
interpreter that has it (``pip install efootprint``). Both take turns, from arrays of starts an hour to the hourly use and
fabrication footprints of every job. ``current`` is the attribution that e-footprint does, ``seed`` the older one.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from ecoimpact.deployments import GPUJob

Demand: TypeAlias = list[tuple[str, float, float, float, Any]]

HOURS, JOBS = 26_298, 100
SERVER_TYPES = ("autoscaling", "on-premise")

DEMAND = """
DURATIONS_S = (1, 12.5, 60, 600, 5400)
def demand(hours, jobs):
    import numpy as np
    hour = np.arange(hours)
    return [
        (f"job-{job:03}", DURATIONS_S[job % 5], 0.5 + job % 3, 1 + 3 * job % 50, hour * (7 + job) % 24 + job % 2)
        for job in range(jobs)
    ]
"""
"""Name, seconds, GPUs, GB and starts an hour of each job, in one text for both processes."""

PEER = (
    DEMAND
    + """
import sys, time
import numpy as np
import pytz
from datetime import datetime
from importlib.metadata import version
from efootprint.abstract_modeling_classes.source_objects import (
    SourceHourlyValues, SourceObject, SourceTimezone, SourceValue)
from efootprint.constants.units import u
from efootprint.core.country import Country
from efootprint.core.hardware.gpu_server import GPUServer
from efootprint.core.hardware.network import Network
from efootprint.core.hardware.storage import Storage
from efootprint.core.lifecycle_phases import LifeCyclePhases
from efootprint.core.system import System
from efootprint.core.usage.job import GPUJob
from efootprint.core.usage.usage_journey import UsageJourney
from efootprint.core.usage.usage_journey_step import UsageJourneyStep
from efootprint.core.usage.usage_pattern import UsagePattern

def system(server_type, listed):
    server = GPUServer.from_defaults(
        "server", server_type=SourceObject(server_type), compute=SourceValue(8 * u.gpu),
        utilization_rate=SourceValue(0.9 * u.dimensionless), storage=Storage.from_defaults("storage"))
    zone = SourceTimezone(pytz.utc)
    country = Country("country", "XYZ", SourceValue(400 * u.g / u.kWh), zone)
    network = Network.from_defaults("network")
    patterns = []
    for name, seconds, gpu, ram_gb, starts in listed:
        job = GPUJob.from_defaults(
            name, server=server, request_duration=SourceValue(seconds * u.s),
            compute_needed=SourceValue(gpu * u.gpu), ram_needed=SourceValue(ram_gb * u.GB_ram))
        step = UsageJourneyStep.from_defaults("step of " + name, jobs=[job])
        hourly = SourceHourlyValues(starts.astype(np.float32) * u.occurrence, start_date=datetime(2025, 1, 1))
        journey = UsageJourney("journey of " + name, uj_steps=[step])
        patterns.append(UsagePattern("pattern of " + name, [journey], [], network, country, hourly))
    return System("system", patterns, edge_usage_patterns=[]), server

print(version("efootprint"), ".".join(map(str, sys.version_info[:2])), flush=True)
listed = demand(int(sys.argv[1]), int(sys.argv[2]))
for line in sys.stdin:
    started = time.perf_counter()
    whole, server = system(line.strip(), listed)
    built = time.perf_counter()
    energy = server.instances_energy
    total = 0.0
    for phase in LifeCyclePhases:
        for atom in server.attribution_atoms(phase):
            total += float(atom.value.value.magnitude.sum())
    print(built - started, time.perf_counter() - built, total, flush=True)
"""
)


class Round(NamedTuple):
    """Making the objects, computing with them, and the sum of what was computed: both sides must come to the same."""

    building_s: float
    computing_s: float
    kgco2eq: float


class Peer:
    """e-footprint in a process that waits for its turns."""

    def __init__(self, python: str, hours: int, jobs: int) -> None:
        command = [python, "-W", "ignore", "-c", PEER, str(hours), str(jobs)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version, self.python = self._line().split()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the peer's process has ended: does that interpreter have efootprint 27 or later?")
        return line

    def turn(self, server_type: str) -> Round:
        assert self._process.stdin is not None
        print(server_type, file=self._process.stdin, flush=True)
        return Round(*map(float, self._line().split()))

    def close(self) -> None:
        self._process.communicate()


def table(
    *,
    rounds: int = 9,
    hours: int = HOURS,
    jobs: int = JOBS,
    peer_python: str | None = None,
    progress: Callable[[str], object] = lambda _: None,
) -> str:
    """Milliseconds for making the objects and for computing, and how many times faster both, as a Markdown table."""
    listed = _demand(hours, jobs)
    peer_python = peer_python or (sys.executable if find_spec("efootprint") else None)
    peer = Peer(peer_python, hours, jobs) if peer_python else None
    lines = ["| | objects, ms | computing, ms | times faster | computing alone |", "|---|---|---|---|---|"]
    for server_type in SERVER_TYPES:
        turns: dict[str, Callable[[], Round]] = {
            f"`{rule}`": partial(_turn, listed, server_type, rule) for rule in ("current", "seed")
        }
        if peer:
            turns = {f"e-footprint {peer.version}": partial(peer.turn, server_type), **turns}
        progress(f"{server_type}: {rounds} rounds")
        samples = _in_turns(turns, rounds)
        baseline = next(iter(samples.values())) if peer else None
        lines += [_row(f"{server_type}, {name}", rounds_of, baseline) for name, rounds_of in samples.items()]
    if peer:
        peer.close()
    beside = f"e-footprint runs on Python {peer.python}" if peer else "e-footprint was not at hand"
    return "\n".join([*lines, "", f"{hours:,} hours, {jobs} jobs; {beside}. {_memory(listed)}"])


def _in_turns(turns: dict[str, Callable[[], Round]], rounds: int) -> dict[str, list[Round]]:
    """Of three in a row the middle one counts: the first after a change finds nothing of its own in the caches.

    Each process only waits while the other has its turn.
    """
    samples: dict[str, list[Round]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            samples[name].append(sorted((turn() for _ in range(3)), key=lambda one: one.computing_s)[1])
    first = [rounds_of[0].kgco2eq for rounds_of in samples.values()]
    assert max(first) < min(first) * (1 + 1e-4), first
    return samples


def _row(name: str, samples: list[Round], baseline: list[Round] | None) -> str:
    parts = ([one.building_s for one in samples], [one.computing_s for one in samples])
    cells = [f"{statistics.median(seconds) * 1e3:.1f}" for seconds in parts]
    pairs = [*zip(baseline or [], samples, strict=bool(baseline))]
    both = [(t.building_s + t.computing_s) / (o.building_s + o.computing_s) for t, o in pairs]
    alone = [t.computing_s / o.computing_s for t, o in pairs]
    cells += [f"{statistics.median(f):.0f} ({min(f):.0f} to {max(f):.0f})" if f else "–" for f in (both, alone)]
    return f"| {name} | {' | '.join(cells)} |"


def _turn(listed: Demand, server_type: str, rule: str) -> Round:
    from ecoimpact.deployments import GPUServer

    started = time.perf_counter()
    jobs = _jobs(listed)
    built = time.perf_counter()
    result = GPUServer(server_type=server_type, gpu_count=8, utilization_rate=0.9).footprint(jobs, rule)  # type: ignore[arg-type]
    total = 0.0
    for job in result.jobs.values():
        total += float(job.use_kgco2eq.sum() + job.fabrication_kgco2eq.sum())
    return Round(built - started, time.perf_counter() - built, total)


def _demand(hours: int, jobs: int) -> Demand:
    room: dict[str, Any] = {}
    exec(DEMAND, room)  # noqa: S102 - the text above
    make: Callable[[int, int], Demand] = room["demand"]
    return make(hours, jobs)


def _jobs(listed: Demand) -> list[GPUJob]:
    from ecoimpact.deployments import GPUJob

    return [
        GPUJob(name, duration_s=seconds, gpu=gpu, ram_gb=ram_gb, hourly_starts=starts)
        for name, seconds, gpu, ram_gb, starts in listed
    ]


def _memory(listed: Demand) -> str:
    """Peak of a footprint over the size of one series for each job: it must not depend on either number."""
    from ecoimpact.deployments import GPUServer

    jobs = _jobs(listed)
    tracemalloc.start()
    result = GPUServer(server_type="on-premise", gpu_count=8).footprint(jobs, "current")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return f"A footprint takes {peak / (result.hours * len(jobs) * 8):.1f} times the memory of its jobs' starts."


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peer-python", metavar="PATH", help="an interpreter that has efootprint")
    arguments = parser.parse_args()
    print(
        table(
            rounds=arguments.rounds,
            peer_python=arguments.peer_python,
            progress=lambda text: print(text, file=sys.stderr, flush=True),
        )
    )

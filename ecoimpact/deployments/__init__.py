"""Fleets that serve models, hour by hour: what they use whether or not somebody asks them something.

Rules of this package: no clock and no I/O; plain numbers and numpy's float64 arrays, with units in the names. Importing it
loads nothing but itself; numpy comes with the methodologies that compute in arrays.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecoimpact.deployments.gpu_server import GPUJob, GPUServer, InsufficientCapacityError
    from ecoimpact.deployments.hourly import FleetFootprint, JobFootprint
    from ecoimpact.deployments.managed_inference import ManagedInference

_HOME = {
    "FleetFootprint": "hourly",
    "GPUJob": "gpu_server",
    "GPUServer": "gpu_server",
    "InsufficientCapacityError": "gpu_server",
    "JobFootprint": "hourly",
    "ManagedInference": "managed_inference",
}

__all__ = [
    "FleetFootprint",
    "GPUJob",
    "GPUServer",
    "InsufficientCapacityError",
    "JobFootprint",
    "ManagedInference",
]


def __getattr__(name: str) -> Any:
    if name == "plots":
        return import_module(f"{__name__}.plots")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Pictures of a deployment's hours, for a notebook or a page. plotly is imported when a picture is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ecoimpact.deployments._occurrences import FloatArray
from ecoimpact.deployments.hourly import FleetFootprint, JobFootprint

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

OTHERS = "other jobs"

_STACKED: tuple[tuple[str, str, Callable[[JobFootprint], FloatArray]], ...] = (
    ("energy", "kWh", lambda job: job.energy_kwh),
    ("use", "kgCO2eq", lambda job: job.use_kgco2eq),
    ("fabrication", "kgCO2eq", lambda job: job.fabrication_kgco2eq),
)


def hourly(result: FleetFootprint, *, max_jobs: int = 12) -> Figure:
    """The hours of a fleet: its instances, then energy, use and fabrication with the parts of the jobs stacked.

    The ``max_jobs`` jobs with the largest emissions have a colour each; the others are one part, ``"other jobs"``. The
    x axis shows times where the result has a ``start``, else hours from the beginning. ``hourly(result).write_html(path)``
    makes a page of it.

    Raises:
        ModuleNotFoundError: plotly is not installed.
        ValueError: ``max_jobs`` is below 1.
    """
    if max_jobs < 1:
        raise ValueError(f"max_jobs must be at least 1, got {max_jobs!r}")
    from plotly.colors import qualitative
    from plotly.graph_objects import Scatter
    from plotly.subplots import make_subplots

    x = np.arange(result.hours) if result.times is None else result.times
    titles = ["instances", *(f"{name}, {unit}" for name, unit, _ in _STACKED)]
    figure = make_subplots(rows=len(titles), cols=1, shared_xaxes=True, subplot_titles=titles, vertical_spacing=0.06)
    for name, values in (("provided", result.instances), ("demanded", result.instances_raw)):
        figure.add_trace(Scatter(x=x, y=values, name=name, line_shape="hv", legendgroup="instances"), row=1, col=1)
    parts = _parts(result, max_jobs)
    for row, (title, _, values_of) in enumerate(_STACKED, start=2):
        for number, (name, jobs) in enumerate(parts):
            trace = Scatter(
                x=x,
                y=sum(map(values_of, jobs)),
                name=name,
                stackgroup=title,
                line={"color": qualitative.Dark24[number % len(qualitative.Dark24)], "width": 0.5},
                legendgroup=name,
                showlegend=row == 2,
            )
            figure.add_trace(trace, row=row, col=1)
    figure.update_layout(title=f"{result.server.name}, {result.server.server_type}", hovermode="x unified", height=900)
    figure.update_xaxes(title_text="hour" if result.times is None else "UTC", row=len(titles), col=1)
    return figure


def _parts(result: FleetFootprint, max_jobs: int) -> list[tuple[str, list[JobFootprint]]]:
    """The jobs with the largest emissions, each alone, and all others together."""
    by_size = sorted(result.jobs.values(), key=lambda job: job.total_gwp_kgco2eq, reverse=True)
    alone = [(job.name, [job]) for job in by_size[:max_jobs]]
    return alone + ([(OTHERS, by_size[max_jobs:])] if by_size[max_jobs:] else [])

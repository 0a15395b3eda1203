"""The hours of a fleet as a page that needs nothing else. plotly is imported when a page is asked for.

plotly renders some markup in names and titles, so all of them are escaped: labels are anybody's words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ecoimpact.cli.printable import safe, shortened
from ecoimpact.deployments import FleetFootprint
from ecoimpact.fleet import AttributedFootprint

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

GROUPS: Final = 12
"""Groups with a colour of their own."""


def html(found: AttributedFootprint) -> str:
    """The page: with a GPU server its instances, energy and emissions, else what was asked of the nodes."""
    if isinstance(found.footprint, FleetFootprint):
        from ecoimpact.deployments import plots

        figure = plots.hourly(found.footprint, max_jobs=GROUPS)
    else:
        figure = _demand(found)
    for trace in figure.data:
        trace.name, trace.legendgroup = _shown(trace.name), safe(trace.legendgroup)
    for text in (figure.layout.title, *figure.layout.annotations):
        text.text = _shown(text.text)
    return str(figure.to_html(include_plotlyjs=True, full_html=True))


def _shown(name: str) -> str:
    return safe(shortened(name, 80))


def _demand(found: AttributedFootprint) -> Figure:
    from plotly.colors import qualitative
    from plotly.graph_objects import Scatter
    from plotly.subplots import make_subplots

    demand = found.demand
    series = {"requests": "requests", "output tokens": "output_tokens", "seconds of generation": "generation_s"}
    figure = make_subplots(rows=len(series), cols=1, shared_xaxes=True, subplot_titles=[*series], vertical_spacing=0.08)
    for row, name in enumerate(series.values(), start=1):
        largest = [*demand.groups.values()][:GROUPS]
        parts = {group.key: getattr(group, name) for group in largest}
        if len(demand.groups) > GROUPS:
            parts["(others)"] = sum(getattr(group, name) for group in [*demand.groups.values()][GROUPS:])
        for number, (key, values) in enumerate(parts.items()):
            trace = Scatter(
                x=demand.times,
                y=values,
                name=key,
                stackgroup=name,
                line={"color": qualitative.Dark24[number], "width": 0.5},
                legendgroup=key,
                showlegend=row == 1,
            )
            figure.add_trace(trace, row=row, col=1)
    nodes = f"{found.hours.instances[0]:g} node{'' if found.hours.instances[0] == 1 else 's'}"
    title = f"What was asked of {nodes}, with {found.hours.energy_kwh[0]:.3g} kWh in every hour"
    figure.update_layout(title=title, hovermode="x unified", height=800)
    return figure

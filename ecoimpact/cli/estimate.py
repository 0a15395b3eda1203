"""``ecoimpact estimate``: the figures of one request, without making it."""

from __future__ import annotations

from typing import Annotated

import typer

from ecoimpact import engine
from ecoimpact.cli.output import checked_provider, console, near, print_json, show, table, wrong
from ecoimpact.cli.quantities import Unit, unit_for
from ecoimpact.types import CRITERIA, Explanation, Figure, Impacts, Phase


def command(
    model: Annotated[str, typer.Argument(help="The model's name, such as gpt-4o-mini.")],
    *,
    output_tokens: Annotated[int, typer.Option(min=0, help="Tokens that the model generates.")],
    input_tokens: Annotated[int | None, typer.Option(min=0, help="Tokens of the prompt.")] = None,
    provider: Annotated[str | None, typer.Option(help="Who serves the model; default: who owns its name.")] = None,
    zone: Annotated[str | None, typer.Option(help="Electricity zone, such as FRA or US-CA.")] = None,
    latency_s: Annotated[float | None, typer.Option(min=0, help="Measured duration of the request.")] = None,
    methodology: Annotated[str, typer.Option(help="Edition to compute with.")] = engine.DEFAULT_METHODOLOGY,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show every step with its formula and source.")] = False,
) -> None:
    """Tell what one request costs.

    Shows energy, carbon, minerals, primary energy and water, each with its range.
    """
    try:
        edition = engine.validate_methodology(methodology)
    except ValueError as error:
        raise wrong(str(error), "--methodology") from None
    try:
        zone = None if zone is None else engine.validate_zone(zone)
    except ValueError as error:
        raise wrong(str(error), "--zone") from None
    impacts = engine.estimate(
        model,
        output_tokens=output_tokens,
        provider=checked_provider(provider),
        input_tokens=input_tokens,
        latency_s=latency_s,
        zone=zone,
        methodology=edition,
    )
    for problem in impacts.errors:
        if problem.code == "model-not-registered":
            hint = near(model, {card.name for card in engine.models()})
            raise wrong(f"no model {model!r}.{hint} All of them: ecoimpact models", "MODEL")
        raise wrong(problem.message, "MODEL")
    steps = impacts.explain() if explain else None
    if json:
        print_json(impacts.to_dict() | ({"steps": _plain(steps)} if steps else {}))
    else:
        _show(impacts, output_tokens, steps)


def _plain(steps: Explanation) -> list[dict[str, object]]:
    return [
        {
            "symbol": step.symbol,
            "formula": step.formula,
            "min": step.value.min,
            "max": step.value.max,
            "unit": step.unit,
            "source": step.source,
        }
        for step in steps
    ]


def _show(impacts: Impacts, output_tokens: int, steps: Explanation | None) -> None:
    out = console()
    out.print(f"{impacts.model}, {output_tokens} output tokens, zone {impacts.zone}", style="bold", markup=False)
    out.print(f"{impacts.methodology}, data {impacts.data_version}", markup=False)
    figures = table("", "unit", "total", "usage", "embodied")
    for criterion in CRITERIA:
        total: Figure | None = getattr(impacts, criterion.key)
        if total is not None:
            unit = unit_for(criterion.key, total.central)
            parts = [_part(phase, criterion.key, unit) for phase in (impacts.usage, impacts.embodied)]
            figures.add_row(criterion.key, unit.symbol, unit.span(total.value), *parts)
    show(out, figures)
    for warning in impacts.warnings:
        out.print(f"! {warning}", markup=False)
    for number, step in enumerate(steps or (), start=1):
        out.print(f"\n{number}. {step.symbol} = {step.value:.4g} {step.unit}".rstrip(), markup=False)
        out.print(f"   {step.formula}", style="dim", markup=False)
        out.print(f"   {step.source}", style="dim", markup=False)


def _part(phase: Phase | None, key: str, unit: Unit) -> str:
    figure: Figure | None = getattr(phase, key, None)
    return "" if figure is None else unit.span(figure.value)

"""``ecoimpact compare``: one request under every methodology, beside what is published."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.text import Text

from ecoimpact import engine
from ecoimpact.cli.output import checked_provider, console, near, print_json, show, table, wrong
from ecoimpact.cli.printable import printable, shortened
from ecoimpact.comparison import BAND_WH, PUBLISHED, Comparison, compare
from ecoimpact.comparison_picture import Scale
from ecoimpact.types import Range

_NAME_WIDTH = 24
_LEAST_BAR = 20


def command(
    model: Annotated[str, typer.Argument(help="The model's name, such as gpt-4o-mini.")],
    *,
    output_tokens: Annotated[int, typer.Option(min=0, help="Tokens that the model generates.")],
    input_tokens: Annotated[int | None, typer.Option(min=0, help="Tokens of the prompt.")] = None,
    provider: Annotated[str | None, typer.Option(help="Who serves the model; default: who owns its name.")] = None,
    zone: Annotated[str | None, typer.Option(help="Electricity zone, such as FRA or US-CA.")] = None,
    latency: Annotated[float | None, typer.Option(min=0, help="Measured duration of the request in seconds.")] = None,
    format: Annotated[Literal["table", "json"], typer.Option(help="How to print it.")] = "table",  # noqa: A002 - its name
    picture: Annotated[Path | None, typer.Option(help="Also write a picture to this SVG file.")] = None,
) -> None:
    """Tell what one request costs by every methodology.

    Shows the energy of each on a logarithmic scale beside the band of published figures, and what each includes.
    """
    try:
        zone = None if zone is None else engine.validate_zone(zone)
    except ValueError as error:
        raise wrong(str(error), "--zone") from None
    found = compare(
        model,
        output_tokens=output_tokens,
        input_tokens=input_tokens,
        provider=checked_provider(provider),
        zone=zone,
        latency_s=latency,
    )
    _refuse_unknown(model, found)
    if picture is not None:
        try:
            picture.write_text(found.picture(), encoding="utf-8")
        except OSError as error:
            raise wrong(f"cannot write {picture}: {error.strerror or error}", "--picture") from None
    if format == "json":
        print_json(found.to_dict())
    else:
        _show(console(), found)
    if picture is not None:
        print(f"The picture is in {picture}.", file=sys.stderr)


def _refuse_unknown(model: str, found: Comparison) -> None:
    for problem in next(iter(found.values())).errors:
        if problem.code == "model-not-registered":
            hint = near(model, {card.name for card in engine.models()})
            raise wrong(f"no model {model!r}.{hint} All of them: ecoimpact models", "MODEL")
        raise wrong(problem.message, "MODEL")


def _show(out: Console, found: Comparison) -> None:
    out.print(Text(printable(found.heading), style="bold"))
    figures = table("methodology", "Wh", "from", "to", "gCO2eq", "mL", numbers=("Wh", "from", "to", "gCO2eq", "mL"))
    for name, *cells in found.rows():
        figures.add_row(Text(shortened(printable(name), _NAME_WIDTH)), *cells)
    show(out, figures)
    for line in _bars(found, out.width):
        out.print(line, no_wrap=True, overflow="crop")
    out.print()
    out.print(Text(printable(found.beside_the_band)))
    for published in PUBLISHED:
        out.print(Text(f"  {published}"))
    for about, names in found.kinds().items():
        out.print()
        out.print(Text(printable(", ".join(names)), style="bold"))
        out.print(Text(f"includes: {'; '.join(about.includes) or 'not stated'}"))
        out.print(Text(f"leaves out: {'; '.join(about.leaves_out) or 'not stated'}"))
    out.print()
    for notice in found.notices():
        out.print(f"! {printable(notice)}", markup=False)


# --- the drawing --------------------------------------------------------------------------------------------------------


def _bars(found: Comparison, width: int) -> Iterator[Text]:
    """A line for each methodology: from low to high, the central value in it, on the ground of the published band."""
    energies = found.energies_wh()
    names = {name: shortened(printable(name), _NAME_WIDTH) for name in energies}
    indent = max(map(len, names.values())) + 2
    room = max(width - indent - 1, _LEAST_BAR)
    scale = Scale([BAND_WH, *(energy for energy in energies.values() if energy is not None)])
    for name, energy in energies.items():
        yield Text(f"{names[name]:<{indent}}") + _bar(scale, room, energy)
    yield Text(" " * indent) + _axis(scale, room)
    yield Text(f"{'':<{indent}}Wh, logarithmic; ░ published for an ordinary answer", style="dim")


def _bar(scale: Scale, room: int, energy: Range | None) -> Text:
    ground = _cells(scale, room, BAND_WH)
    cells = ["░" if at in ground else " " for at in range(room)]
    if energy is not None:
        for at in _cells(scale, room, energy):
            cells[at] = "━"
        cells[_cell(scale, room, energy.central)] = "●"
    return Text("".join(cells))


def _axis(scale: Scale, room: int) -> Text:
    line = [" "] * room
    for decade in scale.decades():
        label = f"{10.0**decade:g}"
        start = min(_cell(scale, room, 10.0**decade), room - len(label))
        if not "".join(line[max(start - 1, 0) : start + len(label)]).strip():
            line[start : start + len(label)] = label
    return Text("".join(line), style="dim")


def _cells(scale: Scale, room: int, span: Range) -> range:
    return range(_cell(scale, room, span.min), _cell(scale, room, span.max) + 1)


def _cell(scale: Scale, room: int, value: float) -> int:
    return round(scale.place(value) * (room - 1))

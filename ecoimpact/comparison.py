"""One request under every methodology, beside what has been published about such requests.

Rules of this file: the engine does the work; nothing is averaged over methodologies, since they do not count the same
things; what each counts and leaves out stands beside its figures.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from ecoimpact import engine, methodologies
from ecoimpact.methodologies import About
from ecoimpact.types import Figure, Impacts, Methodology, Range

WIDTH: Final = 80


class Published(NamedTuple):
    """An energy that somebody measured or stated for an ordinary request."""

    energy_wh: Range
    what: str
    source: str

    def __str__(self) -> str:
        low, high = self.energy_wh.min, self.energy_wh.max
        return f"{low:g}{f' to {high:g}' if high > low else ''} Wh: {self.what} ({self.source})"


BAND_WH: Final = Range(0.03, 1.0)
"""[Wh] Where the energy of an ordinary answer of a few hundred tokens lies, going by what is published."""

PUBLISHED: Final = (
    Published(
        Range(0.031, 0.313),
        "Llama 3.1 70B on 4 H100, 300 tokens, GPUs only, batch 900 to 8",
        "ML.ENERGY leaderboard 3.0, https://ml.energy",
    ),
    Published(Range(0.24, 0.24), "Gemini Apps, median text prompt", "Google 2025, arXiv:2508.15734"),
    Published(
        Range(0.34, 0.34), "ChatGPT, average query", "S. Altman 2025, https://blog.samaltman.com/the-gentle-singularity"
    ),
    Published(Range(0.42, 0.42), "GPT-4o, short query", "Jegham et al. 2025, arXiv:2505.09598"),
)
"""What the band rests on."""

_COLUMNS: Final = (("energy", "Wh", 1e3), ("gwp", "gCO2eq", 1e3), ("wcf", "mL", 1e3))


class Comparison(Mapping[str, Impacts]):
    """The impacts of one request by methodology. ``print()`` gives a table, notebooks show a picture as well.

    ``request`` are the arguments it was made with; ``about(name)`` says what a methodology includes and leaves out.
    """

    def __init__(self, request: Mapping[str, Any], impacts: Mapping[str, Impacts], about: Mapping[str, About]) -> None:
        self.request = dict(request)
        self._impacts = dict(impacts)
        self._about = dict(about)

    def __getitem__(self, name: str) -> Impacts:
        return self._impacts[methodologies.ALIASES.get(name, name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._impacts)

    def __len__(self) -> int:
        return len(self._impacts)

    def about(self, name: str) -> About:
        """What a methodology includes and leaves out."""
        return self._about[methodologies.ALIASES.get(name, name)]

    def energies_wh(self) -> dict[str, Range | None]:
        """[Wh] The energy by methodology, ``None`` where there is no estimate."""
        found: dict[str, Range | None] = {}
        for name, impacts in self.items():
            found[name] = None if impacts.energy is None else impacts.energy.value * 1e3
        return found

    @property
    def heading(self) -> str:
        """What was asked: model, counts, latency, zone."""
        asked = self.request
        tokens_in, latency_s = asked["input_tokens"], asked["latency_s"]
        parts = [
            str(asked["model"]),
            f"{asked['output_tokens']} output tokens",
            "input tokens not known" if tokens_in is None else f"{tokens_in} input tokens",
            "latency not measured" if latency_s is None else f"{latency_s:g} s",
        ]
        zones = dict.fromkeys(impacts.zone for impacts in self.values() if impacts.zone)
        text = ", ".join([*parts, *(f"zone {zone}" for zone in zones)])
        return "".join(sign if sign.isprintable() else "?" for sign in text)

    @property
    def beside_the_band(self) -> str:
        """The band of published figures, and which methodologies lie outside of it with all of their range."""
        energies = {name: energy for name, energy in self.energies_wh().items() if energy is not None}
        outside = {
            "all below it": [name for name, energy in energies.items() if energy < BAND_WH],
            "all above it": [name for name, energy in energies.items() if energy > BAND_WH],
        }
        text = f"Published for an ordinary answer: {BAND_WH.min:g} to {BAND_WH.max:g} Wh"
        return "; ".join([text, *(f"{where}: {', '.join(names)}" for where, names in outside.items() if names)])

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for ``json.dumps``."""
        return {
            **self.request,
            "methodologies": {
                name: {
                    **impacts.to_dict(),
                    "includes": list(self.about(name).includes),
                    "leaves_out": list(self.about(name).leaves_out),
                }
                for name, impacts in self.items()
            },
            "published": [
                {"energy_wh_min": p.energy_wh.min, "energy_wh_max": p.energy_wh.max, "about": p.what, "source": p.source}
                for p in PUBLISHED
            ],
        }

    def picture(self) -> str:
        """The energies on a logarithmic scale as an SVG file of its own, readable on light and on dark ground."""
        from ecoimpact.comparison_picture import picture

        return picture(self, standalone=True)

    def __repr__(self) -> str:
        return f"<Comparison {self.heading}: {', '.join(self)}>"

    def __str__(self) -> str:
        lines = [*_wrapped(self.heading), "", *self._table(), ""]
        lines += _wrapped(self.beside_the_band)
        for published in PUBLISHED:
            lines += _wrapped(str(published), "  ")
        for about, names in self.kinds().items():
            lines += ["", *_wrapped(", ".join(names))]
            lines += [line for word in about.includes for line in _wrapped(f"+ {word}", "  ")]
            lines += [line for word in about.leaves_out for line in _wrapped(f"- {word}", "  ")]
        lines += ["", *(line for notice in self.notices() for line in _wrapped(f"! {notice}"))]
        return "\n".join(lines).rstrip()

    def kinds(self) -> dict[About, list[str]]:
        """The methodologies by what they include and leave out."""
        found: dict[About, list[str]] = {}
        for name in self:
            found.setdefault(self.about(name), []).append(name)
        return found

    def notices(self) -> list[str]:
        """All errors and warnings, each once."""
        return list(dict.fromkeys(str(n) for impacts in self.values() for n in (*impacts.errors, *impacts.warnings)))

    def rows(self) -> list[tuple[str, ...]]:
        """The table as text: name, energy and its ends [Wh], carbon [gCO2eq], water [mL]; empty where unknown."""
        rows = []
        for name, impacts in self.items():
            energy = self.energies_wh()[name]
            ends = ("no estimate", "", "")
            if energy is not None:
                ends = (_number(energy.central), _number(energy.min), _number(energy.max))
            others = [_central(getattr(impacts, key), factor) for key, _, factor in _COLUMNS[1:]]
            rows.append((name, *ends, *others))
        return rows

    def _table(self) -> Iterator[str]:
        head = ("methodology", "Wh", "from", "to", *(unit for _, unit, _ in _COLUMNS[1:]))
        rows = [head, *self.rows()]
        room = WIDTH - 11 * (len(head) - 1) - 2
        width = min(max(len(row[0]) for row in rows), room)
        for name, *cells in rows:
            short = name if len(name) <= width else name[: width - 3] + "..."
            yield f"{short:<{width}}  {''.join(f'{cell:>11}' for cell in cells)}".rstrip()

    def _repr_html_(self) -> str:
        from ecoimpact.comparison_picture import page

        return page(self)


def compare(
    model: str,
    *,
    output_tokens: int,
    input_tokens: int | None = None,
    provider: str | None = None,
    zone: str | None = None,
    latency_s: float | None = None,
    methodology: Iterable[str | Methodology] | None = None,
) -> Comparison:
    """The impacts of one request to a model under every methodology for requests, or under those that are named.

    Raises:
        ValueError: an unknown methodology.

    >>> found = compare("gpt-4o-mini", output_tokens=400, input_tokens=200)
    >>> f"{found['scope3'].energy.value * 1000:.3f} Wh, {found['sci'].energy.value * 1000:.1f} Wh"
    '0.016 [0.007 - 0.025] Wh, 4.0 [3.5 - 4.5] Wh'
    """
    request = {
        "model": model,
        "output_tokens": output_tokens,
        "input_tokens": input_tokens,
        "provider": provider,
        "zone": zone,
        "latency_s": latency_s,
    }
    if methodology is None:
        methodology = [name for name in methodologies.names() if name not in methodologies.ALIASES]
    wanted = [methodology] if isinstance(methodology, str) else methodology
    chosen = [engine.validate_methodology(each) for each in wanted]
    impacts = {each.name: engine.estimate(**request, methodology=each) for each in chosen}  # type: ignore[arg-type]
    return Comparison(request, impacts, {each.name: _about(each) for each in chosen})


def _about(methodology: Methodology) -> About:
    edition = methodology.name.partition("[")[0]  # one with other parameters still counts the same things
    return methodologies.about(edition) if edition in methodologies.names() else About()


def _central(figure: Figure | None, factor: float) -> str:
    return "" if figure is None else _number(figure.central * factor)


def _number(value: float) -> str:
    """Three digits.

    >>> _number(0.0660), _number(27.35), _number(0.0000123)
    ('0.0660', '27.4', '1.23e-05')
    """
    text = f"{value:#.3g}"
    return text.rstrip(".") if "e" not in text else f"{value:.2e}"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False, break_long_words=True
    )

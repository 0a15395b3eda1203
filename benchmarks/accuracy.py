"""How far off each methodology is, against measurements of ML.ENERGY. ``python -m benchmarks.accuracy [MEASUREMENTS.csv]``.

What is compared is what was measured: the energy of the GPUs for one output token, and the seconds between two tokens of
a request. Servers, idle machines and data centres are outside of it, so only the part of each methodology that stands for
GPUs is taken. A methodology is told what it can take: batch, bits of a weight, number of GPUs; what it cannot, it assumes.

What was fitted is judged by models that it has not seen: each family of ``measured-2026`` is predicted by a fit without it,
its interval by the spread of the others. Other rows than the committed ones are predicted by the fit of the committed ones,
without their own family where it is among them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import fit_measured as fitting
from ecoimpact import methodologies
from ecoimpact.methodologies import _ecologits, ecologits_0_11, ecologits_2025_09
from ecoimpact.methodologies._measured_form import is_mixture
from ecoimpact.methodologies.measured_2026 import Z90
from ecoimpact.types import ModelParameters, SiteFactors, Usage

PAGE = Path(__file__).parents[1] / "docs" / "accuracy.md"
PICTURE = PAGE.with_name("accuracy.svg")

NO_OVERHEAD = SiteFactors(1, 0, 0, 0, 0, 0)
TDP_W = {"H100": 700, "A100": 400, "B200": 1000}

Row = dict[str, str]


# --- the published fits -------------------------------------------------------------------------------------------------


class Published(NamedTuple):
    """A fit of EcoLogits: alpha, beta, gamma as published, as found again, and its R2."""

    name: str
    published: tuple[float, float, float]
    found: tuple[float, float, float]
    r2: float


def published_fits(found: Sequence[Row]) -> Iterator[Published]:
    """EcoLogits' coefficients, fitted again on the rows of leaderboard 2.0 that they rest on."""
    chosen = [
        row
        for row in found
        if row["dataset"] == "v2"
        and row["task"] == "llm_text_generation/chat"
        and "H100" in row["gpu"]
        and float(row["max_batch"]) <= 512
        and float(row["total_params_b"]) <= 200
    ]

    def column(name: str) -> Any:
        return np.array([float(row[name]) for row in chosen])

    size, batch, wh = column("total_params_b"), column("avg_batch"), column("energy_per_token_wh")
    for name, parameters, goal in (
        ("energy of all GPUs, `ecologits-2025-09`", ecologits_2025_09.PARAMETERS, wh),
        ("energy of one GPU, `ecologits-0.11`", ecologits_0_11.PARAMETERS, wh / column("num_gpus")),
    ):
        stated = (parameters.gpu_energy_alpha_wh, parameters.gpu_energy_beta, parameters.gpu_energy_gamma_wh)
        yield Published(name, stated, *_exponential(size, batch, goal))
    design = np.column_stack([size, batch, np.ones_like(size)])
    goal = column("avg_tpot_s")
    coefficients = np.linalg.lstsq(design, goal, rcond=None)[0]
    p = ecologits_0_11.PARAMETERS
    stated = (p.latency_alpha_s, p.latency_beta_s, p.latency_gamma_s)
    yield Published("latency, both", stated, tuple(coefficients.tolist()), _r2(goal, design @ coefficients))


def _exponential(size: Any, batch: Any, goal: Any) -> tuple[tuple[float, float, float], float]:
    """Least squares of alpha exp(beta B) P + gamma: linear but for beta, which is searched for."""

    def at(beta: float) -> tuple[Any, Any]:
        design = np.column_stack([np.exp(beta * batch) * size, np.ones_like(size)])
        coefficients = np.linalg.lstsq(design, goal, rcond=None)[0]
        return coefficients, design @ coefficients

    def loss(beta: float) -> float:
        return float(np.sum((goal - at(beta)[1]) ** 2))

    grid = np.linspace(-0.05, 0, 200)
    best = int(np.argmin([loss(beta) for beta in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(80):
        one, other = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, other) if loss(one) < loss(other) else (one, high)
    (alpha, gamma), values = at(float(low))
    return (float(alpha), float(low), float(gamma)), _r2(goal, values)


def _r2(goal: Any, values: Any) -> float:
    return float(1 - np.sum((goal - values) ** 2) / np.sum((goal - np.mean(goal)) ** 2))


# --- the methodologies --------------------------------------------------------------------------------------------------


class Prediction(NamedTuple):
    """By row: energy of all GPUs for an output token [uWh], time between two tokens [s], and the interval's log spread.

    NaN where a methodology has no such figure.
    """

    energy_uwh: Any
    latency_s: Any
    spread: Any


def ecologits(edition: Any) -> Callable[[fitting.Rows], Prediction]:
    """An edition of EcoLogits, told the batch and the bits of a weight; its own number of GPUs."""

    def predict(rows: fitting.Rows) -> Prediction:
        energy, latency = [], []
        for each in zip(*rows, strict=True):
            row = fitting.Rows(*each)
            told = methodologies.get(edition, batch_size=float(row.batch_size), weight_bits=float(8 * row.weight_bytes))
            parameters = told.parameters  # type: ignore[attr-defined]
            serving = told.serve(ModelParameters(float(row.active_params_b), float(row.total_params_b)))
            energy.append(serving.it_energy_kwh_per_token * 1e9)
            latency.append(_ecologits.latency_s_per_output_token(parameters, row.active_params_b))
        return Prediction(np.array(energy), np.array(latency), np.full(len(energy), math.nan))

    return predict


def scope3(rows: fitting.Rows) -> Prediction:
    """Its duration times the power of the GPUs; told bytes and GPUs. Its seconds are amortised: it has no latency."""
    energy = []
    for each in zip(*rows, strict=True):
        row = fitting.Rows(*each)
        edition = methodologies.get("scope3", weight_bytes=float(row.weight_bytes))
        serving = edition.serve(ModelParameters(float(row.active_params_b), float(row.total_params_b)))
        tokens_in, tokens_out = fitting.INPUT_TOKENS, float(row.output_tokens)
        seconds = serving.s_per_output_token + serving.s_per_input_token * tokens_in / tokens_out
        energy.append(seconds * 700 / 3600 * 1e6)
    nothing = np.full(len(energy), math.nan)
    return Prediction(np.array(energy), nothing, nothing)


def sci(rows: fitting.Rows) -> Prediction:
    """TDP of all GPUs times the measured latency: a call has them for itself."""
    seconds = rows.gpu_us * rows.batch_size / rows.gpu_count / 1e6
    watts = np.array([TDP_W[gpu] for gpu in rows.gpu]) * rows.gpu_count
    nothing = np.full(len(seconds), math.nan)
    return Prediction(watts * seconds / 3600 * 1e6, nothing, nothing)


def measured(rows: fitting.Rows) -> Prediction:
    """Our own, told all, each family by a fit that has not seen it."""
    energy, gpu_us, spread = (np.empty(len(rows.family)) for _ in range(3))
    committed = fitting.measured()
    fitted = fitting.text_rows(committed)
    errors = fitting.log_errors(fitted, fitting.left_out(), "energy", **fitting.TYPICAL)
    mixtures = is_mixture(fitted.active_params_b, fitted.total_params_b)
    for name in np.unique(rows.family):
        own = rows.family == name
        part = rows.where(own)
        energy[own] = fitting.predicted(_values(str(name), "energy"), part)
        gpu_us[own] = fitting.predicted(_values(str(name), "time"), part)
        for mixture in (False, True):
            others = errors[(fitted.family != name) & (mixtures == mixture)]
            of_kind = own & (is_mixture(rows.active_params_b, rows.total_params_b) == mixture)
            spread[of_kind] = fitting.spread(others)
    return Prediction(energy, gpu_us * rows.batch_size / rows.gpu_count / 1e6, spread)


@cache
def _values(family: str, quantity: str) -> dict[str, float]:
    """The coefficients of a fit without a family."""
    without = fitting.left_out(quantity=quantity).get(family)
    committed = fitting.measured()
    if without is None:
        rows = fitting.text_rows(committed)
        without = fitting.fit(rows, fitting.goal(rows, quantity), fitting.priors(quantity)).values
    return {**without, **fitting.older_gpu(committed, quantity, without)}


def any_other(name: str) -> Callable[[fitting.Rows], Prediction]:
    """An edition that nobody has written down here: its energy without overheads of the site, told the measured latency."""

    def predict(rows: fitting.Rows) -> Prediction:
        edition = methodologies.get(name)
        energy = []
        for each in zip(*rows, strict=True):
            row = fitting.Rows(*each)
            model = ModelParameters(float(row.active_params_b), float(row.total_params_b), float(8 * row.weight_bytes))
            tokens = float(row.output_tokens)
            seconds = float(tokens * row.gpu_us * row.batch_size / row.gpu_count / 1e6)
            usage = Usage(fitting.INPUT_TOKENS, tokens)
            figures = edition.assess(edition.serve(model), usage, seconds, NO_OVERHEAD)
            energy.append(figures.usage_energy_kwh / tokens * 1e9)
        nothing = np.full(len(energy), math.nan)
        return Prediction(np.array(energy), nothing, nothing)

    return predict


PREDICTORS: dict[str, Callable[[fitting.Rows], Prediction]] = {
    "measured-2026": measured,
    "ecologits-2025-09": ecologits("ecologits-2025-09"),
    "ecologits-0.11": ecologits("ecologits-0.11"),
    "scope3": scope3,
    "sci": sci,
}


def predictors() -> dict[str, Callable[[fitting.Rows], Prediction]]:
    """By name: every methodology for requests."""
    names = [name for name in methodologies.names() if name not in methodologies.ALIASES]
    return {name: PREDICTORS.get(name, any_other(name)) for name in [*PREDICTORS, *sorted(set(names) - set(PREDICTORS))]}


# --- how far off --------------------------------------------------------------------------------------------------------


class Score(NamedTuple):
    """How far off: predicted over measured. ``coverage`` is the share of measurements within the 90 % interval."""

    rows: int
    median_error: float
    bias: float
    p10: float
    p90: float
    coverage: float


def score(predicted: Any, measured_values: Any, spread: Any) -> Score:
    """Median absolute percentage error, exp of the mean log error, percentiles of the ratio, coverage.

    >>> score(np.array([2.0, 1.0, 1.0]), np.array([1.0, 1.0, 1.0]), np.array([1.0, 1.0, 1.0])).median_error
    0.0
    """
    logs = np.log(predicted / measured_values)
    ratios = np.exp(logs)
    within = np.abs(logs) <= Z90 * spread
    p10, p90 = np.percentile(ratios, [10, 90])
    return Score(
        rows=len(logs),
        median_error=float(np.median(np.abs(ratios - 1))),
        bias=float(np.exp(np.mean(logs))),
        p10=float(p10),
        p90=float(p90),
        coverage=math.nan if np.isnan(spread).any() else float(np.mean(within)),
    )


def groups(found: Sequence[Row]) -> dict[str, Any]:
    """Groups of rows by what they are: masks."""
    rows = fitting.columns(found)
    mixture = is_mixture(rows.active_params_b, rows.total_params_b)
    bits = 8 * rows.weight_bytes
    batch = rows.batch_size
    masks: dict[str, Any] = {"all": np.ones(len(batch), bool)}
    for gpu in dict.fromkeys(rows.gpu.tolist()):
        for kind, mask in (("dense", ~mixture), ("mixture of experts", mixture)):
            masks[f"{gpu}, {kind}"] = (rows.gpu == gpu) & mask
        hybrid = np.array(["Hybrid" in row["architecture"] for row in found])
        masks[f"{gpu}, of the dense ones: with state-space layers"] = (rows.gpu == gpu) & hybrid
    masks |= {f"{n} bit": np.floor(bits) == n for n in (16, 8, 4)}
    edges = (0, 16.5, 64.5, 256.5, math.inf)
    names = ("batch up to 16", "batch to 64", "batch to 256", "batch above")
    masks |= {n: (batch > a) & (batch <= b) for n, a, b in zip(names, edges, edges[1:], strict=False)}
    masks |= {task: np.array([row["task"] == task for row in found]) for task in sorted({row["task"] for row in found})}
    return {name: mask for name, mask in masks.items() if mask.any()}


def scores(found: Sequence[Row]) -> dict[str, dict[str, tuple[Score, Score | None]]]:
    """By methodology and group: the scores of energy and of latency (``None`` where it has none)."""
    rows = fitting.columns(found)
    masks = groups(found)
    latency_s = rows.gpu_us * rows.batch_size / rows.gpu_count / 1e6
    nothing = np.full(len(latency_s), math.nan)
    table: dict[str, dict[str, tuple[Score, Score | None]]] = {}
    for name, predict in predictors().items():
        told = predict(rows)
        table[name] = {}
        for group, mask in masks.items():
            energy = score(told.energy_uwh[mask], rows.energy_uwh[mask], told.spread[mask])
            has_latency = not np.isnan(told.latency_s[mask]).any()
            latency = score(told.latency_s[mask], latency_s[mask], nothing[mask]) if has_latency else None
            table[name][group] = (energy, latency)
    return table


def comparable(found: Sequence[Row], tasks: Collection[str]) -> list[Row]:
    """Rows of leaderboard 3.0 and some tasks, on GPUs and in a precision that the form knows."""
    return [
        row
        for row in found
        if row["dataset"] == "v3"
        and row["task"] in tasks
        and fitting.gpu_name(row["gpu"]) in fitting.GPUS
        and row["weight_precision"] in fitting.WEIGHT_BITS
    ]


def text(found: Sequence[Row]) -> list[Row]:
    """The rows that are compared: chat and reasoning."""
    return comparable(found, fitting.TEXT_TASKS)


# --- the page -----------------------------------------------------------------------------------------------------------


def _percent(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.0%}"


def table(path: Path = fitting.MEASUREMENTS) -> str:
    """The published fits found again, and the scores by methodology and by group, as Markdown."""
    found = fitting.measured(path)
    lines: list[str] = []
    if any(row["dataset"] == "v2" for row in found):
        lines = ["| fit | published | found again | R² |", "|---|---|---|---|"]
        for each in published_fits(found):
            numbers = (", ".join(f"{c:.4g}" for c in which) for which in (each.published, each.found))
            lines.append(f"| {each.name} | {' | '.join(numbers)} | {each.r2:.3f} |")
        lines.append("")
    chosen = text(found)
    if not chosen:
        raise SystemExit(f"{path} has no text rows of leaderboard 3.0")
    all_scores = scores(chosen)
    lines += [
        "| energy of an output token | rows | median error | bias | p10 to p90 | within 90 % interval "
        "| latency: median error | bias |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, by_group in all_scores.items():
        energy, latency = by_group["all"]
        ends = f"{energy.p10:.2f} to {energy.p90:.2f}"
        seconds = ("", "") if latency is None else (_percent(latency.median_error), f"{latency.bias:.2f}")
        cells = (_percent(energy.median_error), f"{energy.bias:.2f}", ends, _percent(energy.coverage), *seconds)
        lines.append(f"| `{name}` | {energy.rows} | {' | '.join(cells)} |")
    lines += ["", f"| median error | rows | {' | '.join(f'`{name}`' for name in all_scores)} |"]
    lines.append(f"|---|---|{'---|' * len(all_scores)}")
    for group in groups(chosen):
        rows = all_scores["measured-2026"][group][0].rows
        errors = tuple(_percent(by_group[group][0].median_error) for by_group in all_scores.values())
        lines.append(f"| {group} | {rows} | {' | '.join(errors)} |")
    return "\n".join([*lines, "", *_less_known(found)])


def _less_known(found: Sequence[Row]) -> Iterator[str]:
    """How far off ``measured-2026`` is where lengths are not known, and for tasks that it was not fitted on."""
    yield "| `measured-2026`, where | rows | median error | bias | p10 to p90 | within 90 % interval |"
    yield "|---|---|---|---|---|---|"
    rows = fitting.columns(text(found))
    told = measured(rows)
    typical = np.empty(len(rows.family))
    for name in np.unique(rows.family):
        own = rows.family == name
        typical[own] = fitting.predicted(_values(str(name), "energy"), rows.where(own), **fitting.TYPICAL)
    cases = [
        ("all is known", told.energy_uwh, rows, told.spread),
        ("the lengths of input and output are not known", typical, rows, told.spread),
    ]
    tasks = {row["task"] for row in comparable(found, {row["task"] for row in found})}
    for task in sorted(tasks - {*fitting.TEXT_TASKS}):
        other = fitting.columns(comparable(found, (task,)))
        guess = measured(other)
        cases.append((f"the task is {task}, its long inputs not counted", guess.energy_uwh, other, guess.spread))
        tokens, energy = _with_inputs(other)
        cases.append((f"the task is {task}, {tokens:.0f} input tokens assumed", energy, other, guess.spread))
    for name in np.unique(rows.family):
        own = rows.family == name
        cases.append((f"the family is {name}", told.energy_uwh[own], rows.where(own), told.spread[own]))
    for label, predicted, of_rows, spread in cases:
        s = score(predicted, of_rows.energy_uwh, spread)
        ends = f"{s.p10:.2f} to {s.p90:.2f}"
        yield f"| {label} | {s.rows} | {_percent(s.median_error)} | {s.bias:.2f} | {ends} | {_percent(s.coverage)} |"


def _with_inputs(rows: fitting.Rows) -> tuple[float, Any]:
    """The one length of input for a task that leaves no bias in the median, and the energies with it."""
    values = {str(name): _values(str(name), "energy") for name in np.unique(rows.family)}
    low, high = 0.0, 1e5
    for _ in range(40):
        tokens = (low + high) / 2
        errors = fitting.log_errors(rows, values, "energy", input_tokens=tokens)
        low, high = (tokens, high) if np.median(errors) < 0 else (low, tokens)
    return low, rows.energy_uwh * np.exp(fitting.log_errors(rows, values, "energy", input_tokens=low))


def picture(path: Path = fitting.MEASUREMENTS) -> str:
    """Predicted against measured energy, each on a logarithmic scale, as an SVG: a panel for each methodology."""
    rows = fitting.columns(text(fitting.measured(path)))
    low, high, side, gap = 0.5, 4.5, 200, 44

    def place(value: float) -> float:
        return (min(max(math.log10(value), low), high) - low) / (high - low) * side

    parts = []
    for number, (name, predict) in enumerate(predictors().items()):
        told = predict(rows).energy_uwh
        points = [
            f'<circle cx="{place(m):.1f}" cy="{side - place(p):.1f}" r="1.8" class="{"m" if a < t else "d"}"/>'
            for m, p, a, t in zip(rows.energy_uwh, told, rows.active_params_b, rows.total_params_b, strict=True)
        ]
        axes = f'<rect width="{side}" height="{side}"/><line x1="0" y1="{side}" x2="{side}" y2="0"/>'
        ticks = "".join(
            f'<text x="{place(10**k):.0f}" y="{side + 14}" text-anchor="middle">{10**k:g}</text>'
            f'<text x="-6" y="{side - place(10**k) + 4:.0f}" text-anchor="end">{10**k:g}</text>'
            for k in (1, 2, 3, 4)
        )
        at = f"translate({gap + number % 3 * (side + gap)},{gap + number // 3 * (side + 64)})"
        title = f'<text x="{side / 2:.0f}" y="-10" text-anchor="middle" class="h">{name}</text>'
        parts.append(f'<g transform="{at}">{axes}{title}{ticks}{"".join(points)}</g>')
    width, height = gap + 3 * (side + gap), gap + (len(parts) + 2) // 3 * (side + 64)
    style = (
        "text{font:11px sans-serif;fill:#666}.h{font-weight:bold}rect{fill:none;stroke:#999}line{stroke:#999}"
        ".d{fill:#2a78d6;fill-opacity:.6}.m{fill:#d9730d;fill-opacity:.6}"
    )
    label = (
        "Predicted (up) against measured (right) energy of an output token in uWh; blue: dense, orange: mixtures of experts"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
        f"<style>{style}</style>{''.join(parts)}</svg>\n"
    )


def main() -> None:
    given = [Path(argument) for argument in sys.argv[1:]]
    for path in given or [fitting.MEASUREMENTS]:
        print(table(path))


if __name__ == "__main__":
    main()

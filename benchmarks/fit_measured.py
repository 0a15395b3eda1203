"""The coefficients of ``measured-2026``, from ML.ENERGY's measurements. ``python -m benchmarks.fit_measured [--write]``.

Energy and GPU time per output token of chat and reasoning (leaderboard 3.0, text tasks) are fitted on a logarithmic scale
with the form of the edition (``_measured_form``). Least squares with these additions:

- the many measurements of one family weigh as much as the few of another; what lies far off counts less (soft L1);
- every coefficient has a wide log-normal prior, so that families left out do not send one to zero;
- covariances are clustered by family: measurements of one model are no independent ones;
- the A100 is in leaderboard 2.0 alone, with older software: its factors are those between the two GPUs there.

The spread of single models is that of families left out: each is predicted by a fit that has not seen it.
Gauss-Newton with reweighting, from fixed starts: the result does not depend on chance.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ecoimpact.data.architecture import memory
from ecoimpact.data.tables import FILES
from ecoimpact.methodologies._measured_form import Coefficients, Scale, is_mixture, per_output_token, per_token

MEASUREMENTS = Path(__file__).with_name("data") / "mlenergy.csv"
TEXT_TASKS = ("lm-arena-chat", "gpqa")
WEIGHT_BITS = {"bfloat16": 16, "float16": 16, "fp8": 8, "int8": 8, "mxfp4": 4.25, "nvfp4": 4.5, "fp4": 4, "int4": 4}
GPUS = ("H100", "B200", "A100")
INPUT_TOKENS = 250
"""Of a request of both tasks: an assumption, the measurements do not say."""

PRIORS = {
    "step": (80, 1),
    "mixture": (2.5, 0.5),
    "memory": (40, 0.5),
    "experts": (0.7, 0.3),
    "compute": (0.5, 0.3),
    "token": (3, 1),
    "attention": (3, 1),
    "exchange": (5, 1),
    "B200.step": (1.2, 0.1),
    "B200.memory": (1.0, 0.1),
    "B200.compute": (0.5, 0.3),
    "B200.exchange": (0.8, 0.3),
}
"""Median and log spread by coefficient, for energy [uWh]."""

TIME_PRIORS = {"B200.step": (1.0, 0.1), "B200.memory": (0.6, 0.2)}
"""Those that differ for GPU time. A B200 draws more than a H100, and is faster at reading its memory."""

OLDER_PRIORS = {
    "energy": {
        "A100.step": (0.7, 0.2),
        "A100.memory": (1.2, 0.15),
        "A100.compute": (1.8, 0.2),
        "A100.exchange": (0.8, 0.2),
    },
    "time": {"A100.step": (1.2, 0.2), "A100.memory": (2.0, 0.15), "A100.compute": (3.2, 0.2), "A100.exchange": (1.3, 0.2)},
}
"""Of the A100, from its power, bandwidth and peak."""

SHARED = ("mixture", "experts")
"""Coefficients without a unit."""

US_PER_UWH = 7.2
"""GPU time beside energy, for a start: a GPU that draws 500 W."""

NOISE = 0.2
"""Log residual from which on a measurement counts less."""


class Rows(NamedTuple):
    """Measurements as columns."""

    family: Any
    gpu: Any
    active_params_b: Any
    total_params_b: Any
    weight_bytes: Any
    gpu_count: Any
    batch_size: Any
    output_tokens: Any
    energy_uwh: Any
    gpu_us: Any
    cache_bytes_per_token: Any
    state_bytes: Any

    def where(self, wanted: Any) -> Rows:
        return Rows(*(column[wanted] for column in self))


def family(model: str) -> str:
    """A model without what tells its variants apart: rounding, thinking, tuning, vision.

    >>> family("Qwen/Qwen3-235B-A22B-Thinking-2507-FP8"), family("Qwen/Qwen3-VL-235B-A22B-Instruct")
    ('Qwen3-235B-A22B', 'Qwen3-235B-A22B')
    """
    name = model.rpartition("/")[2]
    for part in ("-FP8", "-BF16", "-Thinking-2507", "-Instruct-2507", "-Instruct", "-it", "-VL", "-Omni", "Meta-"):
        name = name.replace(part, "")
    return name


def gpu_name(text: str) -> str:
    """The GPU of the fit that a text names, or the text itself.

    >>> gpu_name("NVIDIA H100 80GB HBM3"), gpu_name("NVIDIA H200")
    ('H100', 'NVIDIA H200')
    """
    return next((name for name in GPUS if f" {name}" in f" {text}"), text)


def measured(path: Path = MEASUREMENTS) -> list[dict[str, str]]:
    """The measurements as they were published."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def columns(found: Sequence[dict[str, str]]) -> Rows:
    """Measurements as columns."""

    def numbers(name: str) -> Any:
        return np.array([float(row[name]) for row in found])

    batch, gpus = numbers("avg_batch"), numbers("num_gpus")
    memories = [memory([row["model"]]) for row in found]
    return Rows(
        np.array([family(row["model"]) for row in found]),
        np.array([gpu_name(row["gpu"]) for row in found]),
        numbers("active_params_b"),
        numbers("total_params_b"),
        np.array([WEIGHT_BITS[row["weight_precision"]] / 8 for row in found]),
        gpus,
        batch,
        numbers("avg_output_tokens"),
        numbers("energy_per_token_wh") * 1e6,
        gpus * 1e6 / numbers("output_tput_tok_s"),
        np.array([math.nan if kept is None else kept.cache_bytes_per_token for kept in memories]),
        np.array([0.0 if kept is None else kept.state_bytes for kept in memories]),
    )


def text_rows(found: Sequence[dict[str, str]]) -> Rows:
    """The rows that are fitted: text in and text out, leaderboard 3.0."""
    return columns([row for row in found if row["dataset"] == "v3" and row["task"] in TEXT_TASKS])


def old_rows(found: Sequence[dict[str, str]]) -> Rows:
    """Chat of leaderboard 2.0, on A100 and H100."""
    return columns([row for row in found if row["dataset"] == "v2" and row["task"] == "llm_text_generation/chat"])


# --- the fit ------------------------------------------------------------------------------------------------------------


def parts(values: dict[str, Any]) -> tuple[Coefficients, dict[str, Scale]]:
    """The coefficients and the scales of the GPUs, from names with a GPU before the dot."""
    scales: dict[str, dict[str, float]] = {"H100": {}}
    for name, value in values.items():
        gpu, dot, term = name.partition(".")
        if dot:
            scales.setdefault(gpu, {})[term] = value
    plain = {name: value for name, value in values.items() if "." not in name}
    return Coefficients(**plain), {gpu: Scale(**terms) for gpu, terms in scales.items()}


def predicted(values: dict[str, Any], rows: Rows, input_tokens: Any = INPUT_TOKENS, output_tokens: Any = None) -> Any:
    """What an output token of each row costs, by the form."""
    coefficients, scales = parts(values)
    terms: dict[str, Any] = {term: np.array([getattr(scales[gpu], term) for gpu in rows.gpu]) for term in Scale.__slots__}
    token = per_token(
        coefficients,
        Scale(**terms),
        active_params_b=rows.active_params_b,
        total_params_b=rows.total_params_b,
        weight_bytes=rows.weight_bytes,
        gpu_count=rows.gpu_count,
        batch_size=rows.batch_size,
        cache_bytes_per_token=rows.cache_bytes_per_token,
        state_bytes=rows.state_bytes,
    )
    lengths = rows.output_tokens if output_tokens is None else output_tokens
    return per_output_token(token, input_tokens=input_tokens, output_tokens=lengths)


class Fit(NamedTuple):
    """Coefficients by name, and the covariance of their logarithms."""

    values: dict[str, float]
    covariance: Any


def _jacobian(names: Sequence[str], at: Any, rows: Rows, fixed: dict[str, float]) -> tuple[Any, Any]:
    def log_predicted(logs: Any) -> Any:
        return np.log(predicted({**fixed, **dict(zip(names, np.exp(logs), strict=True))}, rows))

    here = log_predicted(at)
    step = 1e-6
    return here, np.column_stack([(log_predicted(at + step * axis) - here) / step for axis in np.eye(len(at))])


def fit(rows: Rows, goal: Any, priors: dict[str, tuple[float, float]], fixed: dict[str, float] | None = None) -> Fit:
    """The coefficients that the measurements and the priors suggest, for a quantity ``goal`` of each row."""
    names = list(priors)
    centre, width = (np.array(column, float) for column in zip(*priors.values(), strict=True))
    centre = np.log(centre)
    families, index, counts = np.unique(rows.family, return_inverse=True, return_counts=True)
    share = len(index) / len(families) / counts[index]
    at, damping = centre.copy(), 1.0
    here, slopes = _jacobian(names, at, rows, fixed or {})

    def loss(logs: Any, predicted_logs: Any) -> float:
        distance = np.sqrt(1 + ((predicted_logs - np.log(goal)) / NOISE) ** 2) - 1
        return float(2 * np.sum(share * distance) + np.sum(((logs - centre) / width) ** 2))

    best = loss(at, here)
    for _ in range(300):
        residual = here - np.log(goal)
        weight = share / NOISE**2 / np.sqrt(1 + (residual / NOISE) ** 2)
        curvature = slopes.T @ (weight[:, None] * slopes) + np.diag(width**-2)
        downhill = slopes.T @ (weight * residual) + (at - centre) / width**2
        move = -np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), downhill)
        there, new_slopes = _jacobian(names, at + move, rows, fixed or {})
        found = loss(at + move, there)
        if found <= best:
            done = best - found < 1e-12 * best
            at, here, slopes, best, damping = at + move, there, new_slopes, found, damping / 3
            if done:
                break
        else:
            damping *= 4
    scores = slopes * (weight * residual)[:, None]
    by_family = np.array([scores[index == number].sum(axis=0) for number in range(len(families))])
    bread = np.linalg.inv(curvature)
    clustered = bread @ (by_family.T @ by_family) @ bread * len(families) / max(len(families) - 1, 1)
    return Fit(dict(zip(names, np.exp(at).tolist(), strict=True)), clustered)


def goal(rows: Rows, quantity: str) -> Any:
    """The measured quantity of each row."""
    return rows.energy_uwh if quantity == "energy" else rows.gpu_us


def priors(quantity: str) -> dict[str, tuple[float, float]]:
    """The priors of a quantity."""
    if quantity == "energy":
        return dict(PRIORS)
    scaled = {
        name: (median * (1.0 if name in SHARED or "." in name else US_PER_UWH), width)
        for name, (median, width) in PRIORS.items()
    }
    return {**scaled, **TIME_PRIORS}


def older_gpu(found: Sequence[dict[str, str]], quantity: str, values: dict[str, float]) -> dict[str, float]:
    """The scales of the A100: those between both GPUs of leaderboard 2.0, whose software had overheads of its own."""
    rows = old_rows(found)
    scales = OLDER_PRIORS[quantity]
    software = {name: (values[name], 1.0) for name in ("step", "compute", "token", "exchange", "mixture")}
    fixed = {name: value for name, value in values.items() if name not in software and not name.startswith("B200")}
    result = fit(rows, goal(rows, quantity), {**software, **scales}, fixed)
    return {name: result.values[name] for name in scales}


@cache
def left_out(path: Path = MEASUREMENTS, quantity: str = "energy") -> dict[str, dict[str, float]]:
    """By family: the coefficients of a fit that has not seen it."""
    rows = text_rows(measured(path))
    found = {}
    for name in np.unique(rows.family).tolist():
        others = rows.where(rows.family != name)
        found[name] = fit(others, goal(others, quantity), priors(quantity)).values
    return found


def log_errors(rows: Rows, values: dict[str, dict[str, float]], quantity: str, **lengths: Any) -> Any:
    """ln(predicted / measured) of rows, each by the fit without its family."""
    errors = np.empty(len(rows.family))
    for name in np.unique(rows.family):
        own = rows.family == name
        part = rows.where(own)
        errors[own] = np.log(predicted(values[name], part, **lengths) / goal(part, quantity))
    return errors


# --- the table ----------------------------------------------------------------------------------------------------------

COLUMNS = ("coefficient", "value", "unit", "log_sd", "log_covariance", "source")
SOURCE = "ml-energy-leaderboard"
QUANTITIES = ("energy", "time")
TYPICAL = {"input_tokens": 250, "output_tokens": 1500}
"""Lengths for those who do not know them: the two tasks lie below and above."""


SPREAD_LEVEL = 0.93
"""Quantile of the errors of left-out families that stands for 1.645 standard deviations.

Above 0.9, since families are few: at this level the spread of the others holds nine of ten measurements of one left out.
"""


def spread(errors: Any) -> float:
    """Log standard deviation of a model that the fit has not seen, from the errors of families left out."""
    return float(np.quantile(np.abs(errors), SPREAD_LEVEL)) / 1.6448536269514722


def spreads(rows: Rows, values: dict[str, dict[str, float]], quantity: str) -> dict[str, float]:
    """The spread of dense models and of mixtures of experts."""
    errors = log_errors(rows, values, quantity, **TYPICAL)
    mixture = is_mixture(rows.active_params_b, rows.total_params_b)
    return {"dense": spread(errors[~mixture]), "mixture": spread(errors[mixture])}


def table(path: Path = MEASUREMENTS) -> Iterator[list[str]]:
    """The rows of ``measured_fit.csv``."""
    yield list(COLUMNS)
    found = measured(path)
    rows = text_rows(found)
    for quantity in QUANTITIES:
        unit = "uWh" if quantity == "energy" else "us"
        result = fit(rows, goal(rows, quantity), priors(quantity))
        for number, (name, value) in enumerate(result.values.items()):
            deviation = f"{np.sqrt(result.covariance[number, number]):.3g}"
            covariance = " ".join(f"{c:.3g}" for c in result.covariance[number])
            bare = name in SHARED or "." in name
            yield [f"{quantity}.{name}", f"{value:.5g}", "" if bare else unit, deviation, covariance, SOURCE]
        for name, value in older_gpu(found, quantity, result.values).items():
            yield [f"{quantity}.{name}", f"{value:.5g}", "", "", "", SOURCE]
        for name, value in spreads(rows, left_out(path, quantity), quantity).items():
            yield [f"{quantity}.spread.{name}", f"{value:.4g}", "log", "", "", SOURCE]


def main() -> None:
    if "--write" in sys.argv[1:]:
        with (FILES / "measured_fit.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table())
    else:
        csv.writer(sys.stdout, lineterminator="\n").writerows(table())


if __name__ == "__main__":
    main()

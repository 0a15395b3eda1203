"""The coefficients of Scope3's durations, fitted on measured throughput. ``python -m benchmarks.fit_scope3 [--write]``.

A server that gives ``v`` output tokens a second has ``osl / v`` seconds for a request of ``osl`` output tokens: amortised
seconds, with all the batching of the server in them. Least squares without intercept, as the formula has none,

    osl / v = beta_in 2 P isl / A_f + beta_out b P osl / A_bw,

P being the active parameters, A_f and A_bw those of all GPUs together. Measurements of one model are no independent ones:
standard errors are clustered by model.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ecoimpact.data.tables import FILES

Row = dict[str, str]

SCOPES: dict[str, Callable[[Row], bool]] = {
    "hopper": lambda row: row["gpu"] in ("H100", "H200"),
    "hopper-dense": lambda row: row["gpu"] in ("H100", "H200") and row["active_params_b"] == row["total_params_b"],
    "hopper-mixture": lambda row: row["gpu"] in ("H100", "H200") and row["active_params_b"] != row["total_params_b"],
    "blackwell": lambda row: row["gpu"] in ("B200", "GB200"),
    "all": bool,
}
"""``hopper``, FP8 on the GPUs next to the edition's own, is the one that the edition uses."""

COLUMNS = (
    *("scope", "beta_in", "beta_in_se", "beta_out", "beta_out_se", "r2", "rows", "models"),
    *("ratio_p10", "ratio_median", "ratio_p90", "source"),
)


def rows() -> list[Row]:
    """The measurements."""
    with (FILES / "throughput.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def theoretical_s(row: Row) -> tuple[float, float, float]:
    """[s] Prefill and decode as the formulas have them, and the amortised seconds that were measured."""
    gpus, params = float(row["gpu_count"]), float(row["active_params_b"]) * 1e9
    tokens_in, tokens_out = float(row["input_tokens"]), float(row["output_tokens"])
    prefill = 2 * params * tokens_in / (gpus * float(row["gpu_peak_tflop_per_s"]) * 1e12)
    bandwidth = gpus * float(row["gpu_memory_bandwidth_tb_per_s"]) * 1e12
    return (
        prefill,
        float(row["weight_bytes"]) * params * tokens_out / bandwidth,
        tokens_out / float(row["output_tokens_per_s"]),
    )


def fit(measured: list[Row]) -> list[str]:
    """The coefficients with their standard errors, and how far off single measurements are."""
    table: Any = np.array([theoretical_s(row) for row in measured])
    theory, seconds = table[:, :2], table[:, 2]
    betas = np.linalg.lstsq(theory, seconds, rcond=None)[0]
    residuals = seconds - theory @ betas
    models = np.array([row["model"] for row in measured])
    names = sorted(set(models.tolist()))
    scores = np.array([theory[models == name].T @ residuals[models == name] for name in names])
    bread = np.linalg.inv(theory.T @ theory)
    errors = np.sqrt(np.diag(bread @ scores.T @ scores @ bread) * len(names) / (len(names) - 1))
    ratios = np.percentile(theory @ betas / seconds, [10, 50, 90])
    r2 = 1 - residuals @ residuals / (seconds @ seconds)
    return [
        *(f"{number:.8g}" for pair in zip(betas, errors, strict=True) for number in pair),
        f"{r2:.4f}",
        str(len(measured)),
        str(len(names)),
        *(f"{ratio:.3g}" for ratio in ratios),
    ]


def table() -> Iterator[list[str]]:
    """The rows of ``throughput_fit.csv``."""
    measured = rows()
    yield list(COLUMNS)
    for scope, belongs in SCOPES.items():
        yield [scope, *fit([row for row in measured if belongs(row)]), "tensorrt-llm-1.0 nvidia-data-sheets"]


def main() -> None:
    if "--write" in sys.argv[1:]:
        with (FILES / "throughput_fit.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table())
    else:
        csv.writer(sys.stdout, lineterminator="\n").writerows(table())


if __name__ == "__main__":
    main()

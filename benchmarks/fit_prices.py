"""Regressions of model size on list price, one per provider. ``python -m benchmarks.fit_prices [--write]``.

ln P = b0 + b1 ln c, by least squares, P being total or active parameters in billions and c = (3 input + output) / 4 in USD
per million tokens, over the listings of models whose size is known. Providers with fewer than ``MIN_ROWS`` are left out.
"""

from __future__ import annotations

import csv
import math
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from ecoimpact.data.tables import FILES

MIN_ROWS = 20
COLUMNS = (
    *("fit", "provider", "quantity", "rows", "intercept", "intercept_se", "slope", "slope_se", "residual_sd"),
    *("mean_ln_price", "sum_of_squares", "source"),
)


def listings() -> dict[str, list[dict[str, str]]]:
    """The listings by provider."""
    found: dict[str, list[dict[str, str]]] = {}
    with (Path(__file__).with_name("data") / "price_vs_size.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["provider"], []).append(row)
    return found


def fit(prices: list[float], sizes: list[float]) -> list[float]:
    """Intercept and slope with their standard errors, residual deviation, mean and spread of the logarithm of the price."""
    x, y = list(map(math.log, prices)), list(map(math.log, sizes))
    slope, intercept = statistics.linear_regression(x, y)
    mean = statistics.fmean(x)
    spread = sum((value - mean) ** 2 for value in x)
    residuals = [b - intercept - slope * a for a, b in zip(x, y, strict=True)]
    deviation = math.sqrt(sum(r * r for r in residuals) / (len(x) - 2))
    intercept_se = deviation * math.sqrt(1 / len(x) + mean**2 / spread)
    return [intercept, intercept_se, slope, deviation / math.sqrt(spread), deviation, mean, spread]


def table() -> Iterator[list[str]]:
    """The rows of ``price_fit_by_provider.csv``."""
    yield list(COLUMNS)
    for provider, rows in sorted(listings().items()):
        if len(rows) < MIN_ROWS:
            continue
        prices = [float(row["blended_usd_per_mtok"]) for row in rows]
        for quantity in ("total", "active"):
            numbers = fit(prices, [float(row[f"{quantity}_params_b"]) for row in rows])
            written = [f"{number:.8f}" for number in numbers]
            yield [f"{provider} {quantity}", provider, quantity, str(len(rows)), *written, "genai-prices-0.2.3"]


def main() -> None:
    if "--write" in sys.argv[1:]:
        with (FILES / "price_fit_by_provider.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table())
    else:
        csv.writer(sys.stdout, lineterminator="\n").writerows(table())


if __name__ == "__main__":
    main()

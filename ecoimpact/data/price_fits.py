"""Regressions of model size on list price, one per provider: what ``scope3`` estimates closed models with.

The step ``price`` of the names does not use them: it has one fit over all providers, and the interval of one further
model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

from ecoimpact.data.tables import rows


@dataclass(frozen=True, slots=True)
class PriceFit:
    """``ln P = intercept + slope ln c`` at one provider: P in 10⁹ parameters, c in USD per million tokens, 3 read for 1
    generated. ``rows`` listings of models of known size are behind it; ``source`` is a key of ``data.sources()``.
    """

    provider: str
    quantity: str
    rows: int
    intercept: float
    intercept_se: float
    slope: float
    slope_se: float
    residual_sd: float
    mean_ln_price: float
    sum_of_squares: float
    source: str

    def at(self, blended_usd_per_million_tokens: float) -> tuple[float, float, float]:
        """Intercept, slope, and the standard error of the size that the price predicts for one further model [10⁹].

        SE = P s sqrt(1 + 1/n + (ln c - mean)² / S), the error of ln P carried over to P.

        >>> beta_0, beta_1, error = price_fits("total")[0].at(1.4)
        >>> f"{beta_0:.3f} {beta_1:.3f} {error:.0f}"
        '4.847 1.170 227'
        """
        x = math.log(blended_usd_per_million_tokens)
        size = math.exp(self.intercept + self.slope * x)
        spread = 1 + 1 / self.rows + (x - self.mean_ln_price) ** 2 / self.sum_of_squares
        return self.intercept, self.slope, size * self.residual_sd * math.sqrt(spread)


@cache
def price_fits(quantity: Literal["total", "active"]) -> tuple[PriceFit, ...]:
    """The regressions of all providers with at least twenty listings, for ``total`` or ``active`` parameters."""
    found = []
    for _, provider, which, count, *numbers, source in rows("price_fit_by_provider"):
        if which == quantity:
            intercept, intercept_se, slope, slope_se, residual_sd, mean, spread = map(float, numbers)
            fit = PriceFit(
                provider, which, int(count), intercept, intercept_se, slope, slope_se, residual_sd, mean, spread, source
            )
            found.append(fit)
    return tuple(found)

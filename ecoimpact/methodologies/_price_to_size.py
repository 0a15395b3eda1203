"""The size of a closed model from its price, as Scope3 estimates it: one regression per provider, weighted by their errors.

Pure: the regressions are given. Those of the package's own tables are ``ecoimpact.data.price_regressions()``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

_Z_95 = 1.959963984540054


class PriceRegression(NamedTuple):
    """One provider's regression ``ln P = beta_0 + beta_1 ln c``, with the standard error of its prediction [10⁹]."""

    beta_0: float
    beta_1: float
    standard_error_params_b: float


class SizeFromPrice(NamedTuple):
    """A size in 10⁹ parameters: the weighted mean, its standard error, both ends of its 95 % interval, and the parts."""

    params_b: float
    standard_error_params_b: float
    low_params_b: float
    high_params_b: float
    params_b_by_provider: tuple[float, ...]


def size_from_price(*, blended_usd_per_million_tokens: float, regressions: Iterable[PriceRegression]) -> SizeFromPrice:
    """The size that a price suggests.

    ln P_p = beta_0p + beta_1p ln c;  P = sum_p w_p P_p / sum_p w_p;  w_p = 1 / SE_p²;  SE = 1 / sqrt(sum_p w_p);
    95 % interval: P -/+ 1.96 SE   [10⁹ parameters; c in USD per million tokens]

    The upper end is the conservative choice of the document. The interval takes the errors of the regressions as
    independent and all there is, which makes it far too narrow for one model: see the page of the methodology.

    Reference: Scope3, "Closed Model Parameter Estimation" and "Conservative Estimates".

    Raises:
        ValueError: a price or a standard error that is not above 0, or no regression.

    >>> fits = [PriceRegression(4.1, 0.92, 18.0), PriceRegression(5.0, 1.1, 60.0), PriceRegression(3.3, 0.61, 9.0)]
    >>> found = size_from_price(blended_usd_per_million_tokens=1.4, regressions=fits)
    >>> f"{found.params_b:.3f} [{found.low_params_b:.1f} - {found.high_params_b:.1f}]"
    '46.116 [30.5 - 61.8]'
    """
    price = blended_usd_per_million_tokens
    regressions = tuple(regressions)
    if not 0 < price < math.inf:
        raise ValueError(f"blended_usd_per_million_tokens must be above 0, got {price!r}")
    if not regressions:
        raise ValueError("size_from_price needs at least one regression")
    for regression in regressions:
        if not 0 < regression.standard_error_params_b < math.inf:
            raise ValueError(f"standard_error_params_b must be above 0, got {regression.standard_error_params_b!r}")
    sizes = tuple(math.exp(r.beta_0 + r.beta_1 * math.log(price)) for r in regressions)
    weights = [r.standard_error_params_b**-2 for r in regressions]
    mean = sum(weight * size for weight, size in zip(weights, sizes, strict=True)) / sum(weights)
    error = 1 / math.sqrt(sum(weights))
    return SizeFromPrice(mean, error, max(0.0, mean - _Z_95 * error), mean + _Z_95 * error, sizes)

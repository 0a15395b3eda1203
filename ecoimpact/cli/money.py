"""Amounts of money as people read them.

>>> cost_unit(12.5).text(12.5), cost_unit(0.0123).text(0.0123)
('12.5 USD', '1.23 US¢')
"""

from __future__ import annotations

from typing import Final

from ecoimpact.cli.quantities import Unit

DOLLAR: Final = Unit("USD", 1.0)
CENT: Final = Unit("US¢", 100.0)


def cost_unit(usd: float) -> Unit:
    """Dollars from one dollar on, cents below."""
    return CENT if 0 < abs(usd) < 0.995 else DOLLAR

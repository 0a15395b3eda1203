"""Figures for whole lakes of requests: one pure function over Arrow batches, and what carries it to where the data are.

Rules of this package: pyarrow and numpy are imported when they are needed; memory does not grow with the data; a row that
comes in goes out, with its figures or with the codes that say why it has none.
"""

from __future__ import annotations

from ecoimpact.lake.estimating import Estimator

__all__ = ["Estimator"]

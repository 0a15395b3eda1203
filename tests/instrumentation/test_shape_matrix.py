"""What docs/shapes.md says of the conformance suite is what the suite does."""

from __future__ import annotations

import clients
import shape_matrix


def test_the_table_is_of_these_shapes() -> None:
    """Where it is not: ``python tests/instrumentation/shape_matrix.py``."""
    assert shape_matrix.written("shapes") == shape_matrix.table(clients.SHAPES)

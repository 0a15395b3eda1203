"""The table in docs/frameworks.md says what the tests of this session saw. It runs last, after all of them.

``nox -s frameworks -- --write`` writes it anew.
"""

from __future__ import annotations

import os
import re
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

import matrix
import pytest
from matrix import ROWS, WAYS, Row

DOCUMENT = Path(__file__).parents[2] / "docs" / "frameworks.md"
SESSION = os.environ.get("FRAMEWORKS_SESSION", "")
VERSIONS = "Run with "


def test_the_document_says_what_was_seen() -> None:
    if not (ROWS or matrix.OBSERVED):
        pytest.fail("the tests of the frameworks have to run before this one, in the same process")
    table = "\n".join([*observers()] if matrix.OBSERVED else [*frameworks()])
    packages = os.environ["FRAMEWORKS_PACKAGES"].split()
    written = f"\n{VERSIONS}{', '.join(f'{name} {version(name)}' for name in packages)}.\n\n{table}\n"
    text = DOCUMENT.read_text(encoding="utf-8")
    begin, end = f"<!-- {SESSION}: written by its tests -->", f"<!-- {SESSION}: end -->"
    before, _, rest = text.partition(begin)
    found, _, after = rest.partition(end)
    if os.environ.get("FRAMEWORKS_WRITE"):
        DOCUMENT.write_text(f"{before}{begin}{written}{end}{after}", encoding="utf-8")
    else:
        assert without_versions(found) == without_versions(written)


def without_versions(text: str) -> list[str]:
    """The lines that must not change: versions may be newer at any time."""
    return [line for line in text.splitlines() if not line.startswith(VERSIONS)]


def frameworks() -> list[str]:
    lines = [
        f"| framework | model | task | {' | '.join(WAYS)} |",
        "|---|---|---|---|---|---|---|",
    ]
    # By what a line is about, in the order in which the tests ran.
    for (framework, through, task), group in groupby(ROWS, lambda row: (*row.case[:2], row.case.task)):
        rows = {row.case.way: row for row in group}
        cells = [cell(rows[way]) if way in rows else "" for way in WAYS]
        lines.append(f"| {framework} | `{through}` | {task} | {' | '.join(cells)} |")
    return lines


def cell(row: Row) -> str:
    """The requests that the server had, and what came of them."""
    if not row.records:
        return f"{row.requests}, not seen"
    assert len(row.records) == row.requests
    assert all(record.inference.usage.estimated is row.case.estimated for record in row.records)
    return f"{row.requests} {'estimated' if row.case.estimated else 'exact'}"


def observers() -> list[str]:
    lines = ["| tool | theirs first | ours first |", "|---|---|---|"]
    for tool, group in groupby(matrix.OBSERVED, lambda seen: seen[0]):
        phases = {order: len(seen) for _, order, seen in group}
        cells = [f"{phases[order]} phases" for order in ("theirs first", "ours first")]
        lines.append(f"| {tool} | {' | '.join(cells)} |")
    return lines


def test_every_line_is_about_one_thing() -> None:
    keys = [(*row.case[:2], row.case.task, row.case.way) for row in ROWS]
    assert len(keys) == len(set(keys))
    assert not re.search(r"[|`]", " ".join(row.case.through for row in ROWS))

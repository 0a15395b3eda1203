"""The benchmarks run, and say what they promise to say. What they measure is looked at, never asserted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_benchmark_runs() -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for part in (
        "## machine",
        "## overhead",
        "## estimate",
        "## import",
        "## put",
        "## memory",
        "## coverage",
        "## index",
        "## fleet",
        "## batch",
        "## lake",
        "## sizing",
    ):
        assert part in done.stdout
    for row in ("chat", "chat, async", "responses", "messages", "chat stream", "responses stream", "messages stream"):
        assert f"| {row} | " in done.stdout
    assert "fails" not in done.stdout
    assert "Records lost: 0." in done.stdout


def test_the_page_has_a_place_for_every_table() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    for name in (
        "machine",
        "overhead",
        "estimate",
        "import",
        "put",
        "memory",
        "coverage",
        "index",
        "fleet",
        "batch",
        "lake",
    ):
        assert page.index(f"<!-- {name} -->") < page.index(f"<!-- /{name} -->")

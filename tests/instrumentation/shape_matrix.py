"""The tables of docs/shapes.md, from the shapes: ``python tests/instrumentation/shape_matrix.py`` writes the first."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from harness import Shape

DOCUMENT = Path(__file__).parents[2] / "docs" / "shapes.md"

KINDS: dict[str, Callable[[Shape], bool]] = {
    "plain": lambda s: any(e.status == "ok" and not e.stream for e in s.expected),
    "streamed": lambda s: any(e.status == "ok" and e.stream for e in s.expected),
    "raw": lambda s: "raw" in s.name or "response" in s.name.split(", ")[0].split()[1:],
    "several requests": lambda s: len(s.expected) > 1,
    "no count sent": lambda s: any(e.estimated and e.status == "ok" for e in s.expected),
    "left early": lambda s: any(e.status == "abandoned" for e in s.expected),
    "error": lambda s: any(e.status == "error" for e in s.expected),
    "cancelled": lambda s: any(e.status == "cancelled" for e in s.expected),
    "nothing to count": lambda s: not s.expected,
}


def table(shapes: Mapping[str, list[Shape]]) -> str:
    """One row a provider: how many shapes of each kind, and how many runs they make."""
    lines = [f"| SDK | {' | '.join(KINDS)} | runs |", f"|---|{'---|' * (len(KINDS) + 1)}"]
    for provider, known in shapes.items():
        counts = [str(sum(map(is_kind, known)) or "") for is_kind in KINDS.values()]
        runs = 2 * sum(1 if shape.only else 2 for shape in known)  # by instrument() and by wrap()
        lines.append(f"| `{provider}` | {' | '.join(counts)} | {runs} |")
    return "\n".join(lines)


def written(name: str) -> str:
    """A table as it stands in the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return text.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0].strip()


def write(name: str, new: str) -> None:
    head, start, rest = DOCUMENT.read_text(encoding="utf-8").partition(f"<!-- {name} -->")
    _, end, tail = rest.partition(f"<!-- /{name} -->")
    DOCUMENT.write_text(f"{head}{start}\n\n{new}\n\n{end}{tail}", encoding="utf-8")


if __name__ == "__main__":
    import clients

    write("shapes", table(clients.SHAPES))
    sys.stdout.write(table(clients.SHAPES) + "\n")

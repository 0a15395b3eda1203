"""The line of a model: its name with the minor version left open.

Rule of this file: members of a line share every other part of their names, the major version and the tier included, and
the listed members agree on the size within a factor. A line whose members differ more says nothing about a new one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_SPREAD = 4.0
"""The largest ratio between the total sizes of a line's listed members."""

# A major version and a minor one after a point or a hyphen: "5.6", "4-5", the "3.2" of "v3.2". No size ("70b") and no date.
_VERSION = re.compile(r"(?<![\d.])([1-9]\d?)(?:[.-](\d{1,2}))?(?![\d.]|[a-z])")


class Member(NamedTuple):
    """Where a name stands: its line, and its place in it."""

    line: tuple[str, str, str]
    minor: int


def member(name: str) -> Member | None:
    """The line of a name and the minor version in it; ``None`` for names without a version.

    >>> member("gpt-5.6-mini")
    Member(line=('gpt-', '5', '-mini'), minor=6)
    >>> member("claude-haiku-4-5").line == member("claude-haiku-4").line
    True
    >>> member("gpt-4o-mini")
    """
    match = _VERSION.search(name)
    if match is None:
        return None
    return Member((name[: match.start()], match[1], name[match.end() :]), int(match[2] or 0))

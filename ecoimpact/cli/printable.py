"""Text from a log, made safe to look at: labels and model names can be anybody's words.

A terminal obeys control characters, and marks of direction turn the text around them. They are shown as escapes instead.
"""

from __future__ import annotations

import unicodedata
from html import escape
from typing import Any, Final

from rich.cells import cell_len, set_cell_size

# Cc: control characters. Cf: formatting, marks of direction among it. Cs: halves of pairs, which have no encoding.
# Co, Cn: private and unassigned. Zl, Zp: separators that end lines.
_OBEYED: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_JOINERS: Final = frozenset("\u200c\u200d")  # scripts and emoji need them, and they do nothing else


def printable(value: Any) -> str:
    r"""The text with an escape for every character that would not simply be shown.

    >>> printable("a\x1b[31mb\u202ec\n")
    'a\\x1b[31mb\\u202ec\\n'
    """
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character in _JOINERS or unicodedata.category(character) not in _OBEYED:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def safe(text: Any) -> str:
    """The same for a page: markup is escaped as well.

    >>> safe("<b>\x1b")
    '&lt;b&gt;\\\\x1b'
    """
    return escape(printable(text))


def shortened(text: str, width: int, *, ends: bool = True) -> str:
    """The text in ``width`` columns of a terminal. What is too long loses its middle, as both ends tell models apart, or
    its end.

    >>> shortened("claude-haiku-4-5-20251001", 16), shortened("a long line", 7, ends=False)
    ('claude-h…0251001', 'a long…')
    """
    if cell_len(text) <= width:
        return text
    end = (width - 1) // 2 if ends else 0
    tail = text[len(text) - end :]
    while cell_len(tail) > end:
        tail = tail[1:]
    return set_cell_size(text, width - 1 - cell_len(tail)).rstrip() + "…" + tail


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "line"), counted(1200, "line")
    ('1 line', '1,200 lines')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

"""Numbers for the names in the log: what the index counts by is few and small.

Rule that holds in this file: names are bounded in number and in length, whatever a program or a stranger writes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, Final

DIMENSIONS: Final = ("provider", "endpoint", "model", "zone", "methodology", "data_version")
MAX_TEXT_CHARS: Final = 256

EVERYTHING: Final = 0
"""The label of every record, those without labels too."""

NONE: Final = "(none)"
"""The value of a label for requests that do not have it."""
OTHER: Final = "(other)"
"""What is beyond the number of names that an index keeps."""


class Names:
    """Numbers for what names many records: series (the combination of all dimensions) and labels.

    They are bounded, so that neither a program that uses request ids as labels nor a stranger's file can make the index
    grow without end: what is new beyond the bounds counts as ``(other)``. ``new_series`` and ``new_labels`` are those that
    the index has yet to store.
    """

    MAX_VALUES = 1_000
    """Distinct values of a label, and of each dimension such as the model."""
    MAX_KEYS = 100
    MAX_SERIES = 10_000
    CACHE = 50_000

    def __init__(self, series: Iterable[tuple[int, tuple[str, ...]]], labels: Iterable[tuple[int, str, str]]) -> None:
        self._series = {names: number for number, names in series}
        self._dimensions = [{names[position] for names in self._series} for position in range(len(DIMENSIONS))]
        self._labels: dict[str, dict[str, int]] = {}
        self._next_label = EVERYTHING + 1
        for number, key, value in labels:
            self._labels.setdefault(key, {})[value] = number
            self._next_label = max(self._next_label, number + 1)
        self._next_series = max(self._series.values(), default=0) + 1
        self._keysets: dict[frozenset[str], int] = {}
        self.new_series: list[tuple[int, tuple[str, ...]]] = []
        self.new_labels: list[tuple[int, str, str]] = []
        self.series: dict[tuple[Any, ...], int] = {}  # by what stands in the record
        self.labels: dict[tuple[Any, ...], tuple[int, tuple[int, ...]]] = {(): (self._keyset(()), ())}

    def series_of(self, names: tuple[Any, ...]) -> int:
        """The number for the values of ``DIMENSIONS`` and ``request_model`` as they stand in a record."""
        *values, request_model = names
        if not isinstance(values[2], str) or not values[2]:
            values[2] = request_model
        cleaned = [clean_text(value) if value and isinstance(value, str) else "(unknown)" for value in values]
        for position, known in enumerate(self._dimensions):
            if cleaned[position] not in known and len(known) >= self.MAX_VALUES:
                cleaned[position] = OTHER
        key = tuple(cleaned)
        if key not in self._series and len(self._series) >= self.MAX_SERIES:
            key = (OTHER,) * len(DIMENSIONS)
        number = self._series.get(key)
        if number is None:
            number = self._series[key] = self._next_series
            self._next_series += 1
            self.new_series.append((number, key))
            for known, value in zip(self._dimensions, key, strict=True):
                known.add(value)
        remember(self.series, names, number, self.CACHE)
        return number

    def labels_of(self, labels: Any) -> tuple[int, tuple[int, ...]]:
        """The set of keys that a record has, and its labels, as numbers; whatever is no text by name is no label."""
        numbers: dict[str, int] = {}
        for key, value in labels.items() if isinstance(labels, dict) else ():
            if isinstance(value, str):
                known_key, number = self._label(clean_text(key), clean_text(value))
                numbers.setdefault(known_key, number)  # a record counts once for each key
        found = self._keyset(numbers), tuple(numbers.values())
        if isinstance(labels, dict):
            remember(self.labels, tuple(labels.items()), found, self.CACHE)
        return found

    def _label(self, key: str, value: str) -> tuple[str, int]:
        if key not in self._labels and len(self._labels) >= self.MAX_KEYS:
            key = value = OTHER
        if key not in self._labels:
            self._labels[key] = {}
            self._new_label(key, NONE)
        values = self._labels[key]
        if value not in values and len(values) >= self.MAX_VALUES + 1:  # one of them is NONE
            value = OTHER
        return key, values[value] if value in values else self._new_label(key, value)

    def _new_label(self, key: str, value: str) -> int:
        number = self._labels[key][value] = self._next_label
        self._next_label += 1
        self.new_labels.append((number, key, value))
        return number

    def _keyset(self, keys: Iterable[str]) -> int:
        return self._keysets.setdefault(frozenset(keys), len(self._keysets))

    def lacking(self) -> list[list[int]]:
        """For each set of keys the ``(none)`` labels of all the other keys."""
        return [
            [values[NONE] for key, values in self._labels.items() if key not in keys]
            for keys in self._keysets  # numbered in their order
        ]


def remember(cache: dict[Any, Any], key: Any, value: Any, bound: int) -> None:
    if len(cache) >= bound:
        cache.clear()
    with contextlib.suppress(TypeError):  # it holds a list or an object
        cache[key] = value


def clean_text(text: str) -> str:
    """Text that SQLite can hold: of bounded length, and without halves of characters."""
    return text[:MAX_TEXT_CHARS].encode("utf-8", "backslashreplace").decode()

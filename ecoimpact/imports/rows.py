"""From files to rows: JSON Lines, JSON documents of any size, CSV, Parquet; gzip and standard input.

Rules that hold in this file: memory does not grow with the file, only with its longest row, which is bounded; what is
no row is told as such, with the line it stands on, and reading goes on where it can. Bytes that are no UTF-8 stand for
themselves.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, NamedTuple

FORMATS: Final = ("jsonl", "json", "csv", "parquet")
STDIN: Final = Path("-")

MAX_ROW_BYTES: Final = 16 * 2**20
"""A longer row is turned away. Rows hold prompts, and prompts hold pictures."""
_PIECE: Final = 2**18
_BUFFER: Final = 2**16
_GZIP: Final = b"\x1f\x8b"
_PARQUET: Final = b"PAR1"


class Read(NamedTuple):
    """A row with the line it stands on (its number where there are no lines), or why there is none."""

    line: int
    row: Any
    problem: str | None = None


class Opened:
    """A file as it is read; ``position`` and ``size`` are bytes of the file itself, ``size`` 0 where nobody knows it.

    Raises:
        OSError: it cannot be opened.
        ValueError: a format that cannot be read this way.
    """

    def __init__(self, path: Path, format: str | None = None) -> None:  # noqa: A002 - the option's name
        self.path = path
        self._raw: BinaryIO = sys.stdin.buffer if path == STDIN else path.open("rb")
        self.size = 0 if path == STDIN else os.fstat(self._raw.fileno()).st_size
        self._counted = _Counted(self._raw)
        file = io.BufferedReader(self._counted, _BUFFER)
        self.file: Any = file
        if file.peek(2)[:2] == _GZIP:
            self.file = io.BufferedReader(gzip.GzipFile(fileobj=file), _BUFFER)
        self.format = format or self._format()

    @property
    def position(self) -> int:
        return self._counted.position

    def _format(self) -> str:
        try:
            start = self._start()
        except (EOFError, OSError, zlib.error):  # told when it is read
            return "jsonl"
        if start.startswith(_PARQUET):
            return "parquet"
        text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
        if text.startswith(b"["):
            return "json"
        if not text.startswith(b"{"):
            return "csv" if text else "jsonl"
        line, newline, _ = text.partition(b"\n")
        # An object that goes on in the next line is a document; so is one that has not ended after all that was looked at.
        return "jsonl" if line.rstrip().endswith(b"}") or (newline and line.rstrip()[-1:] not in b"{[,:") else "json"

    def _start(self) -> bytes:
        """The first line that has anything on it, or as much of it as a row may have."""
        peeked = b""
        while len(peeked) < MAX_ROW_BYTES:
            piece = self.file.read(_PIECE)
            peeked += piece
            if not piece or b"\n" in peeked.lstrip():
                break
        self.file = io.BufferedReader(_Chained(peeked, self.file), _BUFFER)
        return peeked

    def rows(self, envelopes: tuple[str, ...], columns: Iterable[str] = ()) -> Iterator[Read]:
        """All rows; pages are opened where they hold their rows under one of the keys in ``envelopes``."""
        if self.format == "parquet":
            yield from _parquet(self.path, tuple(columns))
            return
        reader = {"jsonl": _json_lines, "json": _json_documents, "csv": _csv}[self.format]
        found = reader(self.file, envelopes)
        line = 0
        try:
            for read in found:
                line = read.line
                yield read
        except (EOFError, zlib.error, gzip.BadGzipFile):
            yield Read(line + 1, None, "compression-broken")

    def close(self) -> None:
        if self.path != STDIN:
            self._raw.close()


class _Counted(io.RawIOBase):
    """A file that counts what was read of it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)


class _Chained(io.RawIOBase):
    """What was looked at, and then the rest."""

    def __init__(self, before: bytes, file: BinaryIO) -> None:
        self._before, self._file = memoryview(before), file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._before:
            data: Any = self._before[: len(buffer)]
            self._before = self._before[len(data) :]
        else:
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


# --- JSON ---------------------------------------------------------------------------------------------------------------


def _json_lines(file: BinaryIO, envelopes: tuple[str, ...]) -> Iterator[Read]:
    number = 0
    while line := file.readline(MAX_ROW_BYTES):
        number += 1
        if len(line) == MAX_ROW_BYTES and not line.endswith(b"\n"):
            while (rest := file.readline(MAX_ROW_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield Read(number, None, "row-too-long")
            continue
        if not line.strip():
            continue
        try:
            value = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
        except (ValueError, RecursionError):
            yield Read(number, None, "not-json")
            continue
        for row in _opened(value, envelopes):
            yield Read(number, row)


def _opened(value: Any, envelopes: tuple[str, ...]) -> Iterable[Any]:
    """The rows of a page, or the value itself."""
    if isinstance(value, list):
        return value
    if isinstance(value, Mapping):
        for key in envelopes:
            if isinstance(value.get(key), list):
                return value[key]  # type: ignore[no-any-return] # a list, as was just seen
    return (value,)


def _json_documents(file: BinaryIO, envelopes: tuple[str, ...]) -> Iterator[Read]:
    """Arrays, pages and single objects, one after the other. What follows something broken is lost: that is told once."""
    scanner = _Scanner(io.TextIOWrapper(file, encoding="utf-8", errors="replace"))
    number = 0
    try:
        while scanner.next_character():
            for row in _document(scanner, envelopes):
                number += 1
                yield Read(number, row)
    except (ValueError, RecursionError) as error:
        yield Read(number + 1, None, "row-too-long" if isinstance(error, _TooLongError) else "not-json")


def _document(scanner: _Scanner, envelopes: tuple[str, ...]) -> Iterator[Any]:
    start = scanner.next_character()
    if start == "[":
        yield from scanner.elements()
    elif start == "{":
        rest: dict[str, Any] = {}
        is_page = False
        for key in scanner.object_keys():
            if key in envelopes and scanner.next_character() == "[":
                is_page = True
                yield from scanner.elements()
            else:
                rest[key] = scanner.value()
        if not is_page:
            yield rest
    else:
        yield scanner.value()


class _TooLongError(ValueError):
    pass


class _Scanner:
    """JSON in pieces: it holds the value that is being read, and little more."""

    _decode = staticmethod(json.JSONDecoder().raw_decode)

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._text = ""
        self._at = 0
        self._ended = False

    def next_character(self) -> str:
        """The next one that is no space, still to be taken; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n\ufeff":
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def elements(self) -> Iterator[Any]:
        yield from (self.value() for _ in self._items("[", "]"))

    def object_keys(self) -> Iterator[str]:
        for _ in self._items("{", "}"):
            key = self.value()
            if not isinstance(key, str):
                raise ValueError("a key is a text")  # noqa: TRY004 - of JSON, as the others
            self._take(":")
            yield key

    def _items(self, start: str, end: str) -> Iterator[None]:
        self._take(start)
        if self.next_character() == end:
            self._take(end)
            return
        while True:
            yield
            if self.next_character() == end:
                self._take(end)
                return
            self._take(",")

    def _take(self, character: str) -> None:
        if self.next_character() != character:
            raise ValueError(f"{character} is missing")
        self._at += 1

    def value(self) -> Any:
        self.next_character()
        wanted = _PIECE
        while True:
            try:
                value, end = self._decode(self._text, self._at)
                if end < len(self._text) or not self._more():  # a number may go on
                    self._at = end
                    return value
            except json.JSONDecodeError:
                have = len(self._text) - self._at
                if have > MAX_ROW_BYTES:
                    raise _TooLongError from None
                while len(self._text) - self._at < max(wanted, 2 * have):  # so that all tries together read it twice
                    if not self._more():
                        break
                if len(self._text) - self._at == have:
                    raise

    def _more(self) -> bool:
        if self._ended:
            return False
        piece = self._file.read(_PIECE)
        self._ended = not piece
        self._text = self._text[self._at :] + piece
        self._at = 0
        return bool(piece)


# --- tables -------------------------------------------------------------------------------------------------------------


def _csv(file: BinaryIO, _envelopes: tuple[str, ...]) -> Iterator[Read]:
    reader = csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline=""))
    header: list[str] | None = None
    with _field_limit():
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:
                yield Read(reader.line_num, None, "not-csv")
                continue
            if not cells:
                continue
            if header is None:
                header = [name.strip() for name in cells]
            elif len(cells) != len(header):
                yield Read(reader.line_num, None, "columns-differ")
            else:
                yield Read(reader.line_num, dict(zip(header, cells, strict=True)))


@contextlib.contextmanager
def _field_limit() -> Iterator[None]:
    """The limit is one for the whole process: it is set back."""
    before = csv.field_size_limit(MAX_ROW_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _parquet(path: Path, columns: tuple[str, ...]) -> Iterator[Read]:
    if path == STDIN:
        raise ValueError("Parquet cannot be read from standard input; name the file")
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ValueError('Parquet needs pyarrow: pip install "ecoimpact[lake]"') from None
    number = 0
    try:
        file = pq.ParquetFile(path)
        wanted = [name for name in file.schema_arrow.names if not columns or name in columns]
        for batch in file.iter_batches(batch_size=1_000, columns=wanted):
            for row in batch.to_pylist():
                number += 1
                yield Read(number, row)
    except (pa.ArrowException, OSError):
        yield Read(number + 1, None, "not-parquet")

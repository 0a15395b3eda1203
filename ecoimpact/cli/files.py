"""Files that commands make: whole or not there at all, and for their owner only."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ecoimpact.cli.output import wrong

STDOUT = Path("-")


def checked_out(path: Path, *, force: bool) -> Path:
    """The place for a new file.

    Raises:
        typer.BadParameter: it is a directory or lies in none, or there is a file already and no ``force``.
    """
    if path == STDOUT:
        return path
    if path.is_dir():
        raise wrong(f"{path} is a directory; name a file in it", "--out")
    if not path.parent.is_dir():
        raise wrong(f"there is no directory {path.parent}", "--out")
    if path.exists() and not force:
        raise wrong(f"there is a file {path} already; --force replaces it", "--out")
    return path


@contextlib.contextmanager
def new_file(path: Path, *, force: bool) -> Iterator[IO[bytes]]:
    """A binary file that appears at ``path``, with mode 0600, when all of it is written; ``-`` is standard output.

    Raises:
        typer.BadParameter: see :func:`checked_out`; also when a file appeared there meanwhile.
    """
    if checked_out(path, force=force) == STDOUT:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    beside = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        with os.fdopen(os.open(beside, flags, 0o600), "wb") as file:
            yield file
        checked_out(path, force=force)
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise

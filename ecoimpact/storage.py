"""Files wherever they are: a path or a URL as a file system of pyarrow and a path in it.

Rules of this file: it knows nothing of the package; a file that is written appears whole or not at all; what a store needs
beyond pyarrow is imported when a URL of that store comes in, and its absence is told with what to install.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit

FileSystem: TypeAlias = Any
"""A ``pyarrow.fs.FileSystem``."""

PART = ".part"
"""The end of the names of files that are not yet whole; they begin with a dot."""

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://")  # at least two letters: C:\ is a drive
_WILDCARDS = "*?["
_WITHOUT_FOLDERS = ("s3", "gcs")


class Found(NamedTuple):
    """A file: its path in the file system, its name below the folder that was listed, and what tells its versions apart."""

    path: str
    name: str
    size: int
    version: str
    """The time of its last change in nanoseconds, or what the store has instead; empty where it has nothing."""


def resolve(path_or_url: str | os.PathLike[str]) -> tuple[FileSystem, str]:
    """The file system of a path or URL, and the path in it.

    A plain path and ``file://`` are local. ``s3://`` takes endpoint, region and keys from the usual variables
    (``AWS_ENDPOINT_URL``, ``AWS_REGION``, ``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE``, ...), ``gs://`` from Google's. Other
    schemes are those of fsspec.

    Raises:
        ValueError: an unknown scheme, or a URL that names no place.
        ModuleNotFoundError: a package is missing; the message says which.

    >>> resolve("/data/log")[1], resolve("file:///data/log")[1]
    ('/data/log', '/data/log')
    """
    fs = _arrow_fs()
    text = os.fspath(path_or_url)
    found = _SCHEME.match(text)
    if found is None:
        return fs.LocalFileSystem(), _local(text)
    scheme = found[1].lower()
    if scheme == "file":
        return fs.LocalFileSystem(), _local(unquote(text[found.end() :].removeprefix("localhost")))
    place = text[found.end() :].rstrip("/")
    if not place:
        raise ValueError(f"{text!r} names no bucket or folder")
    if scheme in ("s3", "s3a"):
        return fs.S3FileSystem(**_s3_options()), place
    if scheme in ("gs", "gcs"):
        return fs.GcsFileSystem(), place
    return _fsspec(text)


def _arrow_fs() -> Any:
    try:
        from pyarrow import fs
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('this needs pyarrow: pip install "ecoimpact[lake]"', name=error.name) from None
    return fs


def _local(path: str) -> str:
    # pyarrow wants slashes everywhere.
    return os.path.abspath(os.path.expanduser(path)).replace(os.sep, "/")  # noqa: PTH100, PTH111 - as they are written


def _s3_options() -> dict[str, Any]:
    """What pyarrow does not find in the environment in all of its versions."""
    options: dict[str, Any] = {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if endpoint:
        parts = urlsplit(endpoint)
        options = {"endpoint_override": parts.netloc or endpoint, "scheme": parts.scheme or "https"}
        region = region or "us-east-1"  # a server of one's own has none
    if region:
        options["region"] = region
    return options


def _fsspec(url: str) -> tuple[FileSystem, str]:
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError as error:
        scheme = url.partition(":")[0]
        raise ModuleNotFoundError(f"{scheme}:// needs fsspec: pip install fsspec", name=error.name) from None
    try:
        filesystem, path = url_to_fs(url)
    except ImportError as error:  # fsspec says what to install
        raise ModuleNotFoundError(f"{url}: {error}", name=error.name) from None
    return PyFileSystem(FSSpecHandler(filesystem)), str(path)


# --- listing ------------------------------------------------------------------------------------------------------------


def is_folder(filesystem: FileSystem, path: str) -> bool:
    """Whether there is a folder (on an object store: whether anything begins with the path and a slash)."""
    return bool(filesystem.get_file_info(path).type == _arrow_fs().FileType.Directory)


def files(
    filesystem: FileSystem, path: str, *, unfinished: Callable[[str], object] | None = None
) -> tuple[str, list[Found]]:
    """All files at a path, which is a file, a folder (with all below it) or a pattern, in the order of their names; and the
    folder that their names start from.

    In a pattern ``*`` and ``?`` stand for signs of one name, ``**`` for any folders. Names that begin with a dot or an
    underscore are left out, and folders of such names: they hold what is unfinished, or notes of other tools. The paths of
    what :func:`new_file` has left unfinished are given to ``unfinished``.

    Raises:
        FileNotFoundError: there is nothing.
    """
    fs = _arrow_fs()
    base, wanted = _split(path)
    if wanted is not None and filesystem.get_file_info(path).type == fs.FileType.File:
        base, wanted = path, None  # a name may have such signs in it
    info = filesystem.get_file_info(base)
    if info.type == fs.FileType.File and wanted is None:
        folder = base.rpartition("/")[0]
        return folder, [_found(info, base.rpartition("/")[2])]
    if info.type == fs.FileType.Directory:
        listed = filesystem.get_file_info(fs.FileSelector(base, recursive=True))
    elif info.type == fs.FileType.NotFound:
        listed = []
    else:
        raise FileNotFoundError(f"{base} is a file, not a folder")
    prefix = base.rstrip("/") + "/"
    found = [_found(each, each.path.removeprefix(prefix)) for each in listed if each.type == fs.FileType.File]
    for each in found:
        name = each.name.rpartition("/")[2]
        if unfinished is not None and name.startswith(".") and name.endswith(PART):
            unfinished(each.path)
    found = [each for each in found if not _is_hidden(each.name) and (wanted is None or wanted.fullmatch(each.name))]
    if not found:
        raise FileNotFoundError(f"there are no files at {path}")
    return base, sorted(found, key=lambda each: each.name)


def _found(info: Any, name: str) -> Found:
    changed = info.mtime_ns
    return Found(info.path, name, int(info.size or 0), "" if changed is None else str(changed))


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/"))


def _split(path: str) -> tuple[str, re.Pattern[str] | None]:
    """A path without wildcards, and the pattern for what is below it."""
    parts = path.split("/")
    first = next((n for n, part in enumerate(parts) if any(sign in part for sign in _WILDCARDS)), None)
    if first is None:
        return path, None
    return "/".join(parts[:first]) or "/", re.compile(_regex(parts[first:]))


def _regex(parts: list[str]) -> str:
    """A pattern as a regular expression over names with slashes.

    >>> bool(re.fullmatch(_regex(["**", "*.parquet"]), "day=1/a.parquet"))
    True
    >>> bool(re.fullmatch(_regex(["*.parquet"]), "day=1/a.parquet"))
    False
    """
    pieces = []
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        if part == "**":
            pieces.append(".*" if is_last else "(?:[^/]+/)*")
        else:
            pieces.append(_SIGN.sub(_sign, part) + ("" if is_last else "/"))
    return "(?s:" + "".join(pieces) + ")"


_SIGN = re.compile(r"\[(!?)([^/\]]+)\]|.", re.DOTALL)


def _sign(found: re.Match[str]) -> str:
    if found[2] is not None:
        escaped = found[2].replace("\\", r"\\").replace("^", r"\^")
        return f"[{'^/' if found[1] else ''}{escaped}]"
    return {"*": "[^/]*", "?": "[^/]"}.get(found[0], re.escape(found[0]))


# --- writing ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def new_file(filesystem: FileSystem, path: str) -> Iterator[Any]:
    """A binary file that appears at ``path`` when all of it is written, in place of one that is there.

    Until then it has a name beside it that begins with a dot and ends in ``.part``; a file that was left behind by a crash
    is overwritten by the next that is made for the same path. A rename makes it whole; an object store copies it, and
    shows the copy when it is complete. On this machine it is for its owner only.
    """
    folder, _, name = path.rpartition("/")
    part = f"{folder}/.{name}{PART}"
    if filesystem.type_name not in _WITHOUT_FOLDERS:
        filesystem.create_dir(folder, recursive=True)
    if filesystem.type_name == "local":
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
        os.close(os.open(part, flags, 0o600))
    try:
        with filesystem.open_output_stream(part) as file:
            yield file
        filesystem.move(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            filesystem.delete_file(part)
        raise


def put(filesystem: FileSystem, path: str, content: bytes) -> None:
    """Write a small file whole."""
    with new_file(filesystem, path) as file:
        file.write(content)


def read(filesystem: FileSystem, path: str) -> bytes | None:
    """The content of a small file, or ``None`` where there is none."""
    try:
        with filesystem.open_input_stream(path) as file:
            return bytes(file.read())
    except FileNotFoundError:
        return None


def delete(filesystem: FileSystem, path: str) -> None:
    """Delete a file, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        filesystem.delete_file(path)

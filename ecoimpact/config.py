"""Settings from arguments, ``ECOIMPACT_*`` variables and ``[tool.ecoimpact]`` in ``pyproject.toml``, in this order.

A setting that makes no sense is a ``ValueError`` at once, with near matches; never a surprise later.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

from ecoimpact import budgets
from ecoimpact.grid import GridIntensity, named
from ecoimpact.labels import MAX_KEY_CHARS, MAX_LABELS, MAX_VALUE_CHARS, clean
from ecoimpact.types import Exporter

UNSET: Final[Any] = type("Unset", (), {"__repr__": lambda _self: "<not given>"})()

DEFAULT_METHODOLOGY: Final = "ecologits"
MIN_HASH_KEY_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for every call: the arguments of ``instrument()``."""

    zone: str | None = None
    grid: GridIntensity | None = None
    methodology: Any = DEFAULT_METHODOLOGY
    log_dir: Path | None = None
    exporters: tuple[Exporter, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    request_stream_usage: bool = False
    log_mode: str = "background"
    log_fsync: str = "never"
    hash_labels: frozenset[str] = frozenset()
    hash_key: bytes | None = field(default=None, repr=False)
    budgets: tuple[budgets.Budget, ...] = ()


CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "log_mode": ("background", "sync"),
    "log_fsync": ("never", "batch"),
}
VARIABLES: Final[Mapping[str, str]] = {
    "zone": "ECOIMPACT_ZONE",
    "grid": "ECOIMPACT_GRID",
    "methodology": "ECOIMPACT_METHODOLOGY",
    "log_dir": "ECOIMPACT_LOG",
    "labels": "ECOIMPACT_LABELS",
    "request_stream_usage": "ECOIMPACT_REQUEST_STREAM_USAGE",
    "log_mode": "ECOIMPACT_LOG_MODE",
    "log_fsync": "ECOIMPACT_LOG_FSYNC",
    "hash_labels": "ECOIMPACT_HASH_LABELS",
}
FILE_KEYS: Final = frozenset({*VARIABLES, "budgets"})
HASH_KEY_VARIABLE: Final = "ECOIMPACT_HASH_KEY"
"""Not among ``VARIABLES``: a secret is neither shown nor kept in a file of the project."""


def near(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'openai'?``, or the list of what is known where nothing is near."""
    known = sorted(known)
    matches = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    if matches:
        return f"; did you mean {' or '.join(repr(m) for m in matches)}?"
    return f"; known: {', '.join(known)}"


def from_surroundings(cwd: Path | None = None) -> dict[str, Any]:
    """The settings that the environment and the nearest ``pyproject.toml`` give.

    Raises:
        ValueError: a variable or a key has a value that makes no sense, or a key is unknown.
    """
    settings = _from_file(cwd)
    for name, variable in VARIABLES.items():
        value = os.environ.get(variable)
        if value:
            parsed = _PARSERS[name](value, variable)
            settings[name] = {**settings.get(name, {}), **parsed} if name == "labels" else parsed
    if key := os.environ.get(HASH_KEY_VARIABLE):
        settings["hash_key"] = _hash_key(key, HASH_KEY_VARIABLE)
    return settings


def parse(name: str, value: Any, origin: str) -> Any:
    return _PARSERS[name](value, origin)


def _from_file(cwd: Path | None) -> dict[str, Any]:
    path = find_pyproject(cwd)
    if path is None:
        return {}
    try:
        table = tomllib.loads(path.read_text("utf-8")).get("tool", {}).get("ecoimpact", {})
    except (OSError, ValueError):
        return {}  # somebody else's broken file is no business of ours
    settings = {}
    for name, value in table.items():
        if name not in FILE_KEYS:
            raise ValueError(f"[tool.ecoimpact] in {path} has an unknown key {name!r}{near(name, FILE_KEYS)}")
        settings[name] = _PARSERS[name](value, f"{name} in [tool.ecoimpact] of {path}")
    return settings


def find_pyproject(cwd: Path | None = None) -> Path | None:
    """The nearest ``pyproject.toml`` at or above the working directory."""
    try:
        start = (cwd or Path.cwd()).resolve()
    except OSError:  # the working directory was deleted
        return None
    for folder in (start, *start.parents):
        if (path := folder / "pyproject.toml").is_file():
            return path
    return None


def _text(value: Any, origin: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{origin} must be a non-empty text, not {value!r}")
    return value


def _path(value: Any, origin: str) -> Path:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    return Path(_text(value, origin)).expanduser()


def _flag(value: Any, origin: str) -> bool:
    if isinstance(value, bool):
        return value
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError(f"{origin} must be true or false, not {value!r}")


def _labels(value: Any, origin: str) -> Mapping[str, str]:
    if isinstance(value, str):
        return parse_labels_text(value, origin)
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise ValueError(f"{origin} must map names to values, such as {{'app': 'chatbot'}}, not {value!r}")
    labels = {name: str(item) for name, item in value.items() if item is not None}
    for name, item in labels.items():
        if clean({name: item}) != {name: item}:
            raise ValueError(
                f"{origin}: the label {name!r} must be printable text, its name of 1 to {MAX_KEY_CHARS} and its value of "
                f"1 to {MAX_VALUE_CHARS} characters"
            )
    if len(labels) > MAX_LABELS:
        raise ValueError(f"{origin}: at most {MAX_LABELS} labels, not {len(labels)}")
    return labels


def parse_labels_text(text: str, origin: str) -> dict[str, str]:
    """``app=chatbot,team=search``; commas, equals signs and percent signs inside are percent-encoded.

    Raises:
        ValueError: a part is not ``name=value``, or is no label.

    >>> parse_labels_text("app=chatbot, team=R%2CD", "ECOIMPACT_LABELS")
    {'app': 'chatbot', 'team': 'R,D'}
    """
    labels = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise ValueError(f"{origin} must be like app=chatbot,team=search; {part!r} is not name=value")
        labels[unquote(name.strip())] = unquote(value.strip())
    return dict(_labels(labels, origin))


def format_labels(labels: Mapping[str, str]) -> str:
    """The text that :func:`parse_labels_text` reads.

    >>> format_labels({"app": "chatbot", "team": "R,D"})
    'app=chatbot,team=R%2CD'
    """
    return ",".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in labels.items())


def _names(value: Any, origin: str) -> frozenset[str]:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, Iterable) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{origin} must be names of labels, such as ['user'], not {value!r}")
    return frozenset(filter(None, (name.strip() for name in names)))


def _hash_key(value: Any, origin: str) -> bytes:
    key = value.encode() if isinstance(value, str) else value
    if not isinstance(key, bytes) or len(key) < MIN_HASH_KEY_BYTES:
        raise ValueError(f"{origin} must be a secret of at least {MIN_HASH_KEY_BYTES} bytes")  # never shown
    return key


def _choice(value: Any, origin: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ValueError(f"{origin} must be one of {', '.join(choices)}, not {value!r}")
    return str(value)


def _exporters(value: Any, origin: str) -> tuple[Exporter, ...]:
    exporters = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    for exporter in exporters:
        if not callable(exporter):
            raise ValueError(  # noqa: TRY004 - one type for all that is configured wrongly
                f"{origin} must be callables that take a Record, not {exporter!r}"
            )
    return exporters


def _grid(value: Any, origin: str) -> GridIntensity:
    if isinstance(value, str | os.PathLike):
        try:
            return named(os.fspath(value))
        except ValueError as error:
            raise ValueError(f"{origin}: {error}") from None
    if not isinstance(value, GridIntensity):
        raise ValueError(  # noqa: TRY004 - as above
            f"{origin} must be a name, the path of a .csv file, or have name and gwp_kgco2eq_per_kwh, not {value!r}"
        )
    return value


def _methodology(value: Any, origin: str) -> Any:
    return _text(value, origin) if isinstance(value, str) else value


_PARSERS: Final[Mapping[str, Callable[[Any, str], Any]]] = {
    "zone": _text,
    "grid": _grid,
    "methodology": _methodology,
    "log_dir": _path,
    "exporters": _exporters,
    "labels": _labels,
    "request_stream_usage": _flag,
    "log_mode": partial(_choice, choices=CHOICES["log_mode"]),
    "log_fsync": partial(_choice, choices=CHOICES["log_fsync"]),
    "hash_labels": _names,
    "hash_key": _hash_key,
    "budgets": budgets.parse,
}

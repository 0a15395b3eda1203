"""A fleet as a TOML file describes it: its kind, its parameters by their names, and what a request takes of it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, NamedTuple

from ecoimpact.cli.output import near, wrong
from ecoimpact.deployments import GPUServer, ManagedInference

KINDS: Final = {"gpu-server": GPUServer, "managed-inference": ManagedInference}
OF_A_REQUEST: Final = ("duration_s", "gpu_per_request", "ram_gb_per_request")
"""What a file of a GPU server may say besides: a number, or a table by group."""


class Described(NamedTuple):
    """A fleet, what a request takes of it, and the names of all that was given."""

    deployment: GPUServer | ManagedInference
    of_a_request: dict[str, Any]
    given: frozenset[str]


def read(path: Path) -> Described:
    """The fleet of a file.

    Raises:
        typer.BadParameter: it cannot be read, or says what cannot be; near names are listed.
    """
    try:
        described = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise wrong(f"{path}: {error.strerror or error}", "--server") from None
    except ValueError as error:  # of TOML and of UTF-8
        raise wrong(f"{path} is no TOML: {error}", "--server") from None
    try:
        return described_by(described)
    except ValueError as error:
        raise wrong(f"{path}: {error}", "--server") from None


def described_by(described: Mapping[str, Any]) -> Described:
    """The same of what is in the file.

    Raises:
        ValueError: no such kind or parameter, or a value that it cannot have.
    """
    kind = described.get("kind")
    if kind not in (*KINDS,):
        lines = " or ".join(f'kind = "{name}"' for name in KINDS)
        raise ValueError(f"it needs a line {lines}" + ("" if kind is None else f", and has {kind!r}"))
    made = KINDS[kind]
    of_a_request = OF_A_REQUEST if made is GPUServer else ()
    parameters = [field.name for field in fields(made) if field.init]
    known = (*parameters, *of_a_request)
    for name in described:
        if name not in ("kind", *known):
            hint = near(name, known) or f" Known: {', '.join(known)}."
            raise ValueError(f"{name!r} is no parameter of {kind}.{hint}")
    if not isinstance(described.get("name", ""), str):
        raise ValueError(f"name must be a text, got {described['name']!r}")  # noqa: TRY004 - wrong settings are ValueErrors
    given = {name: value for name, value in described.items() if name in parameters}
    return Described(
        made(**given),
        {name: described[name] for name in of_a_request if name in described},
        frozenset(described),
    )

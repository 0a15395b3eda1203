"""``ecoimpact doctor``: what is installed, what gets watched, which settings hold, what the figures rest on."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from importlib import import_module, metadata
from pathlib import Path
from typing import Annotated, Any

import typer

import ecoimpact
from ecoimpact import config, data, methodologies, runtime
from ecoimpact.cli.output import DEFAULT_LOG, console, print_json, show, table
from ecoimpact.providers import all_providers

PACKAGES = ("wrapt", "typer", "rich", "genai-prices", "numpy")


def command(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check the installation. Exits with 1 when something needs attention."""
    report = examine()
    if json:
        print_json(report)
    else:
        _show(report)
    if report["problems"]:
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """All findings as plain data; ``problems`` are sentences about what needs attention."""
    problems: list[str] = []
    settings = _settings(problems)
    return {
        "ecoimpact": ecoimpact.__version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "settings": settings,
        "sdks": _sdks(problems),
        "methodologies": list(methodologies.names()),
        "data": {
            "version": data.DATA_VERSION,
            "tables": [
                {"name": t.name, "rows": t.rows, "date": t.date, "age_days": _age_days(t.date)} for t in data.tables()
            ],
        },
        "log": _log(settings["values"].get("log_dir", DEFAULT_LOG), problems),
        "problems": problems,
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _age_days(day: str) -> int:
    """How long ago a day was; 0 for one that this machine's clock has not come to."""
    return max(0, (datetime.now(UTC).date() - date.fromisoformat(day)).days)


def _settings(problems: list[str]) -> dict[str, Any]:
    path = config.find_pyproject()
    found: dict[str, Any] = {
        "environment": {name: os.environ[name] for name in config.VARIABLES.values() if os.environ.get(name)},
        "pyproject": str(path) if path else None,
        "values": {},
    }
    try:
        found["values"] = {name: _shown(name, value) for name, value in config.from_surroundings().items()}
    except ValueError as error:
        problems.append(str(error))
    return found


def _shown(name: str, value: Any) -> Any:
    if name == "hash_key":
        return "(set)"  # a secret
    if isinstance(value, Mapping):
        return dict(value)
    return ", ".join(sorted(map(str, value))) if isinstance(value, frozenset | tuple) else str(value)


def _sdks(problems: list[str]) -> dict[str, Any]:
    """Import every SDK that is installed under ``instrument()``, look, and put everything back."""
    was_instrumented = runtime.status()["instrumented"]
    try:
        if not was_instrumented:
            ecoimpact.instrument()
        for name, provider in runtime.status()["providers"].items():
            # Some SDKs load their parts when they are first used.
            wanted = _is_wanted(name, provider) and _version(provider["distribution"]) is not None
            for module in provider["modules"] if wanted else ():
                with contextlib.suppress(ImportError):  # of another generation, or for a cloud whose own SDK is missing
                    import_module(module)
        providers = runtime.status()["providers"]
    except ValueError as error:
        if str(error) not in problems:
            problems.append(str(error))
        providers = runtime.status()["providers"]
    finally:
        if not was_instrumented:
            ecoimpact.uninstrument()
    return {name: _sdk(name, provider, problems) for name, provider in providers.items()}


def _is_wanted(name: str, provider: dict[str, Any]) -> bool:
    """Whether a provider is watched, or is one that ``instrument()`` alone would watch."""
    return provider["enabled"] or not all_providers()[name].opt_in


def _sdk(name: str, provider: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    package, supported = provider["distribution"], provider["supported"]
    version = _version(package)
    within = None if version is None else in_range(version, supported)
    if within is False and _is_wanted(name, provider):
        problems.append(f"{package} {version} is outside the range that is known to work, {supported}")
    missing = provider["missing"] if version is not None and provider["enabled"] else []
    if missing:
        problems.append(f"{package} {version} has changed: not found are {', '.join(missing)}")
    return {
        "version": version,
        "supported": supported,
        "in_range": within,
        "opt_in": all_providers()[name].opt_in,
        "wrapped": provider["patched"],
        "missing": missing,
    }


def in_range(version: str, supported: str) -> bool:
    """Whether a version lies in a range such as ``>=1.66,<4``; by its numbers alone.

    >>> in_range("3.54.0", ">=1.66,<4"), in_range("4.0", ">=1.66,<4"), in_range("1.66", ">=1.66,<4")
    (True, False, True)
    """
    have = _numbers(version)
    for bound in supported.split(","):
        operator, number = re.fullmatch(r"\s*(>=|<)\s*([\d.]+)\s*", bound).groups()  # type: ignore[union-attr]
        if (have >= _numbers(number)) is not (operator == ">="):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _log(log_dir: str, problems: list[str]) -> dict[str, Any]:
    path = Path(log_dir).absolute()
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    if not writable:
        problems.append(f"the log directory {path} cannot be written")
    return {"path": str(path), "exists": path.is_dir(), "writable": writable}


def _show(report: dict[str, Any]) -> None:
    out = console()
    out.print(f"ecoimpact {report['ecoimpact']}, Python {report['python']}", style="bold")
    sdks = table("SDK", "version", "supported", "wrapped calls", numbers=("wrapped calls",))
    for name, sdk in report["sdks"].items():
        state = "not installed" if sdk["version"] is None else sdk["version"] + ("" if sdk["in_range"] else " (!)")
        wrapped = str(len(sdk["wrapped"])) if sdk["wrapped"] or not sdk["opt_in"] else "if named"
        sdks.add_row(name, state, sdk["supported"], wrapped if sdk["version"] else "")
    show(out, sdks)
    packages = (f"{name} {version or 'not installed'}" for name, version in report["packages"].items())
    out.print("packages  " + ", ".join(packages), markup=False)
    out.print("editions  " + ", ".join(report["methodologies"]), markup=False)
    tables = table("data", "rows", "newest source", "days ago", numbers=("rows", "days ago"))
    for entry in report["data"]["tables"]:
        tables.add_row(entry["name"], str(entry["rows"]), entry["date"], str(entry["age_days"]))
    show(out, tables)
    out.print(f"data      version {report['data']['version']}", markup=False)
    settings = report["settings"]
    values = ", ".join(f"{name} = {value}" for name, value in settings["values"].items()) or "defaults"
    out.print(f"settings  {values}", markup=False)
    log = report["log"]
    state = "writable" if log["writable"] else "not writable"
    out.print(f"log       {log['path']} ({state}{'' if log['exists'] else ', not there yet'})", markup=False)
    for problem in report["problems"]:
        out.print(f"! {problem}", style="bold red", markup=False)
    if not report["problems"]:
        out.print("All is well.", style="green")

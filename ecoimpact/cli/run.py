"""``ecoimpact run``: start a program with its LLM calls recorded, without touching it.

Rules: the program takes the place of this process, so that signals, exit code, terminal and process id are its own. All
that it and its children get from us are a few ``ECOIMPACT_*`` variables and a folder in front of ``PYTHONPATH``, in which
Python finds the hook of :mod:`ecoimpact.autoload` at its start. What is wrong is said before the program starts.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperCommand

from ecoimpact import autoload, config, engine
from ecoimpact.cli.output import DEFAULT_LOG, near, wrong
from ecoimpact.providers import all_providers

OPTIONS: Final = ("--log", "--label", "--zone", "--methodology")
SCRIPTS: Final = (".py", ".pyw", ".pyz")
CAN_EXEC: Final = os.name != "nt"
"""On Windows a process cannot be replaced."""

HOOK: Final = str(Path(autoload.__file__).parent)


class Command(TyperCommand):
    """A command whose options end where the program begins: at the first word that is none of them, or at ``-m``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        start = 0
        while start < len(args) and args[start].startswith("--") and args[start] != "--":
            start += 2 if args[start] in OPTIONS else 1
        program = args[start:]
        return super().parse_args(ctx, [*args[:start], "--", *program] if program and program[0] != "--" else args)


def command(
    program: Annotated[
        list[str], typer.Argument(metavar="PROGRAM", help="script.py, -m module or a command; then its arguments.")
    ],
    *,
    log: Annotated[Path | None, typer.Option(help="Directory of the log.")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A label for every record.")] = None,
    zone: Annotated[str | None, typer.Option(help="Electricity zone; default: the provider's own.")] = None,
    methodology: Annotated[str | None, typer.Option(help="Edition to compute with.")] = None,
) -> None:
    """Start a program and record its LLM calls, those of its child processes too, without touching it.

    Options come before the program: all that follows it is its own.
    """
    settings = _settings(log=log, labels=label or [], zone=zone, methodology=methodology)
    _become(_arguments(program), {**os.environ, **settings, "PYTHONPATH": _python_path()})


# --- what to start ------------------------------------------------------------------------------------------------------


def _arguments(program: list[str]) -> list[str]:
    """The command line of the program; Python's own where it is a script or a module."""
    name, *rest = program
    if name.startswith("-m"):
        _check_module(name[2:] or "".join(rest[:1]))
        return [sys.executable, *program]
    if name.startswith("-"):
        raise wrong(f"no such option. Known: {', '.join(OPTIONS)}, and -m MODULE", name)
    if name.endswith(SCRIPTS):
        if not Path(name).is_file():
            raise wrong(f"no script {name!r}.{near(Path(name).name, _scripts(Path(name).parent))}", "PROGRAM")
        return [sys.executable, *program]
    if shutil.which(name):
        return program
    if Path(name).is_file() or Path(name, "__main__.py").is_file():
        return [sys.executable, *program]
    if _module_exists(name):
        raise wrong(f"no command {name!r}, but a module: ecoimpact run -m {name}", "PROGRAM")
    raise wrong(f"no script and no command {name!r}.{near(name, [*_scripts(Path()), *_commands()])}", "PROGRAM")


def _check_module(name: str) -> None:
    if not name:
        raise wrong("it needs a module, as in: ecoimpact run -m uvicorn app:app", "-m")
    if not _module_exists(name):
        hint = near(name.partition(".")[0], {*sys.stdlib_module_names, *(module.name for module in iter_modules())})
        raise wrong(f"no module {name!r}.{hint}", "-m")


def _module_exists(name: str) -> bool:
    """Whether the program's Python will find the package of that name; it looks into the working directory too."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        return find_spec(name.partition(".")[0]) is not None
    except ValueError:
        return False


def _scripts(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*") if path.suffix in SCRIPTS]


def _commands() -> Iterable[str]:
    for folder in os.get_exec_path():
        if Path(folder).is_dir():
            yield from (path.name for path in Path(folder).iterdir())


# --- with which settings ------------------------------------------------------------------------------------------------


def _settings(*, log: Path | None, labels: list[str], zone: str | None, methodology: str | None) -> dict[str, str]:
    """The variables that carry the settings, valid as a whole: those of the surroundings are looked at as well."""
    try:
        found = config.from_surroundings()
    except ValueError as error:
        raise wrong(str(error), "settings") from None
    try:
        checked_zone = engine.validate_zone(zone or found["zone"]) if zone or "zone" in found else None
    except ValueError as error:
        raise wrong(str(error), "--zone" if zone else "settings") from None
    try:
        engine.validate_methodology(methodology or found.get("methodology", config.DEFAULT_METHODOLOGY))
    except ValueError as error:
        raise wrong(str(error), "--methodology" if methodology else "settings") from None
    given = _labels(labels)
    variables = {
        "ECOIMPACT_RUN": ",".join(sorted({provider.package for provider in all_providers().values()})),
        "ECOIMPACT_LOG": str(_log(log or found.get("log_dir") or Path(DEFAULT_LOG))),
    }
    if given:
        variables["ECOIMPACT_LABELS"] = config.format_labels({**found.get("labels", {}), **given})
    if zone and checked_zone:
        variables["ECOIMPACT_ZONE"] = checked_zone
    if methodology:
        variables["ECOIMPACT_METHODOLOGY"] = methodology
    return variables


def _log(path: Path) -> Path:
    path = path.expanduser().absolute()  # the program may change its working directory, and its children have their own
    if path.exists() and not path.is_dir():
        raise wrong(f"{path} is no directory", "--log")
    return path


def _labels(texts: list[str]) -> dict[str, str]:
    labels = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise wrong(f"{text!r} is not NAME=VALUE, such as app=chatbot", "--label")
        labels[name] = value
    try:
        return dict(config.parse("labels", labels, "labels"))
    except ValueError as error:
        raise wrong(str(error), "--label") from None


def _python_path() -> str:
    """The hook's folder before the others, and no empty entry, which would mean the working directory."""
    before = os.environ.get("PYTHONPATH", "")
    others = [folder for folder in before.split(os.pathsep) if folder != HOOK] if before else []
    return os.pathsep.join([HOOK, *others])


# --- starting it --------------------------------------------------------------------------------------------------------


def _become(arguments: list[str], environment: dict[str, str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        if not CAN_EXEC:
            raise typer.Exit(_wait_for(subprocess.Popen(arguments, env=environment)))  # noqa: S603 - what the user named
        for name in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them, and what is ignored stays so in the program
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        os.execvpe(arguments[0], arguments, environment)  # noqa: S606 - the same
    except OSError as error:
        raise wrong(f"{arguments[0]!r} cannot be run: {error.strerror}", "PROGRAM") from None


def _wait_for(program: subprocess.Popen[bytes]) -> int:
    """The exit code of the program, which gets Ctrl-C itself."""
    while True:
        try:
            return program.wait()
        except KeyboardInterrupt:
            continue

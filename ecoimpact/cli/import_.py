"""``ecoimpact import``: usage that others logged becomes records."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any

import typer

from ecoimpact import config, engine
from ecoimpact.cli.files import STDOUT as STDIN
from ecoimpact.cli.log_options import DEFAULT, Log, checked_choice, checked_label, failures_said
from ecoimpact.cli.output import console, print_json, show, table, wrong
from ecoimpact.cli.printable import counted, printable
from ecoimpact.cli.progress import progress
from ecoimpact.imports import all_sources
from ecoimpact.imports.facts import Source
from ecoimpact.imports.making import Maker
from ecoimpact.imports.mapping import read_mapping, source_of
from ecoimpact.imports.rejects import Rejects
from ecoimpact.imports.rows import FORMATS
from ecoimpact.imports.run import Imported, import_files
from ecoimpact.labels import hashed
from ecoimpact.types import Methodology

MAPPING = "mapping"


def command(
    source: Annotated[str, typer.Argument(help="litellm, langfuse, otel, openai, anthropic, helicone, or mapping.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Exports, gzipped or not; - is standard input.")],
    *,
    log: Log = DEFAULT,
    format: Annotated[  # noqa: A002 - the option's name
        str | None, typer.Option(help=f"One of {', '.join(FORMATS)}; default: what the file looks like.")
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option(help="For mapping: a TOML or JSON file, our fields to their columns.", show_default=False)
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(metavar="OURS=THEIRS", help="For mapping: one field; may be given several times.", show_default=False),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OURS=THEIRS", help="A label from a column, such as team=metadata.team; repeatable.", show_default=False
        ),
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Who served the rows that do not say.")] = None,
    zone: Annotated[str | None, typer.Option(help="Electricity zone, such as FRA; default: the provider's own.")] = None,
    methodology: Annotated[str, typer.Option(help="Edition to compute with.")] = engine.DEFAULT_METHODOLOGY,
    rejects: Annotated[
        Path | None, typer.Option(help="Where turned away rows are noted; default: a file in the log's directory.")
    ] = None,
    keep_rejected_rows: Annotated[
        bool, typer.Option("--keep-rejected-rows", help="Note the rows themselves too, with all that is in them.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print what became of the rows as JSON.")] = False,
) -> None:
    """Make records of what LiteLLM, Langfuse, OpenTelemetry, OpenAI, Anthropic, Helicone or others logged.

    The same file twice adds nothing.
    """
    chosen = _source(source, mapping, field or [])
    if format is not None:
        checked_choice(format, FORMATS, "--format")
    for path in files:
        if path != STDIN and not path.is_file():
            raise wrong(f"there is no file {path}", "FILE")
    if log.exists() and not log.is_dir():
        raise wrong(f"{log} is no directory", "--log")
    if rejects is not None and rejects.exists():
        raise wrong(f"there is a file {rejects} already", "--rejects")
    labels = dict(filter(None, (checked_label(text) for text in label or [])))
    edition, place = _edition(methodology), _zone(zone)
    try:
        maker = Maker(chosen, methodology=edition, zone=place, provider=provider, labels=labels, hashed=_hashed())
    except ValueError as error:
        raise wrong(str(error), "--label") from None
    aside = Rejects(
        rejects or log / f"rejected-{datetime.now(UTC):%Y%m%dT%H%M%S}-{token_hex(2)}.jsonl", keep_rows=keep_rejected_rows
    )
    columns = [part for path in labels.values() for part in (path, path.partition(".")[0])]
    try:
        with failures_said(), progress("importing") as update:
            imported = import_files(chosen, files, log, maker, aside, format=format, columns=columns, progress=update)
    except ValueError as error:
        raise wrong(str(error), "FILE") from None
    if json:
        print_json(imported.to_dict())
    else:
        _show(imported)
    if imported.rejected:
        print(f"{counted(imported.rejected.total(), 'row')} turned away, noted in {printable(aside.path)}", file=sys.stderr)
    if imported.rows and not imported.imported + imported.present + imported.not_requests:
        print(f"ecoimpact: no row is one of {chosen.name}", file=sys.stderr)
        raise typer.Exit(1)


def _source(name: str, mapping: Path | None, fields: list[str]) -> Source:
    if name != MAPPING:
        if mapping is not None or fields:
            raise wrong("--mapping and --field are for: ecoimpact import mapping", "SOURCE")
        return all_sources()[checked_choice(name, (*sorted(all_sources()), MAPPING), "source")]
    if mapping is None and not fields:
        raise wrong("say which columns hold what: --mapping FILE, or --field OURS=THEIRS", "--mapping")
    try:
        given = read_mapping(mapping) if mapping is not None else {}
        if fields:
            given = {**given, "fields": {**given.get("fields", {}), **dict(_pair(text) for text in fields)}}
        return source_of(given, name=mapping.stem if mapping is not None else MAPPING)
    except OSError as error:
        raise wrong(f"{mapping}: {error.strerror or error}", "--mapping") from None
    except ValueError as error:
        raise wrong(str(error), "--mapping") from None


def _edition(name: str) -> Methodology:
    try:
        return engine.validate_methodology(name)
    except ValueError as error:
        raise wrong(str(error), "--methodology") from None


def _zone(zone: str | None) -> str | None:
    try:
        return None if zone is None else engine.validate_zone(zone)
    except ValueError as error:
        raise wrong(str(error), "--zone") from None


def _pair(text: str) -> tuple[str, str]:
    ours, equals, theirs = text.partition("=")
    if not (ours and equals and theirs):
        raise wrong(f"{text!r} is not OURS=THEIRS, such as model=model_name", "--field")
    return ours, theirs


def _hashed() -> Callable[[str, str], str]:
    """Labels that are hashed where programs write them are hashed here as well."""
    try:
        settings: dict[str, Any] = config.from_surroundings()
    except ValueError as error:
        raise wrong(str(error), "settings") from None
    names, key = settings.get("hash_labels", ()), settings.get("hash_key")
    if names and key is None:
        raise wrong(f"the settings have labels hashed; set {config.HASH_KEY_VARIABLE}", "--label")
    return lambda name, value: hashed(value, key) if name in names and key is not None else value


def _show(imported: Imported) -> None:
    rows = table("rows", "", numbers=[""])
    rows.add_row("read", f"{imported.rows:,}")
    rows.add_row("imported", f"{imported.imported:,}")
    rows.add_row("already there", f"{imported.present:,}")
    rows.add_row("not requests", f"{imported.not_requests:,}")
    for reason, number in sorted(imported.rejected.items()):
        rows.add_row(f"turned away: {reason}", f"{number:,}")
    rows.add_section()
    rows.add_row("records written", f"{imported.records:,}")
    rows.add_row("of these without figures", f"{imported.unestimated:,}")
    for code, number in sorted(imported.errors.items()):
        rows.add_row(f"  {printable(code)}", f"{number:,}")
    show(console(), rows)

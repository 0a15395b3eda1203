"""What a program waits for: a call and a streamed chunk, against the bare SDK. ``python -m benchmarks.overhead``.

Rules: both sides of a ratio are timed in turns in one process. What starts a thread or cannot be taken out again (a log,
the peers) has a process of its own, in which the functions that it wrapped are exchanged for the SDK's own and back: to
start and end a thread for every turn would slow the caller for longer than the turn lasts.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import ecoimpact
from benchmarks.measure import BARE, Ratio, Variant, ratios
from benchmarks.transport import works
from ecoimpact.providers import all_providers

WITH_LOG = "ecoimpact, log"
PEERS = {"EcoLogits": "ecologits", "OpenTelemetry": "opentelemetry.instrumentation.openai_v2", "Sentry": "sentry_sdk"}
FAILS, NOT_WATCHED, NOT_RUN = "fails", "–", "not run"
Cell: TypeAlias = Ratio | str
Row: TypeAlias = dict[str, Cell]
Place: TypeAlias = tuple[str, str]

CREATED: dict[str, Place] = {
    "chat": ("openai.resources.chat.completions.completions", "Completions"),
    "chat, async": ("openai.resources.chat.completions.completions", "AsyncCompletions"),
    "responses": ("openai.resources.responses.responses", "Responses"),
    "messages": ("anthropic.resources.messages.messages", "Messages"),
    "chat stream": ("openai.resources.chat.completions.completions", "Completions"),
    "chat stream, async": ("openai.resources.chat.completions.completions", "AsyncCompletions"),
    "responses stream": ("openai.resources.responses.responses", "Responses"),
    "messages stream": ("anthropic.resources.messages.messages", "Messages"),
}
"""The class whose ``create`` each work calls: where the peers wrap."""


def _start(name: str) -> None:
    warnings.simplefilter("ignore")
    if name == WITH_LOG:
        ecoimpact.instrument(log_dir=tempfile.mkdtemp(prefix="ecoimpact-bench-"))
    elif name == "EcoLogits":
        importlib.import_module("ecologits").EcoLogits.init(providers=["openai", "anthropic"])
    elif name == "OpenTelemetry":
        trace = importlib.import_module("opentelemetry.sdk.trace")
        importlib.import_module("opentelemetry.trace").set_tracer_provider(trace.TracerProvider())
        importlib.import_module(PEERS[name]).OpenAIInstrumentor().instrument()
    else:
        sentry = importlib.import_module("sentry_sdk")
        openai = importlib.import_module("sentry_sdk.integrations.openai").OpenAIIntegration()
        anthropic = importlib.import_module("sentry_sdk.integrations.anthropic").AnthropicIntegration()
        sentry.init(
            dsn="http://key@127.0.0.1/1",
            traces_sample_rate=1.0,
            transport=lambda _envelope: None,
            default_integrations=False,
            integrations=[openai, anthropic],
        )


def _places() -> set[Place]:
    """Every class that anyone wraps a method of."""
    ours = {(t.module, t.name.rpartition(".")[0]) for provider in all_providers().values() for t in provider.targets}
    return {*ours, *CREATED.values()}


def _classes(places: Iterable[Place]) -> dict[Place, Any]:
    found = {}
    for module, name in places:
        try:
            found[module, name] = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):  # another generation of the SDK
            continue
    return found


def _switched(name: str) -> tuple[Variant, set[Place]]:
    """Something that stays on, switched by exchanging the methods that it wrapped; and the classes where it wrapped any."""
    classes = _classes(_places())
    before = {place: dict(vars(c)) for place, c in classes.items()}
    _start(name)
    changed = [
        (place, key, before[place][key], new)
        for place, c in classes.items()
        for key, new in dict(vars(c)).items()
        if key in before[place] and before[place][key] is not new
    ]

    def switch(on: bool) -> None:
        for place, key, old, new in changed:
            setattr(classes[place], key, new if on else old)

    switch(False)
    return Variant(lambda: switch(True), lambda: switch(False)), {place for place, *_ in changed}


def measure(
    variants: dict[str, Variant], *, rounds: int, watches: Callable[[str], bool] = lambda _work: True
) -> dict[str, Row]:
    table: dict[str, Row] = {}
    for name, work in works().items():
        if not watches(name):
            table[name] = dict.fromkeys(variants, NOT_WATCHED)
            continue
        repeat = 4 if "stream" in name else 40
        try:
            table[name] = dict(ratios(work, variants, rounds=rounds, repeat=repeat))
        except Exception as error:
            print(f"{name}: {type(error).__name__}", file=sys.stderr)
            table[name] = dict.fromkeys(variants, FAILS)
    return table


def _measure_alone(name: str, rounds: int) -> dict[str, Row]:
    variant, wrapped = _switched(name)
    return measure({name: variant}, rounds=rounds, watches=lambda work: name == WITH_LOG or CREATED[work] in wrapped)


PROCESSES = 3
"""Two processes that do the same differ by a few per cent, by where their memory lies: the middle one of these counts."""


def _in_own_processes(name: str, rounds: int, progress: Callable[[str], object]) -> dict[str, Row]:
    runs = [_in_own_process(name, max(rounds // PROCESSES, 2), progress) for _ in range(PROCESSES)]
    return {work: {name: _middle([run[work][name] for run in runs])} for work in CREATED}


def _middle(cells: list[Cell]) -> Cell:
    measured = sorted(cell for cell in cells if isinstance(cell, Ratio))
    return measured[len(measured) // 2] if measured else cells[0]


def _in_own_process(name: str, rounds: int, progress: Callable[[str], object]) -> dict[str, Row]:
    command = [sys.executable, "-m", "benchmarks.overhead", "--alone", name, "--rounds", str(rounds)]
    with tempfile.TemporaryDirectory(prefix="ecoimpact-bench-") as folder:  # of its own: what the process leaves behind
        surroundings = os.environ | {"TMPDIR": folder}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=surroundings)
    if done.returncode != 0:
        progress(f"{name} could not run: {done.stderr.strip().splitlines()[-1]}")
        return {work: {name: NOT_RUN} for work in CREATED}
    raw: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return {
        work: {column: cell if isinstance(cell, str) else Ratio(*cell) for column, cell in row.items()}
        for work, row in raw.items()
    }


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def table(*, rounds: int, peers: bool, progress: Callable[[str], object]) -> str:
    """Run everything; a Markdown table of ratios."""
    progress("overhead: ecoimpact")
    ours = {"bare again": BARE, "ecoimpact": Variant(ecoimpact.instrument, ecoimpact.uninstrument)}
    rows = measure(ours, rounds=rounds)
    alone = [WITH_LOG, *(name for name, module in PEERS.items() if peers and installed(module))]
    for name in alone:
        progress(f"overhead: {name}")
        for work, row in _in_own_processes(name, rounds, progress).items():
            rows[work].update(row)
    columns = [*ours, *alone]
    lines = [f"| | bare, µs | {' | '.join(columns)} |", "|---|---" + "|---" * len(columns) + "|"]
    for work, row in rows.items():
        bare = row["bare again"]
        bare_us = f"{bare.baseline_s * 1e6:.0f}" if isinstance(bare, Ratio) else bare
        lines.append(f"| {work} | {bare_us} | " + " | ".join(str(row[c]) for c in columns) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--alone", choices=[WITH_LOG, *PEERS], help="this one, in this process, as JSON")
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(_measure_alone(arguments.alone, arguments.rounds)))
    else:
        print(table(rounds=arguments.rounds, peers=True, progress=lambda text: print(text, file=sys.stderr)))


if __name__ == "__main__":
    main()

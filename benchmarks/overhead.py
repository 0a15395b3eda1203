"""What a program waits for: a call and a streamed chunk, against the bare SDK. ``python -m benchmarks.overhead``."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable

import ecoimpact
from benchmarks.measure import BARE, Ratio, Variant, ratios
from benchmarks.transport import works

PEERS = {"EcoLogits": "ecologits", "OpenTelemetry": "opentelemetry.instrumentation.openai_v2", "Sentry": "sentry_sdk"}
"""Each measured in a process of its own, since they cannot be taken out again."""


def _ours() -> dict[str, Variant]:
    log = tempfile.mkdtemp(prefix="ecoimpact-bench-")
    return {
        "bare again": BARE,
        "ecoimpact": Variant(ecoimpact.instrument, ecoimpact.uninstrument),
        "ecoimpact, log": Variant(lambda: ecoimpact.instrument(log_dir=log), ecoimpact.uninstrument),
    }


def _start_peer(name: str) -> None:
    warnings.simplefilter("ignore")
    if name == "EcoLogits":
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


CLASSES = (
    ("openai.resources.chat.completions.completions", "Completions"),
    ("openai.resources.chat.completions.completions", "AsyncCompletions"),
    ("openai.resources.responses.responses", "Responses"),
    ("anthropic.resources.messages.messages", "Messages"),
)


def _peer(name: str) -> Variant:
    """A peer, switched by exchanging the methods that it wrapped."""
    classes = [getattr(importlib.import_module(module), attribute) for module, attribute in CLASSES]
    before = [dict(vars(c)) for c in classes]
    _start_peer(name)
    changed = [(c, key, old.get(key), new) for c, old in zip(classes, before, strict=True)
               for key, new in dict(vars(c)).items() if old.get(key) is not new]  # fmt: skip

    def switch(on: bool) -> None:
        for owner, key, old, new in changed:
            setattr(owner, key, new if on else old)

    switch(False)
    return Variant(lambda: switch(True), lambda: switch(False))


def measure(variants: Callable[[], dict[str, Variant]], *, rounds: int) -> dict[str, dict[str, Ratio]]:
    switches = variants()
    table = {}
    for name, work in works().items():
        work()
        repeat = 4 if "stream" in name else 40
        try:
            table[name] = ratios(work, switches, rounds=rounds, repeat=repeat)
        except Exception as error:  # a peer that breaks the call has no ratio
            print(f"{name}: {type(error).__name__}", file=sys.stderr)
    return table


def _in_own_process(peer: str, rounds: int) -> dict[str, dict[str, Ratio]]:
    command = [sys.executable, "-m", "benchmarks.overhead", "--peer", peer, "--rounds", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return {}
    raw: dict[str, dict[str, list[float]]] = json.loads(done.stdout.splitlines()[-1])
    return {work: {name: Ratio(*ratio) for name, ratio in row.items()} for work, row in raw.items()}


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def table(*, rounds: int, peers: bool, progress: Callable[[str], object]) -> str:
    """Run everything; a Markdown table of ratios."""
    progress("overhead: ecoimpact")
    rows = measure(_ours, rounds=rounds)
    columns = ["bare again", "ecoimpact", "ecoimpact, log"]
    for peer, module in PEERS.items() if peers else ():
        if installed(module):
            progress(f"overhead: {peer}")
            columns.append(peer)
            for work, row in _in_own_process(peer, max(rounds // 2, 3)).items():
                rows[work].update(row)
    lines = [f"| | bare, µs | {' | '.join(columns)} |", "|---|---" + "|---" * len(columns) + "|"]
    for work, row in rows.items():
        bare_us = row["ecoimpact"].baseline_s * 1e6
        lines.append(f"| {work} | {bare_us:.0f} | " + " | ".join(str(row.get(c, "fails")) for c in columns) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--peer", choices=list(PEERS))
    arguments = parser.parse_args()
    if arguments.peer:
        rows = measure(lambda: {arguments.peer: _peer(arguments.peer)}, rounds=arguments.rounds)
        print(json.dumps(rows))
    else:
        print(table(rounds=arguments.rounds, peers=True, progress=lambda text: print(text, file=sys.stderr)))


if __name__ == "__main__":
    main()

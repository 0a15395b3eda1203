"""What importing and switching on costs a program at its start. ``python -m benchmarks.import_time``."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

PROGRAMS = {
    "bare Python": "pass",
    "`import ecoimpact`": "import ecoimpact",
    "`ecoimpact.instrument()`": "import ecoimpact; ecoimpact.instrument()",
    "`ecoimpact.estimate(...)`": "import ecoimpact; ecoimpact.estimate('gpt-4o-mini', output_tokens=400)",
    "`import ecologits`": "import ecologits",
    "`EcoLogits.init()`, both SDKs": "from ecologits import EcoLogits; EcoLogits.init(providers=['openai', 'anthropic'])",
    "`ecoimpact.instrument()`, both SDKs imported": "import ecoimpact; ecoimpact.instrument(); import openai, anthropic",
    "both SDKs imported": "import openai, anthropic",
}


def table(*, rounds: int) -> str:
    """Milliseconds over bare Python: medians over processes that take turns."""
    samples: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for number in range(rounds + 1):
        for name, code in PROGRAMS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
            if number:  # the first round writes byte code
                samples[name].append((time.perf_counter() - started) * 1e3)
    bare_ms = statistics.median(samples["bare Python"])
    lines = ["| | ms over bare Python |", "|---|---|"]
    lines += [f"| {name} | {statistics.median(times) - bare_ms:.0f} |" for name, times in samples.items() if name in _SHOWN]
    return "\n".join(lines)


_SHOWN = [name for name in PROGRAMS if name != "bare Python"]

if __name__ == "__main__":
    print(table(rounds=15))

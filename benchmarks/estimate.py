"""``ecoimpact.estimate()`` against EcoLogits' ``llm_impacts()``. ``python -m benchmarks.estimate``."""

from __future__ import annotations

import logging

import ecoimpact
from benchmarks.measure import Action, Variant, ratios

CALLS = 200


def table(*, rounds: int) -> str:
    """Microseconds a call, and how many times faster, as a Markdown table."""
    from ecologits.tracers.utils import llm_impacts

    logging.getLogger("ecologits").setLevel(logging.CRITICAL)

    def estimate() -> None:
        for _ in range(CALLS):
            ecoimpact.estimate("gpt-4o-mini", output_tokens=400, provider="openai", latency_s=5.0)

    def estimate_and_read() -> None:
        for _ in range(CALLS):
            impacts = ecoimpact.estimate("gpt-4o-mini", output_tokens=400, provider="openai", latency_s=5.0)
            assert impacts.energy is not None

    def same_edition() -> None:
        for _ in range(CALLS):
            ecoimpact.estimate(
                "gpt-4o-mini", output_tokens=400, provider="openai", latency_s=5.0, methodology="ecologits-0.11"
            )

    def ecologits() -> None:
        for _ in range(CALLS):
            llm_impacts("openai", "gpt-4o-mini", 400, 5.0)

    chosen: list[Action] = [ecologits]

    def choose(work: Action) -> Variant:
        return Variant(lambda: chosen.append(work), chosen.pop)

    variants = {
        "`estimate()`": choose(estimate),
        "`estimate()`, methodology `ecologits-0.11`": choose(same_edition),
        "`estimate()`, one figure read": choose(estimate_and_read),
    }

    def work() -> object:
        return chosen[-1]()

    found = ratios(work, variants, rounds=rounds, repeat=3)
    bare_us = next(iter(found.values())).baseline_s / CALLS * 1e6
    lines = ["| | µs a call | times faster |", "|---|---|---|", f"| EcoLogits `llm_impacts()` | {bare_us:.0f} | 1 |"]
    lines += [f"| {name} | {r.median * bare_us:.2f} | {1 / r.median:.0f} |" for name, r in found.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(rounds=30))

"""What each LLM call of a program costs in energy, carbon, minerals, primary energy, water and money.

    import ecoimpact
    ecoimpact.instrument()

Rule of this file: importing it loads nothing but itself. Every public name is fetched from its room on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ecoimpact.alerts import Alert
    from ecoimpact.batch import estimate_batch
    from ecoimpact.budgets import Budget
    from ecoimpact.comparison import compare
    from ecoimpact.engine import estimate, register_model, register_site
    from ecoimpact.labels import label
    from ecoimpact.notebook import report
    from ecoimpact.runtime import drops, flush, impacts_of, instrument, shutdown, uninstrument, wrap
    from ecoimpact.types import Figure, Impacts, Inference, Range, Record, Usage

_HOME = {
    "compare": "comparison",
    "estimate": "engine",
    "estimate_batch": "batch",
    "register_model": "engine",
    "report": "notebook",
    "register_site": "engine",
    "drops": "runtime",
    "flush": "runtime",
    "impacts_of": "runtime",
    "instrument": "runtime",
    "label": "labels",
    "shutdown": "runtime",
    "uninstrument": "runtime",
    "wrap": "runtime",
    "Alert": "alerts",
    "Budget": "budgets",
    "Figure": "types",
    "Impacts": "types",
    "Inference": "types",
    "Range": "types",
    "Record": "types",
    "Usage": "types",
}

__all__ = [
    "Alert",
    "Budget",
    "Figure",
    "Impacts",
    "Inference",
    "Range",
    "Record",
    "Usage",
    "__version__",
    "compare",
    "drops",
    "estimate",
    "estimate_batch",
    "flush",
    "impacts_of",
    "instrument",
    "label",
    "register_model",
    "register_site",
    "report",
    "shutdown",
    "uninstrument",
    "wrap",
]


def __getattr__(name: str) -> Any:
    room = _HOME.get(name)
    if room is None:
        # Submodules such as ecoimpact.methodologies are reachable as attributes without an import of their own.
        if name in ("dashboard", "deployments", "engine", "fleet", "methodologies", "types"):
            from importlib import import_module

            return import_module(f"ecoimpact.{name}")
        raise AttributeError(f"module 'ecoimpact' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"ecoimpact.{room}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))

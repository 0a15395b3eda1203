"""The composition root: finished calls -> engine -> records -> exporters. The only place where all rooms meet.

Rules: what runs on the caller's path notes references and returns; configuration errors are raised at once, to whoever
configured; everything else stays inside.
"""

from __future__ import annotations

import functools
import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from os import PathLike
from typing import Any, NamedTuple, TypeVar

from ecoimpact import config, engine
from ecoimpact.config import UNSET, Settings
from ecoimpact.instrumentation.background import Background
from ecoimpact.instrumentation.call import ATTRIBUTE, Call
from ecoimpact.instrumentation.patch import Patcher
from ecoimpact.instrumentation.report import failures
from ecoimpact.instrumentation.stream import end_held
from ecoimpact.providers import all_providers
from ecoimpact.records.pipeline import BatchSink, Pipeline
from ecoimpact.records.segments import LogWriter
from ecoimpact.types import Assessment, Exporter, Impacts, Methodology, Record

Client = TypeVar("Client")


class Context(NamedTuple):
    """What holds at the moment of a call; the figures rest on it, whenever they are worked out."""

    settings: Settings
    catalog: engine.Catalog

    @property
    def request_stream_usage(self) -> bool:
        return self.settings.request_stream_usage


_DEFAULTS = Settings(methodology=engine.validate_methodology(config.DEFAULT_METHODOLOGY))


class Runtime:
    """Settings, patched SDKs and the queue of one process. Every public function below goes through the one instance."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._patchers: dict[str, Patcher] = {}
        self._settings: Settings | None = None
        self._context = Context(_DEFAULTS, engine.catalog())
        self._pipeline: Pipeline | None = None
        self._drops: Counter[str] = Counter()
        self._background = Background(self._count_drop)

    # --- the tracer that instrumentation talks to; on the caller's path

    def context(self) -> Context:
        context = self._context
        if context.catalog is not engine.catalog():  # something was registered meanwhile
            context = self._context = Context(context.settings, engine.catalog())
        return context

    def impacts(self, call: Call) -> Impacts:
        return Impacts.deferred(functools.partial(_assess, call))

    def finished(self, call: Call) -> None:
        pipeline = self._pipeline
        if pipeline is None:
            return
        settled: Call | None = call
        if call.reader.pending or call.request.endpoint.polls:
            settled = self._background.settle(call)
        if settled is not None:
            pipeline.put(functools.partial(_record, settled))

    # --- configuration

    def instrument(self, names: tuple[str, ...], given: Mapping[str, Any]) -> None:
        known = all_providers()
        for name in names:
            if name not in known:
                raise ValueError(f"no provider {name!r}{config.near(name, known)}")
        with self._lock:
            self._configure(given)
            for name in names or tuple(known):
                self._patcher(name).enable()

    def wrap(self, client: Client) -> Client:
        for name, provider in all_providers().items():
            if provider.accepts(client):
                with self._lock:
                    if self._settings is None:
                        self._configure({})
                    self._patcher(name).wrap(client)
                return client
        known = ", ".join(sorted(all_providers()))
        raise TypeError(f"wrap() takes a client of one of these SDKs: {known}; not {type(client).__name__}")

    def uninstrument(self) -> None:
        with self._lock:
            for patcher in self._patchers.values():
                patcher.disable()
            self._settings = None
            self._context = Context(_DEFAULTS, engine.catalog())
            self._replace_pipeline(None)
            self._background = Background(self._count_drop)

    def _configure(self, given: Mapping[str, Any]) -> None:
        settings = self._settings
        changes: dict[str, Any] = {
            name: config.parse(name, value, name) if value is not None else None for name, value in given.items()
        }
        if settings is None:
            settings, changes = Settings(), {**config.from_surroundings(), **changes}
        for name, default in (("exporters", ()), ("labels", {}), ("methodology", config.DEFAULT_METHODOLOGY)):
            if name in changes and changes[name] is None:
                changes[name] = default
        if changes.get("zone") is not None:
            changes["zone"] = engine.validate_zone(changes["zone"])
        settings = replace(settings, **changes)
        if not isinstance(settings.methodology, Methodology):
            settings = replace(settings, methodology=engine.validate_methodology(settings.methodology))
        # Only now, with everything valid, does anything change.
        before = self._settings
        moved = before is None or (settings.log_dir, settings.exporters) != (before.log_dir, before.exporters)
        if moved or self._pipeline is None:
            self._replace_pipeline(settings)
        self._settings = settings
        self._context = Context(settings, engine.catalog())

    def _replace_pipeline(self, settings: Settings | None) -> None:
        old, self._pipeline = self._pipeline, None
        if settings is not None and (settings.log_dir is not None or settings.exporters):
            sinks: list[BatchSink | Exporter] = list(settings.exporters)
            if settings.log_dir is not None:
                sinks.append(LogWriter(settings.log_dir))
            self._pipeline = Pipeline(sinks, before_exit=self._end_calls)
        if old is not None:
            old.close()
            self._drops.update(old.drops())

    def _patcher(self, name: str) -> Patcher:
        patcher = self._patchers.get(name)
        if patcher is None:
            patcher = self._patchers[name] = Patcher(all_providers()[name], self)
        return patcher

    # --- the end

    def flush(self, timeout_s: float) -> bool:
        pipeline = self._pipeline
        return pipeline.flush(timeout_s) if pipeline is not None else True

    def shutdown(self, timeout_s: float) -> bool:
        self._end_calls()
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is None:
            return True
        done = pipeline.close(timeout_s)
        self._drops.update(pipeline.drops())
        return done

    def _end_calls(self) -> None:
        end_held()
        self._background.close()

    # --- what can be asked

    def drops(self) -> dict[str, int]:
        total = Counter(self._drops)
        pipeline = self._pipeline
        if pipeline is not None:
            total.update(pipeline.drops())
        total.update({f"internal-{name}": n for name, n in failures.items()})
        return {reason: n for reason, n in sorted(total.items()) if n}

    def status(self) -> dict[str, Any]:
        settings = self._settings
        providers = {}
        for name, provider in all_providers().items():
            patcher = self._patchers.get(name)
            patched = set(patcher.patched) if patcher is not None else set()
            providers[name] = {
                "package": provider.package,
                "supported": provider.supported,
                "enabled": patcher is not None and patcher.enabled,
                "patched": sorted(f"{t.module}:{t.name}" for t in patched),
                "missing": sorted(f"{t.module}:{t.name}" for t in provider.targets if t.required and t not in patched),
            }
        return {
            "instrumented": settings is not None,
            "zone": settings.zone if settings else None,
            "methodology": settings.methodology.name if settings else None,
            "log_dir": str(settings.log_dir) if settings and settings.log_dir else None,
            "exporters": len(settings.exporters) if settings else 0,
            "providers": providers,
            "drops": self.drops(),
        }

    def _count_drop(self, reason: str, number: int) -> None:
        self._drops[reason] += number


def _assess(call: Call) -> Assessment:
    context: Context = call.context
    inference = call.inference()
    return engine.assess(
        context.catalog,
        provider=inference.provider,
        models=(inference.response_model, inference.request_model),
        usage=inference.usage,
        latency_s=inference.latency_s,
        zone=context.settings.zone,
        methodology=context.settings.methodology,
        host=call.host,
    )


def _record(call: Call) -> Record:
    inference = call.inference()
    return Record(
        id=uuid.uuid4().hex,
        inference=inference,
        assessment=_assess(call),
        labels=call.context.settings.labels,
    )


_runtime = Runtime()


# --- the public functions -----------------------------------------------------------------------------------------------


def instrument(
    *providers: str,
    zone: str | None = UNSET,
    methodology: str | Methodology | None = UNSET,
    log_dir: str | PathLike[str] | None = UNSET,
    exporters: Iterable[Exporter] | None = UNSET,
    labels: Mapping[str, str] | None = UNSET,
    request_stream_usage: bool = UNSET,
) -> None:
    """Watch every provider SDK of this process, those imported later included, or only the ones named.

    Idempotent: a second call changes only what it names; ``None`` sets back to the default. What is not given here comes
    from ``ECOIMPACT_*`` variables, then from ``[tool.ecoimpact]`` in ``pyproject.toml``.

    Args:
        providers: SDKs by id, such as ``"openai"``, ``"anthropic"``; default: all that are known.
        zone: electricity zone for every request, ISO 3166-1 alpha-3 such as ``"FRA"``; default: the provider's own.
        methodology: an edition's name, or a :class:`~ecoimpact.types.Methodology`.
        log_dir: write one record per request here, as JSON Lines.
        exporters: callables that get each :class:`~ecoimpact.types.Record` on a background thread.
        labels: put on every record.
        request_stream_usage: ask chat streams for exact token counts, and hide the extra chunk that brings them.

    Raises:
        ValueError: an unknown provider, zone or methodology (near matches are listed), or a value of the wrong kind.
    """
    given = {
        "zone": zone,
        "methodology": methodology,
        "log_dir": log_dir,
        "exporters": exporters,
        "labels": labels,
        "request_stream_usage": request_stream_usage,
    }
    _runtime.instrument(providers, {name: value for name, value in given.items() if value is not UNSET})


def uninstrument() -> None:
    """Put everything back as it was before: SDKs, wrapped clients, settings. What is queued is written first."""
    _runtime.uninstrument()


def wrap(client: Client) -> Client:
    """Watch this one client (and what it is copied into) and leave all others alone. Returns the same object.

    Raises:
        TypeError: not a client of a known SDK.
    """
    return _runtime.wrap(client)


def impacts_of(response: object) -> Impacts | None:
    """The impacts of a response, stream, event or parsed answer, typed; ``None`` where it has none (yet)."""
    impacts = getattr(response, "__dict__", {}).get(ATTRIBUTE)
    return impacts if isinstance(impacts, Impacts) else None


def flush(timeout_s: float = 2) -> bool:
    """Wait until all finished requests are written and exported; whether that was done within ``timeout_s``."""
    return _runtime.flush(timeout_s)


def shutdown(timeout_s: float = 2) -> bool:
    """Flush, then stop writing and exporting. Clients go on working; whether all was written within ``timeout_s``."""
    return _runtime.shutdown(timeout_s)


def drops() -> dict[str, int]:
    """How many records were lost in this process, by reason; empty when none was."""
    return _runtime.drops()


def status() -> dict[str, Any]:
    """What is watched, and with which settings: plain data for ``ecoimpact doctor``."""
    return _runtime.status()

"""The composition root: finished calls -> engine -> records -> exporters. The only place where all rooms meet.

Rules: what runs on the caller's path notes references and returns; configuration errors are raised at once, to whoever
configured; everything else stays inside.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import uuid
from _thread import start_new_thread
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from ecoimpact import config, engine
from ecoimpact.budgets import Budget
from ecoimpact.config import UNSET, Settings
from ecoimpact.cost import price_version
from ecoimpact.grid import GridIntensity
from ecoimpact.instrumentation.background import Background
from ecoimpact.instrumentation.call import ATTRIBUTE, Call
from ecoimpact.instrumentation.dict_answers import figures_of, forget
from ecoimpact.instrumentation.patch import Patcher
from ecoimpact.instrumentation.report import failures, quietly
from ecoimpact.instrumentation.stream import end_held
from ecoimpact.labels import NO_LABELS, capped, current_labels, hashed
from ecoimpact.price_library import prepare, price_library
from ecoimpact.providers import all_providers
from ecoimpact.records.pipeline import BatchSink, Pipeline
from ecoimpact.records.segments import LogWriter
from ecoimpact.types import Assessment, Exporter, Impacts, Inference, Methodology, Record

if TYPE_CHECKING:
    from ecoimpact.alerts import Watch

Client = TypeVar("Client")

OnEnd = Callable[[Inference, Assessment], object]
"""What an exporter that has a method ``on_call`` may give when a call begins: it is called on the caller's path when the
call ends, and again on the background thread, since the end may lie in a finaliser, where little can be done."""


class Context(NamedTuple):
    """What holds at the moment of a call; the figures rest on it, whenever they are worked out."""

    settings: Settings
    catalog: engine.Catalog
    labels: Mapping[str, str] = NO_LABELS
    """Those of the ``label()`` scopes around the call; the settings have others."""
    on_end: tuple[OnEnd, ...] = ()

    @property
    def request_stream_usage(self) -> bool:
        return self.settings.request_stream_usage


_DEFAULTS = Settings(methodology=engine.validate_methodology(config.DEFAULT_METHODOLOGY))
_BUILT_IN = {field.name: getattr(Settings(), field.name) for field in fields(Settings)}
_OF_THE_PIPELINE = ("log_dir", "exporters", "log_mode", "log_fsync", "budgets", "grid")


class Runtime:
    """Settings, patched SDKs and the queue of one process. Every public function below goes through the one instance."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._patchers: dict[str, Patcher] = {}
        self._settings: Settings | None = None
        self._context = Context(_DEFAULTS, engine.catalog())
        self._ambient_labels: Mapping[str, str] = NO_LABELS  # of the environment and the project's file
        self._pipeline: Pipeline | None = None
        self._is_cold = False  # records will be made, and what they need for it is not loaded yet
        self._on_call: tuple[Callable[[], OnEnd | None], ...] = ()  # of the exporters
        self._drops: Counter[str] = Counter()
        self._background = Background(self._count_drop)

    # --- the tracer that instrumentation talks to; on the caller's path

    def context(self) -> Context:
        if self._is_cold:
            self._warm_up()
        context = self._context
        if context.catalog is not engine.catalog():  # something was registered meanwhile
            context = self._context = Context(context.settings, engine.catalog())
        here = current_labels()
        if self._on_call:
            told = tuple(on_end for on_call in self._on_call if (on_end := on_call()) is not None)
            return Context(context.settings, context.catalog, here, told)
        return context if not here else Context(context.settings, context.catalog, here)

    def _warm_up(self) -> None:
        """Load the prices while the first request waits for its answer: at the end of a program it would be late for it."""
        self._is_cold = False
        with contextlib.suppress(RuntimeError):  # no thread can be had: they are loaded when they are asked for
            start_new_thread(price_library, ())

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
            if settled.context.on_end:
                _tell_of_end(settled)
            pipeline.put(functools.partial(_record, settled))

    # --- configuration

    def instrument(self, names: tuple[str, ...], given: Mapping[str, Any]) -> None:
        known = all_providers()
        for name in names:
            if name not in known:
                raise ValueError(f"no provider {name!r}{config.near(name, known)}")
        with self._lock:
            self._configure(given)
            for name in names or tuple(name for name, provider in known.items() if not provider.opt_in):
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
            self._on_call = ()
            self._context = Context(_DEFAULTS, engine.catalog())
            self._replace_pipeline(None)
            self._background = Background(self._count_drop)
            forget()

    def _configure(self, given: Mapping[str, Any]) -> None:
        settings = self._settings
        changes: dict[str, Any] = {
            name: config.parse(name, value, name) if value is not None else None for name, value in given.items()
        }
        ambient_labels = self._ambient_labels
        if settings is None:
            surroundings = config.from_surroundings()
            ambient_labels = surroundings.get("labels", NO_LABELS)
            settings, changes = Settings(), {**surroundings, **changes}
        if changes.get("labels") is not None:
            changes["labels"] = {**ambient_labels, **changes["labels"]}
        for name, value in changes.items():
            if value is None:
                changes[name] = _BUILT_IN[name]
        if changes.get("zone") is not None:
            changes["zone"] = engine.validate_zone(changes["zone"])
        settings = replace(settings, **changes)
        if not isinstance(settings.methodology, Methodology):
            settings = replace(settings, methodology=engine.validate_methodology(settings.methodology))
        if settings.hash_labels and settings.hash_key is None:
            raise ValueError(f"hash_labels needs a secret: set {config.HASH_KEY_VARIABLE}, or give hash_key")
        if settings.log_mode == "sync" and _is_fetched(settings.grid):
            raise ValueError(
                'log_mode="sync" has no background in which a grid could be asked: give the path of a .csv file'
            )
        if given.get("budgets") and settings.log_dir is None:
            raise ValueError("budgets are counted from the log: give log_dir as well")
        watch = None
        if settings.budgets and settings.log_dir is not None:
            from ecoimpact.alerts import Watch

            watch = Watch(settings.log_dir, settings.budgets)
        # Only now, with everything valid, does anything change.
        before = self._settings
        moved = before is None or any(getattr(settings, name) != getattr(before, name) for name in _OF_THE_PIPELINE)
        if moved or self._pipeline is None:
            self._replace_pipeline(settings, watch)
        self._settings = settings
        self._on_call = tuple(quietly(exporter.on_call) for exporter in settings.exporters if hasattr(exporter, "on_call"))
        self._ambient_labels = ambient_labels
        self._context = Context(settings, engine.catalog())

    def _replace_pipeline(self, settings: Settings | None, watch: Watch | None = None) -> None:
        old, self._pipeline = self._pipeline, None
        # Without a sink, too, somebody has to fetch the figures of the hour.
        if settings is not None and (settings.log_dir is not None or settings.exporters or _is_fetched(settings.grid)):
            sinks: list[BatchSink | Exporter] = list(settings.exporters)
            if settings.log_dir is not None:
                sinks.append(LogWriter(settings.log_dir, fsync=settings.log_fsync == "batch"))
            self._pipeline = Pipeline(
                sinks,
                before_exit=self._end_calls,
                synchronous=settings.log_mode == "sync",
                after_write=watch.check if watch is not None else None,
            )
            prepare()
            self._is_cold = True
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
                "distribution": provider.distribution or provider.package,
                "modules": sorted({t.module for t in provider.targets}),
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
        started_at=inference.started_at,
        grid=context.settings.grid,
    )


def _is_fetched(grid: GridIntensity | None) -> bool:
    """Whether the figures of a grid have to be fetched before they are known."""
    return hasattr(grid, "load")


@quietly
def _tell_of_end(call: Call, assessment: Assessment | None = None) -> None:
    inference, assessment = call.inference(), assessment or _assess(call)
    for on_end in call.context.on_end:
        on_end(inference, assessment)


@quietly
def _load_hour(call: Call, zone: str) -> None:
    """Let the grid fetch what the record of a call needs. It waits, so it is for the background thread alone."""
    grid: Any = call.context.settings.grid
    for part in zone.split("+"):
        grid.load(part, call.started_at)


def _record(call: Call) -> Record:
    assessment = _assess(call)
    if assessment.zone is not None and _is_fetched(call.context.settings.grid):
        _load_hour(call, assessment.zone)
        assessment = _assess(call)
    if call.context.on_end:
        _tell_of_end(call, assessment)
    cost_usd = assessment.cost() if assessment.cost is not None else None
    return Record(
        id=uuid.uuid4().hex,
        inference=call.inference(),
        assessment=assessment,
        labels=_labels(call.context),
        cost_usd=cost_usd,
        price_version=price_version() if cost_usd is not None else None,
    )


def _labels(context: Context) -> Mapping[str, str]:
    """The process's labels and the request's over them, within their number; those that hide behind a hash do so here."""
    settings = context.settings
    merged = capped({**settings.labels, **context.labels} if context.labels else settings.labels)
    key = settings.hash_key
    if key is None or not settings.hash_labels:
        return merged
    return {name: hashed(value, key) if name in settings.hash_labels else value for name, value in merged.items()}


_runtime = Runtime()


# --- the public functions -----------------------------------------------------------------------------------------------


def instrument(
    *providers: str,
    zone: str | None = UNSET,
    grid: GridIntensity | str | PathLike[str] | None = UNSET,
    methodology: str | Methodology | None = UNSET,
    log_dir: str | PathLike[str] | None = UNSET,
    exporters: Iterable[Exporter] | None = UNSET,
    labels: Mapping[str, str] | None = UNSET,
    request_stream_usage: bool = UNSET,
    log_mode: Literal["background", "sync"] | None = UNSET,
    log_fsync: Literal["never", "batch"] | None = UNSET,
    hash_labels: Iterable[str] | None = UNSET,
    hash_key: str | bytes | None = UNSET,
    budgets: Iterable[Budget] | None = UNSET,
) -> None:
    """Watch every provider SDK of this process, those imported later included, or only the ones named.

    Idempotent: a second call changes only what it names; ``None`` sets back to the default. What is not given here comes
    from ``ECOIMPACT_*`` variables, then from ``[tool.ecoimpact]`` in ``pyproject.toml``.

    Args:
        providers: SDKs by id, such as ``"openai"``, ``"anthropic"``; default: all that are known.
        zone: electricity zone for every request, such as ``"FRA"``, ``"US-CA"``, ``"SE-SE3"``, or a cloud's region,
            ``"aws:eu-west-3"``; default: the provider's own.
        grid: where the carbon of the electricity at the hour of a request is from: ``"electricity-maps"``,
            ``"uk-carbon-intensity"``, the path of a CSV file, or a :class:`~ecoimpact.grid.GridIntensity`; default: the
            yearly figure.
        methodology: an edition's name, or a :class:`~ecoimpact.types.Methodology`.
        log_dir: write one record per request here, as JSON Lines.
        exporters: callables that get each :class:`~ecoimpact.types.Record` on a background thread.
        labels: put on every record, over those of ``ECOIMPACT_LABELS`` and of the project's file.
        request_stream_usage: ask chat streams for exact token counts, and hide the extra chunk that brings them.
        log_mode: ``"sync"`` writes each record before the call returns: for processes that may be frozen or ended at any
            moment. The default is a thread in the background.
        log_fsync: ``"batch"`` counts records as written once they are on the disk, not only with the operating system.
        hash_labels: names of labels whose values are replaced, before anything is written or exported, by a keyed hash.
        hash_key: the secret of that hash, 16 bytes or more; better given by ``ECOIMPACT_HASH_KEY``.
        budgets: limits that are watched in the background, over all processes that write to ``log_dir``.

    Raises:
        ValueError: an unknown provider, zone or methodology (near matches are listed), or a value of the wrong kind.
    """
    given = {
        "zone": zone,
        "grid": grid,
        "methodology": methodology,
        "log_dir": log_dir,
        "exporters": exporters,
        "labels": labels,
        "request_stream_usage": request_stream_usage,
        "log_mode": log_mode,
        "log_fsync": log_fsync,
        "hash_labels": hash_labels,
        "hash_key": hash_key,
        "budgets": budgets,
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
    """The impacts of a response, stream, event or parsed answer, typed; ``None`` where it has none (yet).

    The way to those of a plain dict as well, such as boto3 answers, which has no place for an attribute.
    """
    impacts = figures_of(response) if type(response) is dict else getattr(response, "__dict__", {}).get(ATTRIBUTE)
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

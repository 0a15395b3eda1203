"""The engine over columns: one table of requests in, one table of figures out.

Names are looked up once for each combination that occurs, and what follows from them is gathered into the rows; the
arithmetic is the methodology's own, on arrays. What is said of a row (warnings, errors) is what
:func:`ecoimpact.estimate` says of its kind: the engine is asked once for each combination that occurs. Rows are worked on
a slice at a time, so that what is needed beside the result does not grow with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ecoimpact import engine
from ecoimpact.columns import Array, Lists, Table, Texts, table_of
from ecoimpact.types import CRITERIA, FLAT_FIELDS, Figures, Methodology, SiteFactors, Usage

MODEL_NAMES = ("response_model", "request_model", "model")
"""Columns that name the model, the most telling first: as for each request by itself."""

REQUIRED = ("model", "output_tokens")
OPTIONAL = (
    *("provider", "response_model", "request_model", "input_tokens", "latency_s", "zone", "tokens_estimated", "endpoint"),
)

_SLICE = 1 << 14  # rows whose columns stay in a processor's cache
_READS_ONLY = frozenset({"embeddings"})  # endpoints that generate nothing
_MAX_KEYS = 1 << 18  # distinct combinations of names that a look-up table may hold

# What is odd about a row, as bits.
_NO_OUTPUT, _BAD_OUTPUT, _NO_INPUT, _BAD_INPUT, _NO_LATENCY, _BAD_LATENCY, _ESTIMATED, _READS = (1 << i for i in range(8))
_KINDS = 1 << 8


def estimate_batch(
    columns: Any, *, methodology: str | Methodology = engine.DEFAULT_METHODOLOGY, zone: str | None = None
) -> Any:
    """The impacts of many requests at once: the figures of :func:`ecoimpact.estimate`, row by row.

    Args:
        columns: a dict of arrays (single values hold for every row), a pandas or polars DataFrame, an Arrow table or
            batch. ``model`` and ``output_tokens`` are needed; ``provider``, ``input_tokens``, ``latency_s``, ``zone``,
            ``tokens_estimated`` and ``endpoint`` are used where they are there, by the names of records. Records name the
            model up to three times: ``response_model`` is looked up first, then ``request_model``, then ``model``; any of
            them will do. Other columns are not looked at. Missing values are ``None``, null or NaN.
        methodology: a name, or a :class:`~ecoimpact.types.Methodology`.
        zone: the electricity zone of rows that name none; default: the provider's own.

    Returns:
        a table of the same shape and length, of new columns only: ``energy_kwh_min``, ``energy_kwh_central``,
        ``energy_kwh_max``, ``gwp_kgco2eq_min``, ..., those of the phases with ``usage_`` and ``embodied_`` before, unknown
        ones NaN (null in Arrow and polars); and ``warnings`` and ``errors``, lists of codes. Needs numpy.

    Raises:
        TypeError: ``columns`` is none of these.
        ValueError: a column is missing or of another length, an unknown methodology or zone.

    >>> figures = estimate_batch({"model": ["gpt-4o-mini", "no-such"], "output_tokens": [400, 400], "provider": "openai"})
    >>> figures["energy_kwh_min"].round(9).tolist(), figures["errors"].tolist()
    ([3.7693e-05, nan], [(), ('model-not-registered',)])
    """
    table = table_of(columns)
    for name in REQUIRED:
        if name not in table.names and not (name == "model" and any(other in table.names for other in MODEL_NAMES)):
            raise ValueError(f"columns have no {name!r}; needed: {', '.join(REQUIRED)}; used: {', '.join(OPTIONAL)}")
    grid = None if zone is None else engine.validate_zone(zone)
    found = estimated(table, Known(engine.validate_methodology(methodology), engine.catalog()), zone=grid)
    return table.give({**found.figures, "warnings": found.warnings, "errors": found.errors})


class Estimated(NamedTuple):
    """What was found for the rows of a table: figures by name, codes, and what the names of each row led to."""

    figures: dict[str, Array]
    warnings: Lists
    errors: Lists
    models: Texts
    """The model that each row's names led to."""
    zones: Texts
    """The zone that the figures are for; where there are none, the one that was given."""


class _About(NamedTuple):
    """What follows from a combination of names, and what there is to say of the kinds of rows that have them."""

    plan: engine.Plan
    codes: dict[int, tuple[tuple[str, ...], tuple[str, ...]]]


class Known:
    """A methodology over a catalogue, and what has been found out about names so far: kept from table to table."""

    MAX_NAMES = 1 << 14
    """So many combinations of names are kept, in some 50 MB."""

    def __init__(self, methodology: Methodology, catalog: engine.Catalog) -> None:
        self.methodology = methodology
        self.catalog = catalog
        self._found: dict[tuple[Any, ...], _About] = {}

    def about(self, request: Mapping[str, Any]) -> _About:
        key = (request["provider"], request["models"], request["zone"])
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= self.MAX_NAMES:
                self._found.clear()
            found = self._found[key] = _About(engine.plan(self.catalog, self.methodology, **request), {})
        return found

    def codes(self, about: _About, request: Mapping[str, Any], kind: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Warnings and errors of a kind of rows: asked of the engine once."""
        if kind not in about.codes:
            told = engine.assess(
                self.catalog,
                methodology=self.methodology,
                usage=_example(kind),
                latency_s=_value(kind, _NO_LATENCY, _BAD_LATENCY, 1.0),
                **request,
            )
            about.codes[kind] = tuple(n.code for n in told.warnings), tuple(n.code for n in told.errors)
        return about.codes[kind]


def estimated(table: Table, known: Known, *, zone: str | None = None) -> Estimated:
    """The figures of every row. ``zone`` is that of rows that name none."""
    import numpy as np

    methodology = known.methodology
    names, requests = _Names(table, zone), _Requests(table, methodology)
    plans, warnings, errors = _looked_up(known, names, requests)
    low, high = _Coefficients(plans, 0), _Coefficients(plans, 1)
    middle = _Coefficients(plans, 2) if any(plan.central is not None for plan in plans) else None
    is_known = np.array([plan.low is not None for plan in plans], bool)
    all_known = bool(is_known.all()) and bool(requests.has_figures.all())

    figures = {name: np.empty(table.rows) for name in FLAT_FIELDS}
    for rows in _slices(table.rows):
        which = names.index[rows]
        unknown = None if all_known else np.flatnonzero(~(is_known[which] & requests.has_figures[rows]))
        told = requests.read(rows)
        with np.errstate(all="ignore"):  # unknown rows are NaN throughout
            least = low.assess(methodology, which, told.low, told.latency_s)
            most = high.assess(methodology, which, told.high, told.latency_s)
            best = None if middle is None else middle.assess(methodology, which, told.told, told.latency_s)
        _put({name: column[rows] for name, column in figures.items()}, least, most, best, unknown)
    models = [None if plan.match is None else plan.match.name for plan in plans]
    zones = [plan.zone or request["zone"] for plan, request in zip(plans, names.requests, strict=True)]
    return Estimated(figures, warnings, errors, Texts(names.index, models), Texts(names.index, zones))


def _slices(rows: int) -> Iterator[slice]:
    for start in range(0, rows, _SLICE):
        yield slice(start, min(start + _SLICE, rows))


def _put(targets: dict[str, Array], low: Figures, high: Figures, central: Figures | None, unknown: Array | None) -> None:
    """Figures into the rows of a slice, by the names of :func:`~ecoimpact.types.flat_figures` and by its rules."""
    import numpy as np

    values: dict[str, Any] = {}
    for end, figures in (("min", low), ("max", high)):
        for name in _PARTS:
            values[f"{name}_{end}"] = getattr(figures, name)
    for c in CRITERIA:
        least, most = low.total(c.key), high.total(c.key)
        values[f"{c.suffix}_min"], values[f"{c.suffix}_max"] = least, most
        best = None if central is None else central.total(c.key)
        values[f"{c.suffix}_central"] = best
        if best is None and least is not None and most is not None:
            target = targets[f"{c.suffix}_central"]
            np.add(least, most, out=target)
            target *= 0.5
            del values[f"{c.suffix}_central"]
    for name, value in values.items():
        targets[name][:] = math.nan if value is None else value
    if unknown is not None and len(unknown):
        for target in targets.values():
            target[unknown] = math.nan


_PARTS = tuple(dict.fromkeys(name.rpartition("_")[0] for name in FLAT_FIELDS if name.startswith(("usage_", "embodied_"))))


class _Names:
    """The combinations of names that occur, and which of them each row has."""

    def __init__(self, table: Table, zone: str | None) -> None:
        used = [name for name in ("provider", *MODEL_NAMES, "zone") if name in table.names]
        columns = [table.texts(name) for name in used]
        distinct, self.index = _combined(columns, table.rows)
        self.requests = [_request(used, columns, codes, zone) for codes in distinct]


def _request(used: Sequence[str], columns: Sequence[Texts], codes: Sequence[int], zone: str | None) -> dict[str, Any]:
    """The names of a combination, as the engine takes them."""
    told = {
        name: None if code == 0 else texts.values[code - 1] for name, texts, code in zip(used, columns, codes, strict=True)
    }
    place = told.get("zone") or zone
    if isinstance(place, str) and "+" in place:
        place = None  # records name a provider's several zones like this: they are its own
    return {
        "provider": told.get("provider"),
        "models": tuple(told[name] for name in MODEL_NAMES if name in told),
        "zone": place,
        "host": None,
    }


def _combined(columns: Sequence[Texts], rows: int) -> tuple[list[tuple[int, ...]], Array]:
    """The combinations of values that occur, as tuples of codes (0: unknown), and the place of each row's among them."""
    import numpy as np

    key: Any = np.zeros(rows, np.int64)
    known: list[tuple[int, ...]] = [()]
    widths: list[int] = []
    for texts in columns:
        width = len(texts.values) + 1
        if len(known) * math.prod(widths) * width > _MAX_KEYS:
            known, key = _renumbered(known, widths, key)
            widths = []
        key = key * width
        key += texts.codes
        key += 1
        widths.append(width)
    return _renumbered(known, widths, key)


def _renumbered(known: list[tuple[int, ...]], widths: list[int], key: Array) -> tuple[list[tuple[int, ...]], Array]:
    distinct, index = _numbered(key, len(known) * math.prod(widths))
    combinations = []
    for number in distinct.tolist():
        codes: list[int] = []
        for width in reversed(widths):
            number, code = divmod(number, width)  # noqa: PLW2901 - what is left of it
            codes.append(code)
        combinations.append((*known[number], *reversed(codes)))
    return combinations, index


def _numbered(key: Array, bound: int) -> tuple[Array, Array]:
    """The distinct keys, all below ``bound``, in order, and the place of each row's key among them."""
    import numpy as np

    if bound > _MAX_KEYS:
        distinct, index = np.unique(key, return_inverse=True)
        return distinct, index
    occurs = np.zeros(bound, bool)
    occurs[key] = True
    distinct = np.flatnonzero(occurs)
    place = np.empty(bound, np.intp)
    place[distinct] = np.arange(len(distinct))
    return distinct, place[key]


class _Coefficients:
    """What the plans give to the arithmetic at one end: one value for each, gathered into rows."""

    def __init__(self, plans: list[engine.Plan], end: int) -> None:
        self._servings = [(plan.low, plan.high, plan.central)[end] for plan in plans]
        known = zip(plans, self._servings, strict=True)
        sites = [(p.site_low, p.site_high, p.site_central)[end] if serving is not None else None for p, serving in known]
        self._sites = _gathered(sites, SiteFactors)
        example = next((serving for serving in self._servings if serving is not None), None)
        kind = type(example)
        self._kind: Any = kind if hasattr(kind, "_fields") and _is_numeric(self._servings) else None
        self._serving = _gathered(self._servings, self._kind) if self._kind is not None else None

    def assess(self, methodology: Methodology, which: Array, usage: Usage, latency_s: Array) -> Figures:
        site = SiteFactors(*(_of_rows(column, which) for column in self._sites))
        if self._serving is not None:
            serving = self._kind(*(_of_rows(column, which) for column in self._serving))
            return methodology.assess(serving, usage, latency_s, site)
        return self._one_by_one(methodology, which, usage, latency_s, site)

    def _one_by_one(self, methodology: Methodology, which: Array, usage: Usage, latency_s: Array, site: Any) -> Figures:
        """For a methodology whose part of the model is no tuple of numbers: the rows of each model by themselves."""
        import numpy as np

        columns = [np.full(len(which), math.nan) for _ in Figures._fields]
        known: set[int] = set()
        for place in np.unique(which):
            if self._servings[place] is None:
                continue
            rows = np.flatnonzero(which == place)
            counts: tuple[Array, ...] = (usage.input_tokens, usage.output_tokens)
            own_usage = Usage(*(column[rows] for column in counts))
            own_site = SiteFactors(*(factor if isinstance(factor, float) else factor[rows] for factor in site))
            figures = methodology.assess(self._servings[place], own_usage, latency_s[rows], own_site)
            for number, value in enumerate(figures):
                if value is not None:
                    known.add(number)
                    columns[number][rows] = value
        return Figures(*(column if number in known else None for number, column in enumerate(columns)))


def _is_numeric(servings: list[Any]) -> bool:
    return all(s is None or all(v is None or isinstance(v, int | float) for v in s) for s in servings)


def _gathered(tuples: list[Any], kind: Any) -> list[Any]:
    """The fields of named tuples: one number where all agree, ``None`` where none has one, else a column."""
    import numpy as np

    known = [t for t in tuples if t is not None]
    columns: list[Any] = []
    for number in range(len(kind._fields)):
        values = {t[number] for t in known}
        if len(values) <= 1:
            only = next(iter(values), math.nan)
            columns.append(None if only is None else float(only))
            continue
        numbers = (None if t is None else t[number] for t in tuples)
        columns.append(np.array([math.nan if value is None else value for value in numbers], np.float64))
    return columns


def _of_rows(column: Any, which: Array) -> Any:
    return column if column is None or isinstance(column, float) else column.take(which)


class _Told(NamedTuple):
    """Usage at both ends and as it was told, and latency, of some rows."""

    low: Usage
    high: Usage
    told: Usage
    latency_s: Array


class _Requests:
    """Counts and latencies, checked; what is odd about each row is noted as bits in ``kinds``."""

    def __init__(self, table: Table, methodology: Methodology) -> None:
        import numpy as np

        self.kinds = np.zeros(table.rows, np.uint8)
        self._input = self._checked(table, "input_tokens", _NO_INPUT, _BAD_INPUT, engine.MAX_TOKENS)
        self._output = self._checked(table, "output_tokens", _NO_OUTPUT, _BAD_OUTPUT, engine.MAX_TOKENS)
        self._latency_s = self._checked(table, "latency_s", _NO_LATENCY, _BAD_LATENCY, math.inf)
        self._bounds = getattr(methodology, "bounds", None)
        self._any_estimated = False
        if "tokens_estimated" in table.names:
            estimated = table.numbers("tokens_estimated") > 0
            self._any_estimated = bool(estimated.any())
            self.kinds[estimated] |= _ESTIMATED
        if "endpoint" in table.names:
            codes, endpoints = table.texts("endpoint")
            reads = np.array([name in _READS_ONLY for name in endpoints] + [False])  # the last is that of UNKNOWN
            self.kinds[reads[codes]] |= _READS
        without = _NO_OUTPUT | _BAD_OUTPUT | (0 if getattr(methodology, "counts_input", False) else _READS)
        self.has_figures = (self.kinds & without) == 0

    def _checked(self, table: Table, name: str, missing: int, bad: int, most: float) -> Array:
        import numpy as np

        if name not in table.names:
            self.kinds |= missing
            return np.broadcast_to(np.float64(math.nan), table.rows)
        numbers = table.numbers(name)
        self.kinds[np.isnan(numbers)] |= missing
        odd = (numbers < 0) | (numbers > most)
        if odd.any():
            self.kinds[odd] |= bad
            numbers = np.where(odd, math.nan, numbers)
        return numbers

    def read(self, rows: slice) -> _Told:
        import numpy as np

        latency_s = self._latency_s[rows]
        latency_s = np.where(np.isnan(latency_s), math.inf, latency_s)
        output = self._output[rows]
        low = high = told = Usage(self._input[rows], output)
        if self._any_estimated:
            estimated = (self.kinds[rows] & _ESTIMATED) != 0
            low = Usage(low.input_tokens, np.where(estimated, output * engine.ESTIMATE_LOW, output))
            high = Usage(high.input_tokens, np.where(estimated, output * engine.ESTIMATE_HIGH, output))
        if self._bounds is not None:
            low, high = self._bounds(low)[0], self._bounds(high)[1]
        return _Told(low, high, told, latency_s)


def _looked_up(known: Known, names: _Names, requests: _Requests) -> tuple[list[engine.Plan], Lists, Lists]:
    """The plan of each combination of names, and what there is to say of each row."""
    import numpy as np

    key = names.index.astype(np.int64) * _KINDS + requests.kinds
    distinct, index = _numbered(key, len(names.requests) * _KINDS)
    abouts: list[_About] = []
    codes = []
    for place, kind in (divmod(int(each), _KINDS) for each in distinct):  # in order, and every place occurs
        if place == len(abouts):
            abouts.append(known.about(names.requests[place]))
        codes.append(known.codes(abouts[place], names.requests[place], kind))
    warnings, errors = ([both[which] for both in codes] for which in (0, 1))
    return [about.plan for about in abouts], Lists(index, warnings), Lists(index, errors)


def _example(kind: int) -> Usage:
    """A request of a kind."""
    return Usage(
        input_tokens=_value(kind, _NO_INPUT, _BAD_INPUT, 1),
        output_tokens=_value(kind, _NO_OUTPUT, _BAD_OUTPUT, 1),
        estimated=bool(kind & _ESTIMATED),
        generates=not kind & _READS,
    )


def _value(kind: int, missing: int, bad: int, usual: float) -> float | None:
    if kind & missing:
        return None
    return -1 if kind & bad else usual

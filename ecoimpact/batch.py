"""The engine over columns: one table of requests in, one table of figures out.

Names are looked up once for each distinct value, and what follows from them is gathered into the rows; the arithmetic is
the methodology's own, on arrays. What is said of a row (warnings, errors) is what :func:`ecoimpact.estimate` says of its
kind: the engine is asked once for each combination that occurs. Rows are worked on a slice at a time, so that what is
needed beside the result does not grow with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ecoimpact import engine
from ecoimpact.columns import Array, Lists, Table, Texts, table_of
from ecoimpact.types import CRITERIA, FLAT_FIELDS, Figures, Methodology, SiteFactors, Usage

REQUIRED = ("model", "output_tokens")
OPTIONAL = ("provider", "input_tokens", "latency_s", "zone", "time", "tokens_estimated", "endpoint")

_SLICE = 1 << 15  # rows whose columns stay in a processor's cache
_READS_ONLY = frozenset({"embeddings"})  # endpoints that generate nothing
_MAX_KEYS = 1 << 24  # distinct combinations of names that a look-up table may hold

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
            ``tokens_estimated`` and ``endpoint`` are used where they are there, by the names of records. Other columns are
            not looked at. Missing values are ``None``, null or NaN.
        methodology: a name, or a :class:`~ecoimpact.types.Methodology`.
        zone: the electricity zone of rows that name none; default: the provider's own.

    Returns:
        a table of the same shape and length, of new columns only: ``energy_kwh_min``, ``energy_kwh_max``,
        ``gwp_kgco2eq_min``, ..., those of the phases with ``usage_`` and ``embodied_`` before, unknown ones NaN (null in
        Arrow and polars); and ``warnings`` and ``errors``, lists of codes. Needs numpy.

    Raises:
        TypeError: ``columns`` is none of these.
        ValueError: a column is missing or of another length, an unknown methodology or zone.

    >>> figures = estimate_batch({"model": ["gpt-4o-mini", "no-such"], "output_tokens": [400, 400], "provider": "openai"})
    >>> figures["energy_kwh_min"].round(9).tolist(), figures["errors"].tolist()
    ([3.7693e-05, nan], [(), ('model-not-registered',)])
    """
    import numpy as np

    table = table_of(columns)
    for name in REQUIRED:
        if name not in table.names:
            raise ValueError(f"columns have no {name!r}; needed: {', '.join(REQUIRED)}; used: {', '.join(OPTIONAL)}")
    chosen = engine.validate_methodology(methodology)
    grid = None if zone is None else engine.validate_zone(zone)
    names = _Names(table, grid)
    plans = [names.plan(chosen, key) for key in names.distinct]
    low, high = _Coefficients(plans, 0), _Coefficients(plans, 1)
    requests = _Requests(table, chosen)
    is_known = np.array([plan.low is not None for plan in plans], bool)

    figures = {name: np.empty(table.rows) for name in FLAT_FIELDS}
    for rows in _slices(table.rows):
        which = names.index[rows]
        unknown = np.flatnonzero(~(is_known[which] & requests.has_figures[rows]))
        usage_low, usage_high, latency_s = requests.read(rows)
        with np.errstate(all="ignore"):  # unknown rows are NaN throughout
            ends = {
                "min": low.assess(chosen, which, usage_low, latency_s),
                "max": high.assess(chosen, which, usage_high, latency_s),
            }
        for end, assessed in ends.items():
            _put(figures, end, rows, assessed, unknown)
    return table.give({**figures, **_codes(chosen, names, requests)})


def _slices(rows: int) -> Iterator[slice]:
    for start in range(0, rows, _SLICE):
        yield slice(start, min(start + _SLICE, rows))


def _put(figures: dict[str, Array], end: str, rows: slice, assessed: Figures, unknown: Array) -> None:
    for name in FLAT_FIELDS:
        if name.endswith(end):
            stem = name.removesuffix(f"_{end}")
            value = assessed.total(_CRITERION_OF[stem]) if stem in _CRITERION_OF else getattr(assessed, stem)
            target = figures[name][rows]
            target[:] = math.nan if value is None else value
            target[unknown] = math.nan


_CRITERION_OF = {c.suffix: c.key for c in CRITERIA}


class _Names:
    """The combinations of provider, model and zone that occur, and which of them each row has."""

    def __init__(self, table: Table, zone: str | None) -> None:
        import numpy as np

        none = Texts(np.broadcast_to(np.int64(-1), table.rows), [])
        given = [table.texts(name) if name in table.names else none for name in ("provider", "model", "zone")]
        self._values: list[list[Any]] = [[None, *texts.values] for texts in given]
        self._values[2][0] = zone
        self._widths = [len(values) for values in self._values]
        key = np.zeros(table.rows, np.int64)
        for texts, width in zip(given, self._widths, strict=True):
            key *= width
            key += texts.codes
            key += 1
        self.distinct, self.index = _numbered(key, math.prod(self._widths))

    def plan(self, methodology: Methodology, key: int) -> engine.Plan:
        return engine.plan(engine.catalog(), methodology, **self.request(key))

    def request(self, key: int) -> dict[str, Any]:
        """The names behind a key, as the engine takes them."""
        _, models, zones = self._widths
        rest, zone = divmod(int(key), zones)
        provider, model = divmod(rest, models)
        providers, names, known_zones = self._values
        return {"provider": providers[provider], "models": (names[model],), "zone": known_zones[zone], "host": None}


def _numbered(key: Array, bound: int) -> tuple[Array, Array]:
    """The distinct keys, all below ``bound``, in order, and the place of each row's key among them."""
    import numpy as np

    if bound > _MAX_KEYS:
        distinct, index = np.unique(key, return_inverse=True)
        return distinct, index
    occurs = np.zeros(bound, bool)
    occurs[key] = True
    distinct = np.flatnonzero(occurs)
    place = np.empty(bound, np.int32)
    place[distinct] = np.arange(len(distinct), dtype=np.int32)
    return distinct, place[key]


class _Coefficients:
    """What the plans give to the arithmetic at one end: one value for each, gathered into rows."""

    def __init__(self, plans: list[engine.Plan], end: int) -> None:
        self._servings = [(plan.low, plan.high)[end] for plan in plans]
        self._sites = _gathered([(plan.site_low, plan.site_high)[end] for plan in plans], SiteFactors)
        example = next((serving for serving in self._servings if serving is not None), None)
        kind = type(example)
        self._kind: Any = kind if hasattr(kind, "_fields") and _is_numeric(self._servings) else None
        self._serving = _gathered(self._servings, self._kind) if self._kind is not None else None

    def assess(self, methodology: Methodology, which: Array, usage: Usage, latency_s: Array) -> Figures:
        site = SiteFactors(*(column[which] for column in self._sites))
        if self._serving is not None:
            serving = self._kind(*(None if column is None else column[which] for column in self._serving))
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
            own_site = SiteFactors(*(factor[rows] for factor in site))
            figures = methodology.assess(self._servings[place], own_usage, latency_s[rows], own_site)
            for number, value in enumerate(figures):
                if value is not None:
                    known.add(number)
                    columns[number][rows] = value
        return Figures(*(column if number in known else None for number, column in enumerate(columns)))


def _is_numeric(servings: list[Any]) -> bool:
    return all(s is None or all(v is None or isinstance(v, int | float) for v in s) for s in servings)


def _gathered(tuples: list[Any], kind: Any) -> list[Array]:
    """The fields of named tuples as columns; a field that none of them has is ``None``."""
    import numpy as np

    columns: list[Array] = []
    for number in range(len(kind._fields)):
        values = [None if t is None else t[number] for t in tuples]
        numbers = np.array([math.nan if value is None else value for value in values], np.float64)
        columns.append(None if all(value is None for value in values) else numbers)
    return columns


class _Requests:
    """Counts and latencies, checked; what is odd about each row is noted as bits in ``kinds``."""

    def __init__(self, table: Table, methodology: Methodology) -> None:
        import numpy as np

        self.kinds = np.zeros(table.rows, np.uint8)
        self._input = self._checked(table, "input_tokens", _NO_INPUT, _BAD_INPUT, engine.MAX_TOKENS)
        self._output = self._checked(table, "output_tokens", _NO_OUTPUT, _BAD_OUTPUT, engine.MAX_TOKENS)
        self._latency_s = self._checked(table, "latency_s", _NO_LATENCY, _BAD_LATENCY, math.inf)
        self._bounds = getattr(methodology, "bounds", None)
        if "tokens_estimated" in table.names:
            self.kinds[table.numbers("tokens_estimated") > 0] |= _ESTIMATED
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

    def read(self, rows: slice) -> tuple[Usage, Usage, Array]:
        """Usage at both ends, and latency, of some rows."""
        import numpy as np

        latency_s = self._latency_s[rows]
        latency_s = np.where(np.isnan(latency_s), math.inf, latency_s)
        output = self._output[rows]
        low = high = Usage(self._input[rows], output)
        estimated = (self.kinds[rows] & _ESTIMATED) != 0
        if estimated.any():
            low = Usage(low.input_tokens, np.where(estimated, output * engine.ESTIMATE_LOW, output))
            high = Usage(high.input_tokens, np.where(estimated, output * engine.ESTIMATE_HIGH, output))
        if self._bounds is not None:
            low, high = self._bounds(low)[0], self._bounds(high)[1]
        return low, high, latency_s


def _codes(methodology: Methodology, names: _Names, requests: _Requests) -> Mapping[str, Lists]:
    """What there is to say of each row: asked of the engine once for each kind of row that there is."""
    import numpy as np

    key = names.index.astype(np.int64) * _KINDS + requests.kinds
    distinct, index = _numbered(key, len(names.distinct) * _KINDS)
    warnings, errors = [], []
    for place, kind in (divmod(int(each), _KINDS) for each in distinct):
        told = engine.assess(
            engine.catalog(),
            methodology=methodology,
            usage=_example(kind),
            latency_s=_value(kind, _NO_LATENCY, _BAD_LATENCY, 1.0),
            **names.request(names.distinct[place]),
        )
        warnings.append(tuple(notice.code for notice in told.warnings))
        errors.append(tuple(notice.code for notice in told.errors))
    return {"warnings": Lists(index, warnings), "errors": Lists(index, errors)}


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

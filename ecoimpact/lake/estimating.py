"""One pure function over Arrow batches: requests in, the same rows with figures out.

Engines that run functions over batches (Spark, Dask, Ray, DuckDB) call an :class:`Estimator`, and so does
``ecoimpact reestimate``. Rules of this file: rows keep their number and order; the types of what comes out follow from the
schema that goes in, never from what a batch holds; an estimator travels to other processes with all that it knows, so that
they give the same figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ecoimpact import batch, data, engine, methodologies
from ecoimpact.types import FLAT_FIELDS, Methodology

if TYPE_CHECKING:
    import pyarrow as pa

USED = ("model", "output_tokens", *batch.OPTIONAL)
"""Our names for the columns that are read."""

RESULTS = (*FLAT_FIELDS, "warnings", "errors", "methodology", "data_version")
"""The columns that every table gets."""


class Estimator:
    """Adds figures to Arrow batches of requests, as :func:`ecoimpact.estimate_batch` works them out.

    A batch comes back with all its columns in their order. The figures of records (``energy_kwh_min``, ...), ``warnings``,
    ``errors``, ``methodology`` and ``data_version`` replace columns of these names or are appended. So does ``zone``, which
    then says where the figures are for, in tables that have none, in tables that have the shape of the log
    (``request_model`` or ``response_model``) and where a zone is given; and ``model``, in tables of the log's shape.
    Everything else is left as it is.

    Args:
        methodology: a name, or a :class:`~ecoimpact.types.Methodology`.
        zone: the electricity zone of every row, whatever the rows say; default: that of the row, else the provider's own.
        columns: our names to those of the table, such as ``{"output_tokens": "completion_tokens"}``. Where it names a
            column of the model, only those that it names are used for it.

    Raises:
        ValueError: an unknown methodology, zone, or name of ours.

    What is registered (``register_model``, ``register_site``) counts as of the moment when the estimator is made.

    >>> import pyarrow as pa
    >>> requests = pa.RecordBatch.from_pydict({"id": [7, 8], "model": ["gpt-4o-mini", "?"], "completion_tokens": [400, 1]})
    >>> figures = Estimator(columns={"output_tokens": "completion_tokens"})(requests)
    >>> figures["id"].to_pylist(), figures["errors"].to_pylist(), figures["pe_mj_max"].null_count
    ([7, 8], [[], ['model-not-registered']], 1)
    """

    def __init__(
        self,
        methodology: str | Methodology = engine.DEFAULT_METHODOLOGY,
        *,
        zone: str | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> None:
        self._known = batch.Known(engine.validate_methodology(methodology), engine.catalog())
        self.zone = None if zone is None else engine.validate_zone(zone)
        self.columns = dict(columns or {})
        for name in self.columns:
            if name not in USED:
                raise ValueError(f"no column of ours is called {name!r}{_near(name, USED)}; there are {', '.join(USED)}")

    @property
    def methodology(self) -> Methodology:
        return self._known.methodology

    def __repr__(self) -> str:
        return f"<Estimator {self.methodology.name}{f', {self.zone}' if self.zone else ''}>"

    # --- to other processes

    def __getstate__(self) -> dict[str, Any]:
        name = self.methodology.name
        published = name in methodologies.names() and methodologies.get(name) is self.methodology
        return {
            "data_version": data.DATA_VERSION,
            "methodology": name if published else self.methodology,
            "zone": self.zone,
            "columns": self.columns,
            "models": dict(self._known.catalog.models),
            "sites": dict(self._known.catalog.sites),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["data_version"] != data.DATA_VERSION:
            raise ValueError(
                f"the estimator was made with the tables {state['data_version']}, this process has {data.DATA_VERSION}: "
                "install the same version of ecoimpact in both"
            )
        catalog = engine.Catalog(state["models"], state["sites"])
        self._known = batch.Known(engine.validate_methodology(state["methodology"]), catalog)
        self.zone = state["zone"]
        self.columns = state["columns"]

    @property
    def registered(self) -> dict[str, Any]:
        """What the program has registered, as plain text by name: two estimators that agree in it know the same."""
        known = {
            f"model {provider or '*'} {name}": repr(card) for (provider, name), card in self._known.catalog.models.items()
        }
        return {**known, **{f"site {place}": repr(site) for place, site in self._known.catalog.sites.items()}}

    # --- the function

    def schema(self, given: pa.Schema) -> pa.Schema:
        """The schema of what comes out for batches of a schema.

        Raises:
            ValueError: a needed column is missing; the message lists near names.
        """
        import pyarrow as pa

        inputs = self.inputs(given.names)
        types = {name: _type(name) for name in self._results(given.names, inputs)}
        fields = [pa.field(f.name, types[f.name], metadata=f.metadata) if f.name in types else f for f in given]
        fields += [pa.field(name, kind) for name, kind in types.items() if name not in given.names]
        return pa.schema(fields, given.metadata)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with its figures.

        Raises:
            ValueError: a needed column is missing; the message lists near names.
        """
        import pyarrow as pa

        names = batch.schema.names
        schema = self.schema(batch.schema)
        inputs = self.inputs(names)
        results = self._estimated(batch, inputs)
        wanted = self._results(names, inputs)
        arrays = []
        for place, field in enumerate(schema):
            is_result = field.name in wanted
            arrays.append(results[field.name] if is_result else batch.column(place))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def inputs(self, names: Iterable[str]) -> dict[str, str]:
        """Which column of a table is read for which of ours.

        Raises:
            ValueError: a needed column is missing; the message lists near names.
        """
        names = list(names)
        for ours, theirs in self.columns.items():
            if theirs not in names:
                raise ValueError(f"the table has no column {theirs!r}, named for {ours!r}{_near(theirs, names)}")
        found = {name: name for name in USED if name in names}
        if any(name in self.columns for name in batch.MODEL_NAMES):
            found = {name: theirs for name, theirs in found.items() if name not in batch.MODEL_NAMES}
        found |= self.columns
        if not any(name in found for name in batch.MODEL_NAMES):
            raise ValueError(_missing("model", names))
        if "output_tokens" not in found:
            raise ValueError(_missing("output_tokens", names))
        return found

    def _results(self, names: Iterable[str], inputs: Mapping[str, str]) -> tuple[str, ...]:
        """The columns that are replaced or appended."""
        is_log = any(inputs.get(name) == name for name in ("request_model", "response_model"))
        where = ("zone",) if is_log or self.zone is not None or "zone" not in names else ()
        return (*(("model",) if is_log else ()), *where, *RESULTS)

    def _estimated(self, given: pa.RecordBatch, inputs: Mapping[str, str]) -> dict[str, Any]:
        import pyarrow as pa

        from ecoimpact.columns import Arrow, arrow_array

        read = {ours: theirs for ours, theirs in inputs.items() if ours != "zone" or self.zone is None}
        columns = [_readable(ours, given.column(theirs)) for ours, theirs in read.items()]
        table = pa.RecordBatch.from_arrays(columns, names=list(read))
        found = batch.estimated(Arrow(table), self._known, zone=self.zone)
        texts = {"methodology": self.methodology.name, "data_version": data.DATA_VERSION}
        return {
            **{name: arrow_array(column) for name, column in found.figures.items()},
            "warnings": arrow_array(found.warnings),
            "errors": arrow_array(found.errors),
            "model": arrow_array(found.models),
            "zone": arrow_array(found.zones),
            **{name: pa.repeat(pa.scalar(text, pa.string()), given.num_rows) for name, text in texts.items()},
        }


def _readable(name: str, column: Any) -> Any:
    """Numbers where a column of numbers holds them as text; what is none of them is below 0, and so told to be invalid."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if name not in _NUMBERS or not is_text:
        return column
    texts = pc.dictionary_encode(pc.utf8_trim_whitespace(column.cast(pa.string())))
    return pa.array(map(_number, texts.dictionary.to_pylist()), pa.float64()).take(texts.indices)


_NUMBERS = frozenset({"input_tokens", "output_tokens", "latency_s", "tokens_estimated"})
_WORDS = {"": None, "null": None, "true": 1.0, "false": 0.0}


def _number(text: str) -> float | None:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return float(text)
    except ValueError:
        return -1.0


def _type(name: str) -> Any:
    import pyarrow as pa

    if name in ("warnings", "errors"):
        return pa.list_(pa.string())
    return pa.float64() if name in FLAT_FIELDS else pa.string()


def _near(name: str, known: Iterable[str]) -> str:
    by_lower = {other.lower(): other for other in known}
    close = get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)
    return f"; near: {', '.join(by_lower[other] for other in close)}" if close else ""


def _missing(name: str, names: list[str]) -> str:
    has = f"it has {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}" if names else "it has no columns"
    return f"the table has no column {name!r}{_near(name, names)}; {has}; columns={{{name!r}: ...}} says which it is"

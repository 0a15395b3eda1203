"""The vocabulary of the package: plain values that every room may import.

Rules that hold in this file: the standard library only, no I/O, no clock. Values are frozen. A quantity that nobody knows
is ``None``, never zero. Units stand in the names or in the docstring of the field.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeGuard, overload, runtime_checkable

Number: TypeAlias = Any
"""A float, or a numpy array of float64: formulas are written once for both."""

Status: TypeAlias = Literal["ok", "error", "cancelled", "abandoned"]


# --- quantities ---------------------------------------------------------------------------------------------------------


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, Real)  # numpy's numbers too, without numpy


@dataclass(frozen=True, slots=True, eq=False)
class Range:
    """An interval of a quantity, from everything low to everything high.

    ``mean`` is the midpoint; ``central`` is the methodology's own best value where it has one, else the midpoint.
    ``float()`` gives the mean. A range is below a number (or another range) when all of it is.

    Raises:
        ValueError: ``min`` is above ``max``, or a bound is not a number.

    >>> r = Range(1.0, 3.0)
    >>> r.mean, float(r), r < 4, sum([r, r]), r * 2 == Range(2, 6)
    (2.0, 2.0, True, Range(min=2.0, max=6.0), True)
    >>> f"{r:.1f}", f"{Range(2, 2):.1f}"
    ('2.0 [1.0 - 3.0]', '2.0')
    """

    min: float
    max: float
    central: float = field(default=math.nan, repr=False)

    def __post_init__(self) -> None:
        if not self.min <= self.max:
            raise ValueError(f"a range needs min <= max, got {self.min!r} and {self.max!r}")
        if math.isnan(self.central):
            object.__setattr__(self, "central", self.mean)
        elif not self.min <= self.central <= self.max:
            raise ValueError(f"the central value {self.central!r} is outside {self.min!r} to {self.max!r}")

    @property
    def mean(self) -> float:
        """The midpoint of both ends."""
        return self.min if self.min == self.max else (self.min + self.max) / 2

    def __float__(self) -> float:
        return float(self.mean)

    def __add__(self, other: object) -> Range:
        if isinstance(other, Range):
            return Range(self.min + other.min, self.max + other.max, self.central + other.central)
        if _is_number(other):
            return Range(self.min + other, self.max + other, self.central + other)
        return NotImplemented

    __radd__ = __add__

    def __mul__(self, scalar: object) -> Range:
        if not _is_number(scalar):
            return NotImplemented
        if not scalar >= 0:
            raise ValueError(f"a range is multiplied by a number >= 0, got {scalar!r}")
        return Range(self.min * scalar, self.max * scalar, self.central * scalar)

    __rmul__ = __mul__

    def __truediv__(self, scalar: object) -> Range:
        if not _is_number(scalar):
            return NotImplemented
        if not scalar > 0:
            raise ValueError(f"a range is divided by a number > 0, got {scalar!r}")
        return Range(self.min / scalar, self.max / scalar, self.central / scalar)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Range):
            return (self.min, self.max, self.central) == (other.min, other.max, other.central)
        if _is_number(other):
            return self.min == other == self.max
        return NotImplemented

    def __hash__(self) -> int:
        # A range of one point equals that number, so both must share a hash.
        return hash(self.min) if self.min == self.max else hash((self.min, self.max, self.central))

    # The order is the one EcoLogits' users know: strict comparisons want whole intervals apart.
    def __lt__(self, other: object) -> bool:
        if isinstance(other, Range):
            return self.max < other.min
        return self.max < other if _is_number(other) else NotImplemented

    def __gt__(self, other: object) -> bool:
        if isinstance(other, Range):
            return self.min > other.max
        return self.min > other if _is_number(other) else NotImplemented

    def __le__(self, other: object) -> bool:
        if isinstance(other, Range):
            return self.max <= other.max
        return self.max <= other if _is_number(other) else NotImplemented

    def __ge__(self, other: object) -> bool:
        if isinstance(other, Range):
            return self.min >= other.min
        return self.min >= other if _is_number(other) else NotImplemented

    def __format__(self, spec: str) -> str:
        if self.min == self.max:
            return format(self.min, spec)
        return f"{format(self.central, spec)} [{format(self.min, spec)} - {format(self.max, spec)}]"

    def __str__(self) -> str:
        return format(self, ".3g")


@dataclass(frozen=True, slots=True)
class Figure:
    """One impact criterion of a request: a :class:`Range` with its unit and its name."""

    type: str
    name: str
    value: Range
    unit: str

    @property
    def min(self) -> float:
        return self.value.min

    @property
    def max(self) -> float:
        return self.value.max

    @property
    def mean(self) -> float:
        return self.value.mean

    @property
    def central(self) -> float:
        return self.value.central

    def __float__(self) -> float:
        return float(self.value)

    def __add__(self, other: Figure | int) -> Figure:
        if isinstance(other, Figure):
            if other.type != self.type:
                raise TypeError(f"cannot add {other.type} to {self.type}: they are different criteria")
            return Figure(self.type, self.name, self.value + other.value, self.unit)
        return self if other == 0 else NotImplemented  # 0 is where sum() starts

    __radd__ = __add__

    def __format__(self, spec: str) -> str:
        return f"{format(self.value, spec or '.3g')} {self.unit}"

    def __str__(self) -> str:
        return format(self, "")


class Figures(NamedTuple):
    """What a methodology gives for one request at one end of the range (or for arrays of requests).

    Energy in kWh, GWP in kgCO2eq, ADPe in kgSbeq, PE in MJ, water in L. ``None`` where the methodology has no such part.
    """

    usage_energy_kwh: Number
    usage_gwp_kgco2eq: Number
    usage_adpe_kgsbeq: Number | None
    usage_pe_mj: Number | None
    usage_wcf_l: Number | None
    embodied_gwp_kgco2eq: Number | None
    embodied_adpe_kgsbeq: Number | None
    embodied_pe_mj: Number | None
    embodied_wcf_l: Number | None = None
    training_gwp_kgco2eq: Number | None = None
    training_wcf_l: Number | None = None

    def total(self, criterion: str) -> Number | None:
        """The sum of the phases that are known, or ``None`` where the usage phase is not."""
        usage, others = _PHASE_PLACES[criterion]
        total = self[usage]
        if total is None:
            return None
        for place in others:
            part = self[place]
            if part is not None:
                total = total + part
        return total


class Criterion(NamedTuple):
    """A criterion's key in the attribute tree, its EcoLogits type and name, and its unit."""

    key: str
    type: str
    name: str
    unit: str
    suffix: str


CRITERIA: tuple[Criterion, ...] = (
    Criterion("energy", "energy", "Energy", "kWh", "energy_kwh"),
    Criterion("gwp", "GWP", "Global Warming Potential", "kgCO2eq", "gwp_kgco2eq"),
    Criterion("adpe", "ADPe", "Abiotic Depletion Potential (elements)", "kgSbeq", "adpe_kgsbeq"),
    Criterion("pe", "PE", "Primary Energy", "MJ", "pe_mj"),
    Criterion("wcf", "WCF", "Water Consumption Footprint", "L", "wcf_l"),
)
_CRITERION = {c.key: c for c in CRITERIA}
PHASES = ("usage", "embodied", "training")
PHASE_FIELDS: Mapping[str, tuple[str, ...]] = {
    c.key: tuple(f"{phase}_{c.suffix}" for phase in PHASES if f"{phase}_{c.suffix}" in Figures._fields) for c in CRITERIA
}
"""For each criterion the fields of :class:`Figures` that add up to its total, usage first."""
_PHASE_PLACES = {
    key: (Figures._fields.index(usage), tuple(map(Figures._fields.index, others)))
    for key, (usage, *others) in PHASE_FIELDS.items()
}


@dataclass(frozen=True, slots=True)
class Phase:
    """The part of the impacts that belongs to one phase of the life cycle. ``None`` where it has no such figure."""

    type: str
    name: str
    energy: Figure | None
    gwp: Figure | None
    adpe: Figure | None
    pe: Figure | None
    wcf: Figure | None


# --- what a request was -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one request, as the provider bills them.

    ``input_tokens`` include ``cached_input_tokens`` (read from the provider's cache) and ``cache_write_tokens`` (written to
    it); ``output_tokens`` include ``reasoning_tokens``. ``estimated`` says that the provider sent no count and
    ``output_tokens`` was derived from the length of what it generated. ``service_tier`` is what the provider says it
    served, where that is not its ordinary tier. ``priced_apart`` holds further parts that some providers bill on their
    own, by the names of ``genai-prices``, such as ``("input_audio_tokens", 12)``. ``generates`` is false for requests that
    only read, such as embeddings: not every methodology covers them. ``region`` is where the provider says it served the
    request, in its own word for it.
    """

    input_tokens: Number | None = None
    output_tokens: Number | None = None
    cached_input_tokens: Number | None = None
    reasoning_tokens: Number | None = None
    estimated: bool = False
    cache_write_tokens: Number | None = None
    service_tier: str | None = None
    priced_apart: tuple[tuple[str, int], ...] = ()
    generates: bool = True
    region: str | None = None


@dataclass(frozen=True, slots=True)
class Inference:
    """One request to a model, finished: all that the engine and the log need of it. It holds no content.

    ``started_at`` is Unix time in seconds. ``error_type`` is the class name of the exception, never its message.
    """

    provider: str
    endpoint: str
    request_model: str | None
    response_model: str | None
    usage: Usage
    latency_s: float | None
    time_to_first_token_s: float | None
    started_at: float
    stream: bool
    status: Status
    error_type: str | None = None
    response_id: str | None = None


# --- what serves it -----------------------------------------------------------------------------------------------------


class ModelParameters(NamedTuple):
    """A model as a methodology sees it, at one end of its ranges."""

    active_params_b: Number
    total_params_b: Number
    weight_bits: Number | None = None
    tokens_per_s: Number | None = None
    time_to_first_token_s: Number | None = None
    cache_bytes_per_token: Number | None = None
    state_bytes: Number | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What a model keeps of a request, where it is not what attention in all layers keeps.

    ``cache_bytes_per_token`` for each token of context, and ``state_bytes`` whatever the context, as layers with a state
    space or linear attention do.
    """

    cache_bytes_per_token: float
    state_bytes: float
    source: str = ""


@dataclass(frozen=True, slots=True)
class Deployment:
    """Measured speed of a hosted model: generated tokens per second, and seconds to the first token."""

    tokens_per_s: float | None = None
    time_to_first_token_s: float | None = None


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known about a model. Parameter counts in billions; ``warnings`` are codes.

    ``weight_bits_source`` says where the bits of a weight are from, if not from where the size is.
    """

    provider: str
    name: str
    active_params_b: Range
    total_params_b: Range
    weight_bits: float | None = None
    deployment: Deployment | None = None
    architecture: str = "dense"
    warnings: tuple[str, ...] = ()
    source: str = ""
    weight_bits_source: str = ""
    memory: Memory | None = None

    def low(self) -> ModelParameters:
        return self._end(self.active_params_b.min, self.total_params_b.min)

    def high(self) -> ModelParameters:
        return self._end(self.active_params_b.max, self.total_params_b.max)

    def _end(self, active_params_b: float, total_params_b: float) -> ModelParameters:
        deployment = self.deployment or Deployment()
        return ModelParameters(
            active_params_b,
            total_params_b,
            self.weight_bits,
            deployment.tokens_per_s,
            deployment.time_to_first_token_s,
            None if self.memory is None else self.memory.cache_bytes_per_token,
            None if self.memory is None else self.memory.state_bytes,
        )


ResolutionStep: TypeAlias = Literal["exact", "alias", "normalised", "family", "size", "price", "registered"]


@dataclass(frozen=True, slots=True)
class ModelMatch:
    """What a model name was resolved to, and how: ``requested`` as the program wrote it, ``name`` the card's."""

    requested: str
    provider: str
    name: str
    step: ResolutionStep

    def __str__(self) -> str:
        return f"{self.provider}/{self.name} ({self.step})"


class SiteFactors(NamedTuple):
    """A site as a methodology sees it, at one end of its ranges.

    ``pue`` is a ratio, ``wue_l_per_kwh`` the water used on site; the grid's factors are per kWh: ``gwp`` in kgCO2eq,
    ``adpe`` in kgSbeq, ``pe`` in MJ, ``wue`` in L.
    """

    pue: Number
    wue_l_per_kwh: Number
    gwp: Number
    adpe: Number
    pe: Number
    wue: Number


@dataclass(frozen=True, slots=True)
class ElectricityMix:
    """Impact factors of a kWh from the grid of a zone, each a range where the zone is one of several.

    ``gwp`` kgCO2eq/kWh, ``adpe`` kgSbeq/kWh, ``pe`` MJ/kWh, ``wue`` L/kWh. ``warnings`` are codes, such as
    ``electricity-mix-pe-world`` where the world's figure stands in.
    """

    gwp: Range
    adpe: Range
    pe: Range
    wue: Range
    zone: str
    year: str = ""
    source: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Site:
    """The data centre that serves a request: overheads and the electricity it draws. ``wue_l_per_kwh`` is on-site water."""

    pue: Range
    wue_l_per_kwh: Range
    mix: ElectricityMix
    source: str = ""
    warnings: tuple[str, ...] = ()

    def low(self) -> SiteFactors:
        mix = self.mix
        return SiteFactors(self.pue.min, self.wue_l_per_kwh.min, mix.gwp.min, mix.adpe.min, mix.pe.min, mix.wue.min)

    def high(self) -> SiteFactors:
        mix = self.mix
        return SiteFactors(self.pue.max, self.wue_l_per_kwh.max, mix.gwp.max, mix.adpe.max, mix.pe.max, mix.wue.max)


# --- how impacts are computed -------------------------------------------------------------------------------------------


StepLine: TypeAlias = tuple[str, str, float, str, str]
"""A step at one end, as a methodology gives it: symbol, formula, value, unit, source."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of an explanation: ``symbol = formula = value [unit]``, and where it comes from.

    An empty formula marks what is given. ``low`` and ``high`` are the value with all inputs low and with all inputs high:
    the ends of ``value``, in the other order where a step falls as its inputs grow, such as a time on more GPUs.
    """

    symbol: str
    formula: str
    value: Range
    unit: str
    source: str
    low: float = math.nan
    high: float = math.nan

    def __post_init__(self) -> None:
        if math.isnan(self.low) or math.isnan(self.high):
            object.__setattr__(self, "low", self.value.min)
            object.__setattr__(self, "high", self.value.max)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Every step from the inputs to the figures, in order. Iterates over :class:`Step`.

    A formula uses the symbols of steps before it, numbers, ``+ - * / **`` and the functions ``ceil``, ``exp``, ``log``,
    ``log2``, ``max``, ``min`` and ``sqrt``: worked out in order, the formulas give the figures. ``str()`` gives text,
    ``to_markdown()`` a table, notebooks show one.
    """

    methodology: str
    steps: tuple[Step, ...]

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    @overload
    def __getitem__(self, key: str) -> Step: ...
    @overload
    def __getitem__(self, key: int) -> Step: ...
    def __getitem__(self, key: str | int) -> Step:
        if isinstance(key, int):
            return self.steps[key]
        for step in self.steps:
            if step.symbol == key:
                return step
        raise KeyError(key)

    def __str__(self) -> str:
        lines = [self.methodology]
        for step in self.steps:
            lines.append(f"{step.symbol} = {step.value:.4g} {step.unit}".rstrip())
            lines += [f"    = {step.formula}"] if step.formula else []
            lines.append(f"    {step.source}")
        return "\n".join(lines)

    def to_markdown(self) -> str:
        """A table of all steps."""
        lines = [f"| {' | '.join(_STEP_COLUMNS)} |", "|---|---|---|---|---|"]
        for step in self.steps:
            words = (f"{step.value:.4g}", step.unit, step.source)
            cells = (_code_cell(step.symbol), _code_cell(step.formula), *map(_text_cell, words))
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from html import escape

        def row(cells: tuple[str, ...], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        rows = (row((s.symbol, s.formula, f"{s.value:.4g}", s.unit, s.source), "td") for s in self.steps)
        head = f"<caption>{escape(self.methodology)}</caption><thead>{row(_STEP_COLUMNS, 'th')}</thead>"
        return f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"


_STEP_COLUMNS = ("symbol", "formula", "value", "unit", "source")


def _code_cell(text: str) -> str:
    text = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return f"`{text}`" if text else ""


def _text_cell(text: str) -> str:
    """Text that neither ends its cell nor its line, and is no markup of its own."""
    for sign in "\\|<>[]`":
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.split())


@runtime_checkable
class Methodology(Protocol):
    """Two pure steps. ``serve`` depends on the model alone and is cached; ``assess`` adds the request and the site.

    Both work on floats and on numpy arrays alike, read no data and no clock. Every output is monotone in every input, so
    that the function at all-low and at all-high inputs gives the ends of the range. ``site_table`` names the provider
    table that belongs to the edition. One that also counts what is read has an attribute ``counts_input`` that is true:
    without it, requests that generate nothing get no figures. One with a true ``uses_region`` takes the cloud's region from
    the endpoint's host, where no zone is given and the host names one (``zone-from-host``).

    Optional methods: ``notices(usage, latency_s) -> tuple[str, ...]``, codes of warnings about a request (``latency_s`` is
    ``math.inf`` where nobody measured it); ``bounds(usage) -> tuple[Usage, Usage]``, the request at its low and at its high
    end where something that the methodology needs is not known of it, else the same object twice;
    ``ends(low, high) -> tuple[Any, Any, Any]``, what ``serve`` and ``steps`` are to take for a model with these ends, at
    the low end, at the high end, and in the middle, where the methodology has intervals and a best value of its own: the
    figures in the middle are then the ``central`` ones of the result; beside it, ``remarks(serving, site) ->
    tuple[str, ...]``, codes of warnings about a model whatever the request, from what is served in the middle.
    """

    name: str
    site_table: str

    def serve(self, model: ModelParameters) -> Any: ...

    def assess(self, serving: Any, usage: Usage, latency_s: Number, site: SiteFactors) -> Figures: ...

    def steps(self, model: ModelParameters, usage: Usage, latency_s: Number, site: SiteFactors) -> tuple[StepLine, ...]:
        """The steps at one end: symbol, formula, value, unit, source, in the order of computation."""
        ...


# --- the result ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Notice:
    """A warning or an error about a figure: a stable ``code`` and a sentence for people."""

    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the engine worked out: the figures at both ends (``None`` with errors), and what they rest on."""

    low: Figures | None
    high: Figures | None
    methodology: str
    data_version: str
    model: ModelMatch | None = None
    zone: str | None = None
    warnings: tuple[Notice, ...] = ()
    errors: tuple[Notice, ...] = ()
    central: Figures | None = None
    explain: Callable[[], Explanation] | None = field(default=None, compare=False, repr=False)
    cost: Callable[[], float | None] | None = field(default=None, compare=False, repr=False)

    def total(self, criterion: str) -> tuple[Number, Number, Number] | None:
        """Low end, central value and high end of a total; ``None`` where it is unknown.

        The central value is that of the methodology, or the midpoint where it has none.
        """
        if self.low is None or self.high is None:
            return None
        low, high = self.low.total(criterion), self.high.total(criterion)
        if low is None or high is None:
            return None
        central = None if self.central is None else self.central.total(criterion)
        return low, (low + high) / 2 if central is None else _within(low, central, high), high


class Impacts:
    """The impacts of one request, with the attribute tree that users of EcoLogits know.

    ``energy`` [kWh], ``gwp`` [kgCO2eq], ``adpe`` [kgSbeq], ``pe`` [MJ] and ``wcf`` [L] are totals, each a :class:`Figure`
    with ``.value`` (always a :class:`Range`), ``.min``, ``.max``, ``.mean``, ``.unit``, ``.name`` and ``.type``;
    ``usage``, ``embodied`` and ``training`` hold the parts. All are ``None`` when ``errors`` says why there is no estimate.

    The figures may be computed when they are first read, from what was fixed at the moment of the call.
    """

    __slots__ = ("__weakref__", "_assessment", "_resolve")

    def __init__(self, assessment: Assessment) -> None:
        self._assessment: Assessment | None = assessment
        self._resolve: Callable[[], Assessment] | None = None

    @classmethod
    def deferred(cls, resolve: Callable[[], Assessment]) -> Impacts:
        """Impacts that call ``resolve`` (pure; it may run twice when two threads read at once) on first reading."""
        impacts = cls.__new__(cls)
        impacts._assessment = None
        impacts._resolve = resolve
        return impacts

    @property
    def assessment(self) -> Assessment:
        """The plain numbers behind the tree."""
        assessment = self._assessment
        if assessment is None:
            resolve = self._resolve
            if resolve is None:  # another thread finished between the two reads
                return self.assessment
            self._assessment = assessment = resolve()
            self._resolve = None
        return assessment

    @property
    def is_resolved(self) -> bool:
        """Whether the figures were read (or given), and so are fixed."""
        return self._assessment is not None

    # The totals
    @property
    def energy(self) -> Figure | None:
        return self._total("energy")

    @property
    def gwp(self) -> Figure | None:
        return self._total("gwp")

    @property
    def adpe(self) -> Figure | None:
        return self._total("adpe")

    @property
    def pe(self) -> Figure | None:
        return self._total("pe")

    @property
    def wcf(self) -> Figure | None:
        return self._total("wcf")

    # The phases
    @property
    def usage(self) -> Phase | None:
        return self._phase("usage", "Usage")

    @property
    def embodied(self) -> Phase | None:
        return self._phase("embodied", "Embodied")

    @property
    def training(self) -> Phase | None:
        """Training and fine-tuning shares; ``None`` for methodologies that have none."""
        return self._phase("training", "Training")

    # What they rest on
    @property
    def warnings(self) -> tuple[Notice, ...]:
        return self.assessment.warnings

    @property
    def errors(self) -> tuple[Notice, ...]:
        return self.assessment.errors

    @property
    def has_warnings(self) -> bool:
        return bool(self.assessment.warnings)

    @property
    def has_errors(self) -> bool:
        return bool(self.assessment.errors)

    @property
    def methodology(self) -> str:
        """The edition's name, such as ``ecologits-2025-09``."""
        return self.assessment.methodology

    @property
    def data_version(self) -> str:
        return self.assessment.data_version

    @property
    def model(self) -> ModelMatch | None:
        return self.assessment.model

    @property
    def zone(self) -> str | None:
        return self.assessment.zone

    @property
    def cost(self) -> float | None:
        """USD, by ``genai-prices`` (extra ``cost``); ``None`` where the price or the extra is missing."""
        cost = self.assessment.cost
        return cost() if cost is not None else None

    def explain(self) -> Explanation:
        """Every step from the inputs to the figures; empty where there is no estimate."""
        explain = self.assessment.explain
        return explain() if explain is not None else Explanation(self.methodology, ())

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for ``json.dumps``: ``<figure>_<unit>_<min|central|max>``, and both ends of the parts, with
        ``usage_`` and ``embodied_`` before.

        Parts that only some methodologies have, such as ``training_gwp_kgco2eq_min``, are there where they are known.
        """
        assessment = self.assessment
        return {
            **flat_figures(assessment),
            **_rarer_figures(assessment),
            "methodology": assessment.methodology,
            "data_version": assessment.data_version,
            "model": str(assessment.model) if assessment.model else None,
            "zone": assessment.zone,
            "warnings": [{"code": w.code, "message": w.message} for w in assessment.warnings],
            "errors": [{"code": e.code, "message": e.message} for e in assessment.errors],
        }

    def _range(self, value: Callable[[Figures], Number | None]) -> Range | None:
        assessment = self.assessment
        if assessment.low is None or assessment.high is None:
            return None
        low, high = value(assessment.low), value(assessment.high)
        if low is None or high is None:
            return None
        if assessment.central is None:
            return Range(low, high)
        central = value(assessment.central)
        return Range(low, high, math.nan if central is None else _within(low, central, high))

    def _total(self, key: str) -> Figure | None:
        return _figure(key, self._range(lambda figures: figures.total(key)))

    def _phase(self, phase: str, name: str) -> Phase | None:
        parts = {
            c.key: _figure(c.key, self._range(lambda figures, f=f"{phase}_{c.suffix}": getattr(figures, f, None)))  # type: ignore[misc]
            for c in CRITERIA
        }
        return Phase(type=phase, name=name, **parts) if any(parts.values()) else None

    def __eq__(self, other: object) -> bool:
        return self.assessment == other.assessment if isinstance(other, Impacts) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.assessment)

    def __reduce__(self) -> tuple[Any, ...]:
        # What is computed on demand (explain, cost) holds functions: it stays behind, the figures travel.
        a = self.assessment
        fields = (a.low, a.high, a.methodology, a.data_version, a.model, a.zone, a.warnings, a.errors, a.central)
        return (_restore, fields)

    def __copy__(self) -> Impacts:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Impacts:
        return self  # immutable

    def __repr__(self) -> str:
        if self.has_errors:
            return f"<Impacts: no estimate: {'; '.join(e.code for e in self.errors)}>"
        figures = ", ".join(f"{c.key}={getattr(self, c.key)}" for c in CRITERIA if getattr(self, c.key) is not None)
        return f"<Impacts {figures} ({self.methodology})>"

    def __str__(self) -> str:
        a = self.assessment
        head = f"Impacts of one request ({a.methodology}, data {a.data_version})"
        lines = [head]
        if a.model is not None:
            lines.append(f"  model   {a.model}")
        if a.zone is not None:
            lines.append(f"  zone    {a.zone}")
        for c in CRITERIA:
            figure: Figure | None = getattr(self, c.key)
            if figure is not None:
                lines.append(f"  {c.key:<7} {figure.value:.3g} {c.unit}")
        lines += [f"  warning {w}" for w in a.warnings]
        lines += [f"  error   {e}" for e in a.errors]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from html import escape

        a = self.assessment
        rows = []
        for c in CRITERIA:
            figure: Figure | None = getattr(self, c.key)
            if figure is not None:
                cells = (figure.name, f"{figure.min:.3g}", f"{figure.central:.3g}", f"{figure.max:.3g}", figure.unit)
                rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
        notices = "".join(f"<li>{escape(str(n))}</li>" for n in (*a.errors, *a.warnings))
        caption = escape(f"{a.model or 'unknown model'}, {a.zone or 'unknown zone'}, {a.methodology}")
        head = "".join(f"<th>{h}</th>" for h in ("", "low", "central", "high", "unit"))
        table = f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        return table + (f"<ul>{notices}</ul>" if notices else "")


def _within(low: Number, central: Number, high: Number) -> Number:
    """A central value that rounding may have put a last digit outside of its ends."""
    return min(max(central, low), high)


def _figure(key: str, value: Range | None) -> Figure | None:
    criterion = _CRITERION[key]
    return None if value is None else Figure(criterion.type, criterion.name, value, criterion.unit)


def _restore(*fields: Any) -> Impacts:
    return Impacts(Assessment(*fields))


def flat_figures(assessment: Assessment) -> dict[str, float | None]:
    """The figures under the names that records and batches use: ``energy_kwh_min``, ``usage_gwp_kgco2eq_max``, ...

    Totals have a ``central`` value besides their ends: that of the methodology, or the midpoint where it has none.
    """
    lows, highs = assessment.low, assessment.high
    if lows is None or highs is None:
        return dict.fromkeys(FLAT_FIELDS)
    flat: dict[str, float | None] = {}
    for key, names in _FLAT_TOTALS:
        flat.update(zip(names, assessment.total(key) or _NO_TOTAL, strict=True))
    for place, name_min, name_max in _FLAT_PHASES:
        flat[name_min], flat[name_max] = lows[place], highs[place]
    return flat


def _rarer_figures(assessment: Assessment) -> dict[str, float]:
    """The figures of phases that records have no fields for: where they are known."""
    flat: dict[str, float] = {}
    for end, figures in (("min", assessment.low), ("max", assessment.high)):
        for name in Figures._fields:
            value = None if figures is None or name in RECORD_PHASE_FIELDS else getattr(figures, name)
            if value is not None:
                flat[f"{name}_{end}"] = value
    return flat


_PHASES_IN_RECORDS = (
    *(f"usage_{c.suffix}" for c in CRITERIA),
    *(f"embodied_{c.suffix}" for c in CRITERIA if c.key in ("gwp", "adpe", "pe")),
)
RECORD_PHASE_FIELDS = frozenset(_PHASES_IN_RECORDS)

_FLAT_TOTALS = tuple((c.key, tuple(f"{c.suffix}_{end}" for end in ("min", "central", "max"))) for c in CRITERIA)
_NO_TOTAL = (None, None, None)
_FLAT_PHASES = tuple((Figures._fields.index(name), f"{name}_min", f"{name}_max") for name in _PHASES_IN_RECORDS)
FLAT_FIELDS = (
    *(name for _, names in _FLAT_TOTALS for name in names),
    *(name for _, *names in _FLAT_PHASES for name in names),
)
"""The names of all figures, as records and batches use them."""


# --- what is logged -----------------------------------------------------------------------------------------------------

RECORD_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Record:
    """One finished request as exporters and the log see it: what it was, what it cost. It holds no content.

    ``to_dict()`` gives the flat form of the log, one JSON object a line.
    """

    id: str
    inference: Inference
    assessment: Assessment
    labels: Mapping[str, str] = field(default_factory=dict)
    cost_usd: float | None = None
    price_version: str | None = None

    def to_dict(self) -> dict[str, Any]:
        i, a = self.inference, self.assessment
        usage = i.usage
        return {
            "schema": RECORD_SCHEMA,
            "id": self.id,
            "time": rfc3339(i.started_at),
            "provider": i.provider,
            "endpoint": i.endpoint,
            "request_model": i.request_model,
            "response_model": i.response_model,
            "model": a.model.name if a.model else None,
            "input_tokens": usage.input_tokens,
            "cached_input_tokens": usage.cached_input_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "output_tokens": usage.output_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
            "tokens_estimated": usage.estimated,
            "service_tier": usage.service_tier,
            "latency_s": i.latency_s,
            "time_to_first_token_s": i.time_to_first_token_s,
            "stream": i.stream,
            "status": i.status,
            "error_type": i.error_type,
            "zone": a.zone,
            "methodology": a.methodology,
            "data_version": a.data_version,
            **flat_figures(a),
            "cost_usd": self.cost_usd,
            "price_version": self.price_version,
            "warnings": [w.code for w in a.warnings],
            "errors": [e.code for e in a.errors],
            "labels": dict(self.labels),
        }


def rfc3339(unix_s: float) -> str:
    """``1767225600.25`` -> ``2026-01-01T00:00:00.250000Z``."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Exporter(Protocol):
    """Anything called with each :class:`Record`, on the background thread. A plain function will do."""

    def __call__(self, record: Record, /) -> object: ...

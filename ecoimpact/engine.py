"""From a model's name and its token counts to impacts: the look-up of model and site, and a methodology over both.

It knows no SDK and no log. What comes from outside (names, counts, latencies) never raises here: odd data gives
``errors`` and no figures, or a warning. What a programmer configures (a methodology, a zone, a model to register) raises
``ValueError`` at once, with what would be right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from numbers import Real
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

from ecoimpact import data, methodologies
from ecoimpact.data import notice
from ecoimpact.grid import GridIntensity
from ecoimpact.types import (
    Assessment,
    ElectricityMix,
    Explanation,
    Impacts,
    Methodology,
    ModelCard,
    ModelMatch,
    Notice,
    Range,
    Site,
    SiteFactors,
    Step,
    Usage,
)

DEFAULT_METHODOLOGY = "ecologits"
MAX_TOKENS = 1_000_000_000
"""No request generates more; a larger count is an error of whoever counted."""

ESTIMATE_LOW, ESTIMATE_HIGH = 0.5, 2.0
"""How far an estimated token count may be off: the ends of its range as multiples of it."""

_MAX_PLANS = 2048  # names come from outside: what is remembered about them is bounded
_MAX_QUOTED = 80
_FOREVER_S = 1e18

Bound: TypeAlias = float | tuple[float, float]


# --- what is registered -------------------------------------------------------------------------------------------------


class Catalog:
    """What the program has registered, as of one moment: registering swaps in a new catalogue and leaves this one."""

    __slots__ = ("models", "plans", "sites")

    def __init__(self, models: Mapping[tuple[str | None, str], ModelCard], sites: Mapping[str, Site]) -> None:
        self.models = models
        self.sites = sites
        self.plans: dict[tuple[Any, ...], Plan] = {}


_current = Catalog({}, {})
_registering = Lock()


def catalog() -> Catalog:
    """The catalogue as it is now. Keep it to get the figures of this moment later."""
    return _current


def register_model(
    name: str,
    *,
    provider: str | None = None,
    active_params_b: Bound,
    total_params_b: Bound,
    weight_bits: float | None = None,
    source: str,
) -> None:
    """Make a model known, or better known: its size in billions of parameters, a number or ``(low, high)``.

    Without a provider it holds for every provider. ``source`` says where the figures are from.

    Raises:
        ValueError: what is wrong, and what would be right.

    >>> register_model("acme-7b", active_params_b=7, total_params_b=(7, 8), source="model card of 2026")
    >>> estimate("acme-7b", output_tokens=100).model.step
    'registered'
    """
    global _current  # noqa: PLW0603 - the one place that swaps the snapshot, under a lock
    active, total = _bounds("active_params_b", active_params_b), _bounds("total_params_b", total_params_b)
    if active.min <= 0 or total.min <= 0:
        raise ValueError("active_params_b and total_params_b are above 0, in billions of parameters")
    if active.min > total.min or active.max > total.max:
        raise ValueError(f"active_params_b ({active_params_b}) must not be above total_params_b ({total_params_b})")
    if weight_bits is not None and not 1 <= _number("weight_bits", weight_bits) <= 64:
        raise ValueError(f"weight_bits is between 1 and 64, got {weight_bits!r}")
    key = (None if provider is None else _name("provider", provider), _name("name", name))
    card = ModelCard(
        provider=key[0] or "registered",
        name=name.strip(),
        active_params_b=active,
        total_params_b=total,
        weight_bits=weight_bits,
        architecture="dense" if active == total else "moe",
        source=_text("source", source),
    )
    with _registering:
        _current = Catalog({**_current.models, key: card}, _current.sites)


def register_site(host_or_provider: str, *, zone: str, pue: Bound, wue_l_per_kwh: Bound, source: str | None = None) -> None:
    """Say where a provider, or the host of an endpoint, runs: electricity zone, PUE and water on site in L/kWh.

    An endpoint is named by its host, ``gpu.internal``, or by its address, ``http://gpu.internal:8000/v1``; with a port,
    only that port is meant.

    Raises:
        ValueError: what is wrong, and what would be right.

    >>> register_site("http://gpu.internal", zone="FRA", pue=1.2, wue_l_per_kwh=0.2)
    >>> register_site("groq", zone="SWE", pue=(1.1, 1.3), wue_l_per_kwh=(0, 0.3))
    """
    global _current  # noqa: PLW0603 - as above
    overhead, water = _bounds("pue", pue), _bounds("wue_l_per_kwh", wue_l_per_kwh)
    if overhead.min < 1:
        raise ValueError(f"pue is total energy over IT energy, so at least 1, got {pue!r}")
    if water.min < 0:
        raise ValueError(f"wue_l_per_kwh is at least 0, got {wue_l_per_kwh!r}")
    mix, _ = data.electricity(validate_zone(zone))
    assert mix is not None  # noqa: S101 - validate_zone has seen it
    where = _host(_name("host_or_provider", host_or_provider))
    site = Site(overhead, water, mix, source=_text("source", source) if source is not None else "registered by the program")
    with _registering:
        _current = Catalog(_current.models, {**_current.sites, where: site})


def _number(name: str, value: Any) -> float:
    if not _is_real(value) or not math.isfinite(value):
        raise ValueError(f"{name} is a finite number, got {value!r}")
    return float(value)


def _is_real(value: Any) -> bool:
    """Whether it is one number of any library, and not a truth value."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _bounds(name: str, value: Any) -> Range:
    ends = value if isinstance(value, tuple | list) else (value, value)
    if len(ends) != 2:
        raise ValueError(f"{name} is a number or a pair (low, high), got {value!r}")
    low, high = (_number(name, end) for end in ends)
    if low > high:
        raise ValueError(f"{name} is a pair (low, high) with low <= high, got {value!r}")
    return Range(low, high)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is a text that is not empty, got {value!r}")
    return value.strip()


def _name(name: str, value: Any) -> str:
    text = _text(name, value)
    if len(text) > data.MAX_NAME_LENGTH:
        raise ValueError(f"{name} has at most {data.MAX_NAME_LENGTH} characters, got {len(text)}")
    return text.lower()


def _host(text: str) -> str:
    """The host of an address, with a port that is not the scheme's own, or the text itself.

    >>> _host("https://LLM.example.org:443/v1//"), _host("http://gpu.internal:8000"), _host("groq")
    ('llm.example.org', 'gpu.internal:8000', 'groq')
    """
    text = text.strip().lower()
    scheme, separator, rest = text.partition("//")
    if not separator:
        scheme, rest = "", text
    authority = rest.partition("/")[0].partition("?")[0].rpartition("@")[2]
    return authority.removesuffix(_DEFAULT_PORTS.get(scheme, "/"))


_DEFAULT_PORTS = {"http:": ":80", "https:": ":443"}


# --- configuration ------------------------------------------------------------------------------------------------------


def validate_zone(zone: Any) -> str:
    """The code of a zone, or of a cloud's region, in its own spelling.

    Raises:
        ValueError: the zone is not known; the message lists near codes and names.

    >>> validate_zone("fra"), validate_zone("CA-qc"), validate_zone("AWS:eu-west-3")
    ('FRA', 'CA-QC', 'aws:eu-west-3')
    """
    names = data.zone_codes()
    code = zone.strip().upper() if isinstance(zone, str) else ""
    if code in names:
        return code
    regions = data.region_codes()
    if code.lower() in regions:
        return code.lower()
    from difflib import get_close_matches

    by_name = {name.lower(): known for known, name in names.items()}
    wanted = code.lower()
    parts = [by_name[name] for name in by_name if len(wanted) > 3 and wanted in name]
    near = (
        [known for known in names if code and known.endswith(f"-{code}")]
        + [by_name[name] for name in get_close_matches(wanted, by_name, n=3)]
        + parts[:3]
        + get_close_matches(code, names, n=3)
        + _near_regions(wanted)
    )
    known_names = {**names, **regions}
    hint = ", ".join(f"{known} ({known_names[known]})" for known in dict.fromkeys(near)) or "no near match"
    raise ValueError(
        f"unknown zone {zone!r}: a zone is an ISO 3166-1 alpha-3 code, a part of a country such as US-CA or SE-SE3, or a "
        f"cloud's region such as aws:eu-west-3; near: {hint}"
    )


def _near_regions(wanted: str) -> list[str]:
    """Regions by their own names, where the cloud is missing or another's; those of the cloud that was named first."""
    from difflib import get_close_matches

    regions = data.region_codes()
    cloud, colon, name = wanted.rpartition(":")
    same_name = [code for code in regions if code.partition(":")[2] == name]
    if not colon:
        return same_name
    return [*same_name, *get_close_matches(wanted, [code for code in regions if code.startswith(f"{cloud}:")] or regions)]


def validate_methodology(methodology: str | Methodology) -> Methodology:
    """The methodology object behind a name, or the object itself.

    Raises:
        ValueError: an unknown name, an object that is no methodology, or one whose provider table does not exist.
    """
    if isinstance(methodology, str):
        return methodologies.get(methodology)
    if not isinstance(methodology, Methodology):
        raise ValueError(f"a methodology is a name or has name, site_table, serve, assess, steps, got {methodology!r}")  # noqa: TRY004
    if methodology.site_table not in data.site_tables():
        known = ", ".join(data.site_tables())
        raise ValueError(f"unknown site_table {methodology.site_table!r} of {methodology.name!r}. Known: {known}")
    return methodology


def models(provider: str | None = None) -> list[ModelCard]:
    """All known models, the registered ones first, of one provider or of all."""
    known = [*_current.models.values(), *data.cards(), *data.added_cards()]
    return [card for card in known if provider in (None, card.provider)]


def zones() -> list[data.Zone]:
    """All electricity zones with their names and factors."""
    return list(data.zones())


# --- plans: what depends on the names alone -----------------------------------------------------------------------------


class Plan(NamedTuple):
    """All that follows from provider, model names, zone, host and methodology; requests add counts and latency."""

    methodology: Methodology
    low: Any
    high: Any
    site_low: SiteFactors
    site_high: SiteFactors
    is_point: bool
    zone: str | None
    match: ModelMatch | None
    warnings: tuple[Notice, ...]
    errors: tuple[Notice, ...]
    card: ModelCard | None = None
    site: Site | None = None
    notices: Callable[[Usage, float], tuple[str, ...]] | None = None
    """What the methodology says about a request, where it has anything to say."""
    bounds: Callable[[Usage], tuple[Usage, Usage]] | None = None
    """A request at both ends, where the methodology has a range for what is not known of it."""
    model_ends: tuple[Any, Any] = (None, None)
    """The model at both ends, as the methodology's steps take it."""
    central: Any = None
    """The middle of what is served, where the methodology has a best value of its own."""
    site_central: SiteFactors = SiteFactors(1, 0, 0, 0, 0, 0)
    hourly_source: str | None = None
    """Where the electricity's GWP is from, where it is that of the hour of a request."""


_NO_FACTORS = SiteFactors(1, 0, 0, 0, 0, 0)


def _plan(
    known: Catalog, methodology: Methodology, *, provider: Any, names: tuple[Any, ...], zone: Any, host: Any, served_in: Any
) -> Plan:
    asked = provider.strip().lower() if isinstance(provider, str) else None
    host_name = _host(host) if isinstance(host, str) else None
    warnings: list[Notice] = []
    errors: list[Notice] = []
    if provider is not None and not _is_provider(known, asked, host_name):
        errors.append(notice("provider-not-registered", _quoted(provider)))

    found = _model(known, asked, names)
    if found is None:
        errors.append(notice("model-not-registered", ", ".join(dict.fromkeys(map(_quoted, names))) or "no name was given"))
    grid, region = None, None
    if zone is not None:
        grid, region = data.electricity(zone) if isinstance(zone, str) else (None, None)
        if grid is None:
            errors.append(notice("zone-not-registered", _quoted(zone)))
    if errors or found is None:
        match = found.match if found else None
        return Plan(methodology, None, None, _NO_FACTORS, _NO_FACTORS, True, None, match, (), tuple(errors))

    card = found.card
    runs_at = card.provider if asked in (None, "litellm") else asked  # litellm is a library, not a place
    site, told = _site(known, methodology, host=host_name, runs_at=runs_at, grid=grid, region=region, served_in=served_in)
    codes = (*card.warnings, *site.mix.warnings, *site.warnings)
    warnings = [*map(notice, dict.fromkeys(codes)), *found.warnings, *told]

    low, high, central = _model_ends(methodology, card)
    site_low, site_high = site.low(), site.high()
    site_central = SiteFactors(*((a + b) / 2 for a, b in zip(site_low, site_high, strict=True)))
    served = None if central is None else methodology.serve(central)
    if served is not None and (remarks := getattr(methodology, "remarks", None)) is not None:
        warnings += map(_told, remarks(served, site_central))
    return Plan(
        methodology,
        methodology.serve(low),
        methodology.serve(high),
        site_low,
        site_high,
        low == high and site_low == site_high,
        site.mix.zone,
        found.match,
        tuple(warnings),
        (),
        card,
        site,
        notices=getattr(methodology, "notices", None),
        bounds=getattr(methodology, "bounds", None),
        model_ends=(low, high),
        central=served,
        site_central=site_central,
    )


def _site(
    known: Catalog,
    methodology: Methodology,
    *,
    host: str | None,
    runs_at: str,
    grid: ElectricityMix | None,
    region: data.Region | None,
    served_in: Any,
) -> tuple[Site, tuple[Notice, ...]]:
    """Where a request is served, and what there is to say about how that is known.

    What the program registered comes first, then the zone or region it gave; then the place that the answer names; then,
    for a methodology that wants it, the region that the host names; then the tables.
    """
    registered = next((known.sites[place] for place in _places(host, runs_at) if place in known.sites), None)
    if registered is not None:
        return (registered if grid is None else replace(registered, mix=grid)), ()
    told: tuple[Notice, ...] = ()
    if grid is None and served_in is not None and data.is_place(served_in):
        grid, region = data.place(served_in)
        code = "zone-from-response" if grid is not None else "zone-of-response-unknown"
        told = (notice(code, _quoted(served_in)),)
    if grid is None and host is not None and getattr(methodology, "uses_region", False):
        region = data.region_of_host(host)
        if region is not None:
            grid, told = data.mix(region.zone), (*told, notice("zone-from-host", region.code))
    site = data.site(methodology.site_table, runs_at, grid, region)
    if region is None and grid is not None and told and data.site(methodology.site_table, runs_at).mix == grid:
        told = ()  # that is where the provider runs anyway
    return site, told


def _model_ends(methodology: Methodology, card: ModelCard) -> tuple[Any, Any, Any]:
    """The model at both ends and, where the methodology has one, in the middle."""
    low, high = card.low(), card.high()
    ends = getattr(methodology, "ends", None)
    return (low, high, None) if ends is None else ends(low, high)


def _is_provider(known: Catalog, provider: str | None, host: str | None) -> bool:
    """A known id, a registered one, or a host: endpoints that nobody has listed go by their host's name."""
    if provider is None:
        return False
    registered = provider in known.sites or any(owner == provider for owner, _ in known.models)
    is_host = "." in provider or ":" in provider or provider == "localhost"
    return provider in data.PROVIDERS or registered or is_host or host is not None


def _places(host: str | None, provider: str) -> tuple[str, ...]:
    if host is None:
        return (provider,)
    name, _, port = host.rpartition(":")
    return (host, name, provider) if name and port.isdecimal() else (host, provider)


def _model(known: Catalog, provider: str | None, names: tuple[Any, ...]) -> data.Found | None:
    for name in names:
        if not isinstance(name, str):
            continue
        if found := _registered(known, provider, name) or data.find(provider, name):
            return found
    return None


def _registered(known: Catalog, provider: str | None, name: str) -> data.Found | None:
    if not known.models or len(name) > data.MAX_NAME_LENGTH:
        return None
    for form, _ in data.plain_forms(name):
        card = known.models.get((provider, form)) or known.models.get((None, form))
        if card is None and provider is None:
            card = next((card for (_, registered), card in known.models.items() if registered == form), None)
        if card is not None:
            return data.Found(card, ModelMatch(name, card.provider, card.name, "registered"), ())
    return None


def _quoted(value: object) -> str:
    if isinstance(value, int) and abs(value) > _FOREVER_S:
        return "a number out of all proportion"
    text = repr(value) if isinstance(value, str | int | float | None) else f"a value of type {type(value).__name__}"
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}..."


def plan(known: Catalog, methodology: Methodology, *, provider: Any, models: Any, zone: Any, host: Any) -> Plan:
    """What follows from names: looked up once, remembered in the catalogue. Odd names give a plan with errors."""
    return known.plans.get((provider, models, zone, host, None, id(methodology))) or _cached_plan(
        known, methodology, provider=provider, names=models, zone=zone, host=host
    )


def _cached_plan(
    known: Catalog, methodology: Methodology, *, provider: Any, names: Any, zone: Any, host: Any, served_in: Any = None
) -> Plan:
    candidates = tuple(names) if isinstance(names, tuple | list) else (names,)
    validate_methodology(methodology)
    plan = _plan(known, methodology, provider=provider, names=candidates, zone=zone, host=host, served_in=served_in)
    # Only short texts are remembered: a plan found by its key must be the plan of these very values.
    texts = (provider, zone, host, served_in, *candidates)
    if all(t is None or (isinstance(t, str) and len(t) <= data.MAX_NAME_LENGTH) for t in texts):
        if len(known.plans) >= _MAX_PLANS:
            known.plans.clear()
        # The plan keeps the methodology alive, so its id stays its own as long as the key is here.
        known.plans[provider, candidates, zone, host, served_in, id(methodology)] = plan
    return plan


# --- requests -----------------------------------------------------------------------------------------------------------


def assess(
    catalog: Catalog,
    *,
    provider: str | None,
    models: tuple[str | None, ...],
    usage: Usage,
    latency_s: float | None = None,
    zone: str | None = None,
    methodology: str | Methodology = DEFAULT_METHODOLOGY,
    host: str | None = None,
    started_at: float | None = None,
    grid: GridIntensity | None = None,
) -> Assessment:
    """Work out the figures of one request at both ends. Odd data never raises: it gives errors or warnings.

    ``models`` are names for the same model, the most telling first (that of the response, then that of the request).
    ``host`` is that of the endpoint: a site registered for it comes before the provider's. ``started_at`` is Unix time:
    the day for which prices are looked up; default: the day on which somebody asks. With a ``grid`` the GWP of the
    electricity is that of the hour in which the request started, as far as the grid knows it without waiting. Where the
    usage says in which region the request was served, and no zone is given, the electricity is that of this region.
    """
    chosen = methodologies.get(methodology) if isinstance(methodology, str) else methodology
    served_in = getattr(usage, "region", None) if zone is None else None
    try:
        plan = catalog.plans[provider, models, zone, host, served_in, id(chosen)]
    except (KeyError, TypeError):
        plan = _cached_plan(catalog, chosen, provider=provider, names=models, zone=zone, host=host, served_in=served_in)
    warnings, errors = plan.warnings, plan.errors

    if (
        type(usage) is not Usage
        or not _is_plain(usage.output_tokens)
        or (usage.input_tokens is not None and not _is_plain(usage.input_tokens))
    ):
        usage, notes, problems = _checked(usage)
        warnings, errors = (*warnings, *notes), (*errors, *problems)
    if latency_s is None:
        latency_s = math.inf
    elif type(latency_s) is not float or not latency_s >= 0:
        latency_s, notes = _checked_latency(latency_s)
        warnings = (*warnings, *notes)
    cost = partial(_cost, plan.match, provider, models, usage, started_at)
    if errors:
        return Assessment(None, None, chosen.name, data.DATA_VERSION, plan.match, plan.zone, warnings, errors, cost=cost)
    if not usage.generates and not getattr(chosen, "counts_input", False):
        warnings = (*warnings, notice("request-not-covered"))
        return Assessment(None, None, chosen.name, data.DATA_VERSION, plan.match, plan.zone, warnings, (), cost=cost)

    plan, told = _at_the_hour(plan, grid, started_at)
    warnings += told
    usage_low = usage_high = usage
    if usage.estimated:
        usage_low, usage_high = _widened(usage)
        warnings = (*warnings, notice("output-tokens-estimated"))
    if plan.notices is not None:
        warnings = (*warnings, *map(_told, plan.notices(usage, latency_s)))
    if plan.bounds is not None:
        usage_low, usage_high = plan.bounds(usage_low)[0], plan.bounds(usage_high)[1]
    low = high = chosen.assess(plan.low, usage_low, latency_s, plan.site_low)
    if not plan.is_point or usage_low is not usage_high:
        high = chosen.assess(plan.high, usage_high, latency_s, plan.site_high)
    central = None
    if plan.central is not None:
        central = chosen.assess(plan.central, usage, latency_s, plan.site_central)
    return Assessment(
        low,
        high,
        chosen.name,
        data.DATA_VERSION,
        plan.match,
        plan.zone,
        warnings,
        (),
        central,
        partial(_explain, plan, usage_low, usage_high, latency_s),
        cost,
    )


def estimate(
    model: str,
    *,
    output_tokens: int,
    provider: str | None = None,
    input_tokens: int | None = None,
    latency_s: float | None = None,
    zone: str | None = None,
    methodology: str | Methodology = DEFAULT_METHODOLOGY,
) -> Impacts:
    """The impacts of one request to a model.

    Without a provider it is the one that owns the name; without a zone, the provider's own. An unknown model, zone or
    provider or an impossible count gives ``impacts.errors`` and no figures, never zero.

    Raises:
        ValueError: an unknown methodology.

    >>> impacts = estimate("gpt-4o-mini", output_tokens=400, provider="openai")
    >>> f"{impacts.energy.value * 1000:.3f} Wh"
    '0.066 [0.038 - 0.094] Wh'
    """
    return Impacts(
        assess(
            _current,
            provider=provider,
            models=(model,),
            usage=Usage(input_tokens, output_tokens),
            latency_s=latency_s,
            zone=zone,
            methodology=methodology,
        )
    )


def _at_the_hour(plan: Plan, grid: GridIntensity | None, started_at: float | None) -> tuple[Plan, tuple[Notice, ...]]:
    """The plan with the GWP of the electricity at a time; the plan itself where that is not known of each of its zones."""
    if grid is None:
        return plan, ()
    zones = (plan.zone or "").split("+")
    figures = [_hourly(grid, zone, started_at) for zone in zones]
    known = [figure for figure in figures if figure is not None]
    if len(known) < len(zones):
        return plan, (notice("grid-yearly"),)
    low, high = min(known), max(known)
    plan = plan._replace(
        site_low=plan.site_low._replace(gwp=low),
        site_high=plan.site_high._replace(gwp=high),
        site_central=plan.site_central._replace(gwp=(low + high) / 2),
        is_point=plan.is_point and low == high,
        hourly_source=str(grid.name),
    )
    return plan, (notice("grid-hourly"),)


def _hourly(grid: GridIntensity, zone: str, time_s: float | None) -> float | None:
    if time_s is None:
        return None
    try:
        figure: Any = grid.gwp_kgco2eq_per_kwh(zone, time_s)
    except Exception:  # noqa: BLE001 - the program's own object may do anything
        return None
    return float(figure) if _is_real(figure) and 0 <= figure < math.inf else None


def _told(code: str) -> Notice:
    """The notice of a code; one that a methodology of another package brings along speaks for itself."""
    return notice(code) if code in data.NOTICES else Notice(code, f"Stated by the methodology: {code}.")


def _widened(usage: Usage) -> tuple[Usage, Usage]:
    tokens: Any = usage.output_tokens
    return replace(usage, output_tokens=tokens * ESTIMATE_LOW), replace(usage, output_tokens=tokens * ESTIMATE_HIGH)


def _is_plain(tokens: Any) -> bool:
    return type(tokens) is int and 0 <= tokens <= MAX_TOKENS


def _count(value: Any) -> float | None:
    """A plausible token count as a plain number, or ``None``."""
    if not _is_real(value):
        return None
    number = float(value) if abs(value) <= MAX_TOKENS else math.nan  # NaN fails both comparisons
    return (int(number) if number.is_integer() else number) if number >= 0 else None


def _checked(usage: Any) -> tuple[Usage, tuple[Notice, ...], tuple[Notice, ...]]:
    """The usage with plain counts, and what there is to say about them."""
    if not isinstance(usage, Usage):
        usage = Usage()
    tokens_in, tokens_out = _count(usage.input_tokens), _count(usage.output_tokens)
    notes: tuple[Notice, ...] = ()
    problems: tuple[Notice, ...] = ()
    if usage.input_tokens is not None and tokens_in is None:
        notes = (notice("input-tokens-invalid", _quoted(usage.input_tokens)),)
    if usage.output_tokens is None:
        problems = (notice("output-tokens-unknown"),)
    elif tokens_out is None:
        problems = (notice("tokens-invalid", _quoted(usage.output_tokens)),)
    return replace(usage, input_tokens=tokens_in, output_tokens=tokens_out), notes, problems


def _checked_latency(latency_s: Any) -> tuple[float, tuple[Notice, ...]]:
    if _is_real(latency_s) and latency_s >= 0:
        return float(latency_s) if latency_s < _FOREVER_S else math.inf, ()
    return math.inf, (notice("latency-invalid", _quoted(latency_s)),)


# --- on demand ----------------------------------------------------------------------------------------------------------


def _explain(plan: Plan, usage_low: Usage, usage_high: Usage, latency_s: float) -> Explanation:
    card, site = plan.card, plan.site
    if card is None or site is None:
        return Explanation(plan.methodology.name, ())
    sources = {
        "request": "the request",
        "input": "the request" if usage_low.input_tokens == usage_high.input_tokens else "not known: from none to many",
        "model": data.cite(card.source),
        "weight_bits": data.cite(card.weight_bits_source or card.source),
        "memory": data.cite(card.memory.source if card.memory is not None else card.source),
        "site": data.cite(site.source),
        **{f"grid_{factor}": data.cite(keys) for factor, keys in data.factor_sources(site.mix.zone).items()},
    }
    if plan.hourly_source is not None:
        sources["grid_gwp"] = plan.hourly_source
    low_model, high_model = plan.model_ends
    low = plan.methodology.steps(low_model, usage_low, latency_s, plan.site_low)
    high = plan.methodology.steps(high_model, usage_high, latency_s, plan.site_high)
    steps = (
        Step(symbol, formula, Range(*sorted((value, other[2]))), unit, sources.get(source, source), value, other[2])
        for (symbol, formula, value, unit, source), other in zip(low, high, strict=True)
    )
    return Explanation(plan.methodology.name, tuple(steps))


def _cost(
    match: ModelMatch | None, provider: str | None, models: Any, usage: Usage, started_at: float | None
) -> float | None:
    """A price may be known where the size of a model is not, and under a name that the figures do not go by."""
    from ecoimpact.cost import cost_usd

    names = tuple(models) if isinstance(models, tuple | list) else (models,)
    if match is not None:
        names = (*names, match.name)
        provider = provider or match.provider
    return cost_usd(provider, names, usage, started_at=started_at)

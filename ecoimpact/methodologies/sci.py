"""Software Carbon Intensity per call, as Trustwise measures it: (E x I + M) per R.

E is the thermal design power of the selected processors over the time of the call, I the carbon intensity of the grid, M
the call's share of making the device, R the functional unit. Only carbon and the energy behind it: other criteria are
``None``. Reference: Trustwise, carbon emissions metrics, https://trustwiseai.github.io/tw-docs; Green Software Foundation,
ISO/IEC 21031:2024.

Rule of this file: every assumption of the document is a parameter: the same processors for every model, at full power for
the whole call, used by nobody else, replaced after 35 040 hours; no PUE, no offsets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ecoimpact.methodologies._arrays import is_finite, select
from ecoimpact.methodologies._ecologits import latency_s_per_output_token
from ecoimpact.methodologies._parameters import edition_name, replaced
from ecoimpact.methodologies.ecologits_2025_09 import PARAMETERS as ECOLOGITS
from ecoimpact.types import Figures, ModelParameters, Number, SiteFactors, StepLine, Usage

NAME = "sci"
INCLUDES = (
    "the processors at their thermal design power, for the whole call",
    "making of the device, by the time that the call occupies it",
)
LEAVES_OUT = (
    "batching: a call has the processors for itself",
    "memory, storage, network, overhead of the data centre",
    "the size of the model, where the latency is measured",
    "minerals, primary energy, water",
)

_REFERENCE = "Trustwise, carbon emissions metrics, https://trustwiseai.github.io/tw-docs; ISO/IEC 21031:2024"
_H100 = "NVIDIA, H100 SXM data sheet, https://www.nvidia.com/en-us/data-center/h100/"
_EMBODIED = "EcoLogits, https://ecologits.ai: an eighth of a server of 5 700 kg, and a GPU of 164 kg"
_LATENCY = "EcoLogits methodology, 2025-09, estimating the generation latency, https://ecologits.ai"
_GIVEN = "given by the program"
_SECONDS_PER_HOUR = 3600
_EMBODIED_KGCO2EQ_PER_PROCESSOR = 5700 / 8 + 164


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The assumptions of the edition.

    ``device_embodied_kgco2eq`` is that of all processors together with the server around them; ``None`` stands for that of
    ``processor_count`` H100. ``resource_share`` is the part of the device that the call reserves. ``batch_size`` is that of
    the modelled latency. ``calls_per_conversation`` and ``calls_per_user`` give the SCI of these functional units too.
    """

    processor_tdp_w: float = 700
    processor_count: float = 1
    device_embodied_kgco2eq: float | None = None
    lifespan_h: float = 35_040
    resource_share: float = 1.0
    pue: float = 1.0
    batch_size: float = 64
    calls_per_conversation: float | None = None
    calls_per_user: float | None = None


def software_carbon_intensity(
    *, energy_kwh: Number, grid_gco2eq_per_kwh: Number, embodied_gco2eq: Number, functional_units: Number
) -> Number:
    """Carbon per functional unit, such as a call, a token, a conversation or a user.

    SCI = (E I + M) / R   [gCO2eq per unit; E in kWh, I in gCO2eq/kWh, M in gCO2eq]

    Reference: Green Software Foundation, Software Carbon Intensity, ISO/IEC 21031:2024.

    >>> round(software_carbon_intensity(
    ...     energy_kwh=9.6, grid_gco2eq_per_kwh=475, embodied_gco2eq=2575.970319634703, functional_units=12_000_000
    ... ), 9)
    0.000594664
    """
    return (energy_kwh * grid_gco2eq_per_kwh + embodied_gco2eq) / functional_units


def embodied_share(*, device_embodied: Number, time_h: Number, lifespan_h: Number, resource_share: Number = 1.0) -> Number:
    """The part of making a device that falls to a piece of software.

    M = TE x (time / lifespan) x (resources reserved / all)   [the unit of TE; hours]

    Reference: Green Software Foundation, Software Carbon Intensity, ISO/IEC 21031:2024.

    >>> round(embodied_share(device_embodied=1000, time_h=1, lifespan_h=35_040) * 1000, 1)  # 1 000 kg give 28.5 g an hour
    28.5
    """
    return device_embodied * (time_h / lifespan_h) * resource_share


class Serving(NamedTuple):
    """What depends on the model: only the modelled latency."""

    latency_s_per_output_token: Number


class SCI:
    """The edition: its :class:`Parameters` and the arithmetic over them."""

    __slots__ = ("name", "parameters", "site_table")

    def __init__(self, name: str, parameters: Parameters) -> None:
        self.name = name
        self.site_table = "ecologits-2025-09"
        self.parameters = parameters

    def __repr__(self) -> str:
        return f"<Methodology {self.name}>"

    def serve(self, model: ModelParameters) -> Serving:
        """The latency per output token, for calls whose latency nobody measured."""
        fit = replace(ECOLOGITS, batch_size=self.parameters.batch_size)
        return Serving(latency_s_per_output_token(fit, model.active_params_b))

    def assess(self, serving: Serving, usage: Usage, latency_s: Number, site: SiteFactors) -> Figures:
        """The impacts of a call.

        E = PUE N TDP t;  processor = E I;  M = TE (t / lifespan) share   [kWh, kgCO2eq]. t is the measured latency, or
        where that is ``math.inf``, the modelled one.

        Reference: Trustwise, "Processor-Specific Carbon Emissions" and "SCI per API Call".
        """
        p = self.parameters
        duration_s = self.duration_s(serving, usage, latency_s)
        energy_kwh = duration_s * self.power_kw() * p.pue / _SECONDS_PER_HOUR
        embodied_kgco2eq = embodied_share(
            device_embodied=self.device_embodied_kgco2eq(),
            time_h=duration_s / _SECONDS_PER_HOUR,
            lifespan_h=p.lifespan_h,
            resource_share=p.resource_share,
        )
        return Figures(energy_kwh, energy_kwh * site.gwp, None, None, None, embodied_kgco2eq, None, None)

    def notices(self, usage: Usage, latency_s: Number) -> tuple[str, ...]:  # noqa: ARG002 - what the engine asks all with
        """What there is to say about a call: codes of warnings."""
        return ("latency-modelled",) if isinstance(latency_s, float) and latency_s == math.inf else ()

    def duration_s(self, serving: Serving, usage: Usage, latency_s: Number) -> Number:
        modelled = usage.output_tokens * serving.latency_s_per_output_token
        return select(is_finite(latency_s), latency_s, modelled)

    def power_kw(self) -> float:
        p = self.parameters
        return p.processor_tdp_w * p.processor_count / 1000

    def device_embodied_kgco2eq(self) -> float:
        given = self.parameters.device_embodied_kgco2eq
        return _EMBODIED_KGCO2EQ_PER_PROCESSOR * self.parameters.processor_count if given is None else given

    def steps(self, model: ModelParameters, usage: Usage, latency_s: float, site: SiteFactors) -> tuple[StepLine, ...]:
        """The computation line by line; each formula uses the symbols of the lines above it.

        An empty formula marks a given value; its source is then ``request``, ``model``, ``grid_gwp``, or a publication.
        """
        serving = self.serve(model)
        figures = self.assess(serving, usage, latency_s, site)
        duration_s = self.duration_s(serving, usage, latency_s)
        lines: list[StepLine] = []

        def add(symbol: str, formula: str, value: Number, unit: str, source: str = _REFERENCE) -> None:
            lines.append((symbol, formula, float(value), unit, source))

        add("output_tokens", "", usage.output_tokens, "token", "request")
        if math.isfinite(latency_s):
            add("request_latency_s", "", latency_s, "s", "request")
            add("duration_s", "request_latency_s", duration_s, "s")
        else:
            add("active_params_b", "", model.active_params_b, "10^9 parameters", "model")
            for symbol, unit in _LATENCY_FIT.items():
                add(symbol, "", getattr(ECOLOGITS, symbol), unit, _LATENCY)
            add("batch_size", "", self.parameters.batch_size, "request", self._source("batch_size", _LATENCY))
            f_latency = "latency_alpha_s * active_params_b + latency_beta_s * batch_size + latency_gamma_s"
            add("latency_per_output_token_s", f_latency, serving.latency_s_per_output_token, "s/token", _LATENCY)
            add("duration_s", "output_tokens * latency_per_output_token_s", duration_s, "s", _LATENCY)
        if duration_s > 0:
            add("calls_per_h", "3600 / duration_s", _SECONDS_PER_HOUR / duration_s, "call/h")
        add("grid_gwp_kgco2eq_per_kwh", "", site.gwp, "kgCO2eq/kWh", "grid_gwp")
        for symbol, unit, source in _ASSUMPTIONS:
            add(symbol, "", getattr(self.parameters, symbol), unit, self._source(symbol, source))
        f_device = "" if self.parameters.device_embodied_kgco2eq is not None else "processor_count * (5700 / 8 + 164)"
        source = self._source("device_embodied_kgco2eq", _EMBODIED)
        add("device_embodied_kgco2eq", f_device, self.device_embodied_kgco2eq(), "kgCO2eq", source)

        it_energy_kwh = duration_s * self.power_kw() / _SECONDS_PER_HOUR
        add("it_energy_kwh", "processor_tdp_w * processor_count * duration_s / 3.6e6", it_energy_kwh, "kWh")
        add("usage_energy_kwh", "pue * it_energy_kwh", figures.usage_energy_kwh, "kWh")
        add("processor_kgco2eq", "usage_energy_kwh * grid_gwp_kgco2eq_per_kwh", figures.usage_gwp_kgco2eq, "kgCO2eq")
        f_embodied = "device_embodied_kgco2eq * duration_s / 3600 / lifespan_h * resource_share"
        add("embodied_kgco2eq", f_embodied, figures.embodied_gwp_kgco2eq or 0.0, "kgCO2eq")
        add("usage_gwp_kgco2eq", "processor_kgco2eq", figures.usage_gwp_kgco2eq, "kgCO2eq")
        add("embodied_gwp_kgco2eq", "embodied_kgco2eq", figures.embodied_gwp_kgco2eq or 0.0, "kgCO2eq")
        add("energy_kwh", "usage_energy_kwh", figures.usage_energy_kwh, "kWh")
        add("gwp_kgco2eq", "usage_gwp_kgco2eq + embodied_gwp_kgco2eq", figures.total("gwp"), "kgCO2eq")
        for symbol, formula, value, unit in self._per_unit(usage, figures):
            add(symbol, formula, value, unit)
        return tuple(lines)

    def _per_unit(self, usage: Usage, figures: Figures) -> list[tuple[str, str, Number, str]]:
        """The SCI of every functional unit that the request and the parameters tell about."""
        p = self.parameters
        tokens: Any = usage.output_tokens
        per_call: Any = figures.total("gwp")
        units: list[tuple[str, float | None, str]] = [
            ("call", 1.0, ""),
            ("10k_calls", 10_000.0, "10000 * "),
            ("token", 1 / tokens if tokens else None, "1 / output_tokens * "),
            ("conversation", p.calls_per_conversation, "calls_per_conversation * "),
            ("user", p.calls_per_user, "calls_per_user * "),
        ]
        found: list[tuple[str, str, Number, str]] = []
        for unit, calls, factor in units:
            if calls is None:
                continue
            if unit in ("conversation", "user"):
                found.append((f"calls_per_{unit}", "", calls, f"call/{unit}"))
            symbol = f"sci_kgco2eq_per_{unit}"
            name = unit.replace("10k_calls", "10 000 calls")
            found.append((symbol, f"{factor}gwp_kgco2eq", calls * per_call, f"kgCO2eq/{name}"))
        return found

    def _source(self, symbol: str, published: str) -> str:
        return published if getattr(self.parameters, symbol) == getattr(EDITION.parameters, symbol) else _GIVEN


_ASSUMPTIONS = (
    ("processor_tdp_w", "W", _H100),
    ("processor_count", "processor", "the same infrastructure for every model: " + _REFERENCE),
    ("pue", "", "none in the document's formula"),
    ("lifespan_h", "h", _REFERENCE),
    ("resource_share", "", "the device serves nobody else: " + _REFERENCE),
)
_LATENCY_FIT = {"latency_alpha_s": "s/token per 10^9 parameters", "latency_beta_s": "s/token per request",
                "latency_gamma_s": "s/token"}  # fmt: skip
_MAY_BE_ZERO = frozenset(("processor_tdp_w", "device_embodied_kgco2eq", "resource_share", "batch_size"))

EDITION = SCI(NAME, Parameters())


def methodology(**parameters: Any) -> SCI:
    """The edition, with any of its :class:`Parameters` replaced; ``None`` stands for what is worked out.

    >>> methodology(processor_tdp_w=400, processor_count=8).name
    'sci[processor_count=8, processor_tdp_w=400]'
    """
    changed = replaced(EDITION.parameters, parameters, _MAY_BE_ZERO)
    if changed.pue < 1:
        raise ValueError(f"pue is total energy over IT energy, so at least 1, got {changed.pue!r}")
    if changed.resource_share > 1:
        raise ValueError(f"resource_share is a part of the device, so at most 1, got {changed.resource_share!r}")
    name = edition_name(NAME, EDITION.parameters, changed)
    return EDITION if name == NAME else SCI(name, changed)

"""The computation of ``measured-2026`` line by line, for explanations: what drives the width of the interval included."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ecoimpact.methodologies import measured_2026 as edition
from ecoimpact.methodologies._arrays import known_or
from ecoimpact.methodologies._measured_form import (
    CACHE_BYTES_PER_TOKEN,
    MEMORY_OVERHEAD,
    Coefficients,
    Scale,
    gpu_count,
    is_mixture,
    touched_share,
)
from ecoimpact.methodologies.measured_2026 import Deployment, End
from ecoimpact.types import Figures, ModelParameters, Number, SiteFactors, StepLine, Usage

if TYPE_CHECKING:
    from ecoimpact.methodologies.measured_2026 import Measured

ASSUMED = "not known of the deployment: the middle of what is measured or published"
GIVEN = "given by the program"
EMBODIED = "NVIDIA, EcoLogits, Boavizta, Scope3: the lowest, a middle and the highest figure"
LENGTH = "lengths of the measured requests"
_PER_S = (("gwp", "kgco2eq", "kgCO2eq"), ("adpe", "kgsbeq", "kgSbeq"), ("pe", "mj", "MJ"))


class _Lines:
    """The lines so far."""

    def __init__(self) -> None:
        self.lines: list[StepLine] = []

    def add(self, symbol: str, formula: str, value: Number, unit: str, source: str = edition.REFERENCE) -> None:
        self.lines.append((symbol, formula, float(value), unit, source))


def steps(measured: Measured, model: ModelParameters | End, usage: Usage, site: SiteFactors) -> tuple[StepLine, ...]:
    """From the inputs to the figures; see :meth:`ecoimpact.types.Methodology.steps`."""
    end = model if isinstance(model, End) else End(model, model, model, (), 0.0, 1)
    figures = measured.assess(measured.serve(model), usage, 0.0, site)
    lines = _Lines()
    _inputs(lines, measured, usage, end, site)
    deployment = measured.deployment(end.model)
    _deployment(lines, measured, end, deployment)
    _per_token(lines, "energy", edition.ENERGY_UWH, edition.GPUS[deployment.gpu].energy, deployment)
    _per_token(lines, "gpu_time", edition.TIME_US, edition.GPUS[deployment.gpu].time, deployment)
    _interval(lines, end)
    _energy(lines, measured, end, usage, figures)
    _impacts(lines, measured, end, deployment, figures)
    return tuple(lines.lines)


def _inputs(lines: _Lines, measured: Measured, usage: Usage, end: End, site: SiteFactors) -> None:
    lines.add("input_tokens", "", known_or(usage.input_tokens, measured.typical_input_tokens), "token", "input")
    lines.add("output_tokens", "", usage.output_tokens, "token", "request")
    for symbol in ("active_params_b", "total_params_b"):
        if end.low == end.high:
            lines.add(symbol, "", getattr(end.model, symbol), "10^9 parameters", "model")
        else:
            lines.add(f"{symbol}_low", "", getattr(end.low, symbol), "10^9 parameters", "model")
            lines.add(f"{symbol}_high", "", getattr(end.high, symbol), "10^9 parameters", "model")
            lines.add(symbol, f"sqrt({symbol}_low * {symbol}_high)", getattr(end.model, symbol), "10^9 parameters")
    lines.add("pue", "", site.pue, "", "site")
    lines.add("wue_l_per_kwh", "", site.wue_l_per_kwh, "L/kWh", "site")
    lines.add("grid_gwp_kgco2eq_per_kwh", "", site.gwp, "kgCO2eq/kWh", "grid_gwp")
    lines.add("grid_adpe_kgsbeq_per_kwh", "", site.adpe, "kgSbeq/kWh", "grid_adpe")
    lines.add("grid_pe_mj_per_kwh", "", site.pe, "MJ/kWh", "grid_pe")
    lines.add("grid_wue_l_per_kwh", "", site.wue, "L/kWh", "grid_wue")


def _deployment(lines: _Lines, measured: Measured, end: End, d: Deployment) -> None:
    p = measured.parameters
    bits_source = GIVEN if p.weight_bits is not None else ASSUMED
    if p.weight_bits is None and end.model.weight_bits is not None:
        bits_source = "weight_bits"
    lines.add("weight_bits", "", d.weight_bits, "bit", bits_source)
    lines.add("batch_size", "", d.batch_size, "request", ASSUMED if p.batch_size is None else GIVEN)
    if d.cache_bytes_per_token is not None:
        lines.add("cache_bytes_per_token", "", d.cache_bytes_per_token, "byte/token", "memory")
        lines.add("state_bytes", "", d.state_bytes, "byte", "memory")
    if p.gpu_count is not None:
        lines.add("gpu_count", "", d.gpu_count, "GPU", GIVEN)
    else:
        on = f"{d.gpu}, {ASSUMED if p.gpu is None else GIVEN}"
        lines.add("gpu_memory_gb", "", edition.GPUS[d.gpu].memory_gb, "GB", on)
        memory = f"{MEMORY_OVERHEAD} * total_params_b * (weight_bits / 8) / gpu_memory_gb"
        count = gpu_count(
            total_params_b=d.total_params_b, weight_bytes=d.weight_bits / 8, gpu_memory_gb=edition.GPUS[d.gpu].memory_gb
        )
        lines.add("gpu_count", f"2 ** ceil(log2(max({memory}, 1.0)))", count, "GPU", "smallest measured deployments")


def _per_token(lines: _Lines, name: str, c: Coefficients, gpu: Scale, d: Deployment) -> None:
    """The coefficients of a quantity on its GPU, and what a token costs by them."""
    unit = "uWh" if name == "energy" else "us"
    mixture = is_mixture(d.active_params_b, d.total_params_b)
    coefficients = {
        "step": c.step * gpu.step,
        "mixture": c.mixture if mixture else 1.0,
        "memory": c.memory * gpu.memory,
        "experts": c.experts,
        "compute": c.compute * gpu.compute,
        "token": c.token * gpu.memory,
        "attention": c.attention * gpu.memory,
        "exchange": c.exchange * gpu.exchange if mixture else 0.0,
    }
    for term, value in coefficients.items():
        lines.add(f"{name}_{term}", "", value, "" if term in ("mixture", "experts") else unit, f"{edition.FIT}, {d.gpu}")
    touched = touched_share(
        active_params_b=d.active_params_b, total_params_b=d.total_params_b, batch_size=d.batch_size, experts=c.experts
    )
    share = "active_params_b / total_params_b"
    f_touched = f"max({share}, 1 - (1 - {share}) ** ({name}_experts * batch_size))"
    lines.add(f"{name}_touched_share", f_touched, touched, "")
    token = edition.energy_uwh(d) if name == "energy" else edition.gpu_time_us(d)
    step = f"{name}_step * {name}_mixture * gpu_count * sqrt(1 + active_params_b)"
    weights = f"{name}_memory * weight_bits / 8 * total_params_b * {name}_touched_share"
    rest = (
        f"{name}_compute * active_params_b + {name}_token * sqrt(active_params_b)"
        f" + {name}_exchange * gpu_count * sqrt(1 + active_params_b)"
    )
    gpus = "gpu_" if name == "energy" else ""
    per = f"{gpus}{name}_{unit.lower()}_per"
    width = "sqrt(active_params_b)"
    if d.cache_bytes_per_token is not None:
        rest += f" + {name}_attention * 2 * state_bytes / {CACHE_BYTES_PER_TOKEN:.0f} / 1000"
        width = f"cache_bytes_per_token / {CACHE_BYTES_PER_TOKEN:.0f}"
    lines.add(f"{per}_output_token", f"({step} + {weights}) / batch_size + {rest}", token.generated, f"{unit}/token")
    lines.add(f"{per}_input_token", f"{name}_compute * active_params_b", token.read, f"{unit}/token")
    lines.add(f"{per}_context_token", f"{name}_attention * {width} / 1000", token.context, f"{unit}/token")


def _interval(lines: _Lines, end: End) -> None:
    """Each source of width, its share of the whole, and the factor that follows."""
    sources = {"fit": edition.FIT}
    total = end.log_spread
    for name, spread in end.spreads:
        lines.add(f"spread_{name}", "", spread, "log", sources.get(name, "half the logarithm between its bounds / 1.645"))
    formula = " + ".join(f"spread_{name} ** 2" for name, _ in end.spreads)
    lines.add("log_spread", f"sqrt({formula})" if formula else "", total, "log")
    for name, spread in end.spreads:
        lines.add(f"share_{name}", f"spread_{name} ** 2 / log_spread ** 2", spread**2 / total**2, "of the width")
    lines.add("z", "", end.z, "", "the interval asked for")
    lines.add("interval_factor", "exp(z * log_spread)", math.exp(end.z * total), "")


def _request(per: str) -> str:
    context = "output_tokens * (input_tokens + output_tokens / 2)"
    return f"output_tokens * {per}_output_token + input_tokens * {per}_input_token + {context} * {per}_context_token"


def _energy(lines: _Lines, measured: Measured, end: End, usage: Usage, figures: Figures) -> None:
    d = measured.deployment(end.model)
    tokens: Number = usage.output_tokens
    tokens_in = known_or(usage.input_tokens, measured.typical_input_tokens)

    def of_request(per_token: tuple[Number, Number, Number]) -> Number:
        generated, read, context = per_token
        return tokens * generated + tokens_in * read + tokens * (tokens_in + tokens / 2) * context

    gpu_kwh = of_request(edition.energy_uwh(d)) / 1e9
    gpu_s = of_request(edition.gpu_time_us(d)) / 1e6
    lines.add("gpu_energy_kwh", f"({_request('gpu_energy_uwh_per')}) / 1e9", gpu_kwh, "kWh")
    lines.add("busy_gpu_s", f"({_request('gpu_time_us_per')}) / 1e6", gpu_s, "s")
    lines.add("host_power_w", "", d.host_power_w, "W per GPU", "EcoLogits 0.11; Latif et al. 2025, arXiv:2412.08602")
    lines.add("idle_ratio", "", d.idle_ratio, "", "Google 2025, arXiv:2508.15734: idle machines beside working ones")
    lines.add("gpu_s", "(1 + idle_ratio) * busy_gpu_s * interval_factor", _scaled(end, d, gpu_s), "s")
    it_kwh = _scaled(end, d, gpu_kwh + d.host_power_w * gpu_s / 3.6e6)
    f_it = "(1 + idle_ratio) * (gpu_energy_kwh + host_power_w * busy_gpu_s / 3.6e6) * interval_factor"
    lines.add("it_energy_kwh", f_it, it_kwh, "kWh")
    lines.add("usage_energy_kwh", "pue * it_energy_kwh", figures.usage_energy_kwh, "kWh")
    for key, unit in (("gwp_kgco2eq", "kgCO2eq"), ("adpe_kgsbeq", "kgSbeq"), ("pe_mj", "MJ")):
        lines.add(f"usage_{key}", f"usage_energy_kwh * grid_{key}_per_kwh", getattr(figures, f"usage_{key}"), unit)
    f_water = "it_energy_kwh * (wue_l_per_kwh + pue * grid_wue_l_per_kwh)"
    lines.add("usage_wcf_l", f_water, figures.usage_wcf_l or 0.0, "L")


def _scaled(end: End, d: Deployment, value: Number) -> Number:
    return (1 + d.idle_ratio) * value * math.exp(end.z * end.log_spread)


def _impacts(lines: _Lines, measured: Measured, end: End, d: Deployment, figures: Figures) -> None:
    number = end.number
    lines.add("lifetime_years", "", edition.LIFETIME_YEARS[number], "year", "e-footprint 6, Scope3 4, EcoLogits 3")
    lines.add("server_gpu_count", "", edition.SERVER_GPU_COUNT, "GPU", "as in the measured servers")
    for criterion, suffix, unit in _PER_S:
        server, gpu = edition.embodied(d.gpu, criterion)
        key = f"{criterion}_{suffix}"
        lines.add(f"server_without_gpu_embodied_{key}", "", server[number], unit, EMBODIED)
        lines.add(f"gpu_embodied_{key}", "", gpu[number], unit, EMBODIED)
        share = (
            f"(server_without_gpu_embodied_{key} / server_gpu_count + gpu_embodied_{key})"
            " / (lifetime_years * 365 * 24 * 3600)"
        )
        per_s = measured.embodied_per_gpu_s(d.gpu, criterion, number)
        lines.add(f"embodied_{key}_per_gpu_s", share, per_s, f"{unit}/s")
        lines.add(f"embodied_{key}", f"gpu_s * embodied_{key}_per_gpu_s", getattr(figures, f"embodied_{key}"), unit)
    lines.add("energy_kwh", "usage_energy_kwh", figures.usage_energy_kwh, "kWh")
    for criterion, suffix, unit in _PER_S:
        key = f"{criterion}_{suffix}"
        lines.add(key, f"usage_{key} + embodied_{key}", figures.total(criterion), unit)
    lines.add("wcf_l", "usage_wcf_l", figures.usage_wcf_l or 0.0, "L")

"""The computation of ``scope3`` line by line, for explanations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecoimpact.methodologies import scope3 as edition
from ecoimpact.methodologies._arrays import known_or
from ecoimpact.types import Figures, ModelParameters, Number, SiteFactors, StepLine, Usage

if TYPE_CHECKING:
    from ecoimpact.methodologies.scope3 import Scope3

_UNITS = {
    "weight_bytes": "byte",
    "peak_flop_per_s": "FLOP/s",
    "memory_bandwidth_byte_per_s": "byte/s",
    "beta_in": "",
    "beta_out": "",
    "gpu_count": "GPU",
    "gpu_memory_gb": "GB",
    "memory_overhead": "",
    "gpu_power_w": "W",
    "server_gpu_count": "GPU",
    "server_idle_power_w": "W",
    "cpu_count": "CPU",
    "cpu_power_w": "W",
    "pue": "",
    "cluster_wue_l_per_kwh": "L/kWh",
    "embodied_kgco2eq_per_h": "kgCO2eq/h",
    "embodied_l_per_h": "L/h",
}


class _Lines:
    """The lines so far. What the program gave says so."""

    def __init__(self, given: Scope3) -> None:
        self.lines: list[StepLine] = []
        self._given = given.parameters
        self._published = edition.EDITION.parameters

    def add(self, symbol: str, formula: str, value: Number, unit: str, source: str = edition.REFERENCE) -> None:
        self.lines.append((symbol, formula, float(value), unit, source))

    def constant(self, symbol: str, source: str) -> None:
        value = getattr(self._given, symbol)
        is_published = value == getattr(self._published, symbol)
        self.add(symbol, "", value, _UNITS[symbol], source if is_published else edition.GIVEN)

    def worked_out(self, symbol: str, formula: str, value: Number, source: str) -> None:
        """A parameter that is worked out unless the program gave it."""
        if getattr(self._given, symbol) is not None:
            self.constant(symbol, edition.GIVEN)
        else:
            self.add(symbol, formula, value, _UNITS[symbol], source)


def steps(scope3: Scope3, model: ModelParameters, usage: Usage, site: SiteFactors) -> tuple[StepLine, ...]:
    """From the inputs to the figures; see :meth:`ecoimpact.types.Methodology.steps`."""
    lines = _Lines(scope3)
    figures = scope3.assess(scope3.serve(model), usage, 0.0, site)
    _inputs(lines, usage, model, site)
    duration_s = _durations(lines, scope3, model, usage)
    _energy(lines, scope3, model, duration_s, figures)
    _impacts(lines, scope3, model, site, figures)
    return tuple(lines.lines)


def _inputs(lines: _Lines, usage: Usage, model: ModelParameters, site: SiteFactors) -> None:
    lines.add("input_tokens", "", known_or(usage.input_tokens, 0.0), "token", "input")
    lines.add("output_tokens", "", usage.output_tokens, "token", "request")
    lines.add("active_params_b", "", model.active_params_b, "10^9 parameters", "model")
    lines.add("total_params_b", "", model.total_params_b, "10^9 parameters", "model")
    lines.add("grid_gwp_kgco2eq_per_kwh", "", site.gwp, "kgCO2eq/kWh", "grid_gwp")


def _durations(lines: _Lines, scope3: Scope3, model: ModelParameters, usage: Usage) -> Number:
    p, weight_bytes, gpus = scope3.parameters, scope3.weight_bytes(model), scope3.gpu_count(model)
    server = scope3.server(gpus, weight_bytes)
    if p.weight_bytes is None and model.weight_bits is not None:
        lines.add("weight_bits", "", model.weight_bits, "bit", "weight_bits")
        lines.add("weight_bytes", "weight_bits / 8", weight_bytes, "byte")
    else:
        lines.worked_out("weight_bytes", "", weight_bytes, "FP8, as in the fit of the betas")
    if p.gpu_count is None:
        lines.constant("memory_overhead", "EcoLogits, https://ecologits.ai")
        lines.constant("gpu_memory_gb", edition.H100)
    count = "ceil(memory_overhead * total_params_b * weight_bytes / gpu_memory_gb)"
    lines.worked_out("gpu_count", count, gpus, "GPUs that hold the weights; EcoLogits, https://ecologits.ai")

    if p.peak_flop_per_s is None:
        lines.add("gpu_peak_flop_per_s", "", server.peak_flop_per_s / gpus, "FLOP/s", edition.H100)
    lines.worked_out("peak_flop_per_s", "gpu_count * gpu_peak_flop_per_s", server.peak_flop_per_s, edition.REFERENCE)
    if p.memory_bandwidth_byte_per_s is None:
        lines.add("gpu_memory_bandwidth_byte_per_s", "", edition.BANDWIDTH_BYTE_PER_S, "byte/s", edition.H100)
    bandwidth = "gpu_count * gpu_memory_bandwidth_byte_per_s"
    lines.worked_out("memory_bandwidth_byte_per_s", bandwidth, server.memory_bandwidth_byte_per_s, edition.REFERENCE)

    input_s = edition.prefill_s(
        active_params_b=model.active_params_b,
        input_tokens=known_or(usage.input_tokens, 0.0),
        peak_flop_per_s=server.peak_flop_per_s,
    )
    output_s = edition.decode_s(
        weight_bytes=weight_bytes,
        active_params_b=model.active_params_b,
        output_tokens=usage.output_tokens,
        memory_bandwidth_byte_per_s=server.memory_bandwidth_byte_per_s,
    )
    lines.add("input_s", "2 * active_params_b * 1e9 * input_tokens / peak_flop_per_s", input_s, "s")
    f_output = "weight_bytes * active_params_b * 1e9 * output_tokens / memory_bandwidth_byte_per_s"
    lines.add("output_s", f_output, output_s, "s")
    lines.constant("beta_in", edition.FIT)
    lines.constant("beta_out", edition.FIT)
    duration_s = p.beta_in * input_s + p.beta_out * output_s
    lines.add("duration_s", "beta_in * input_s + beta_out * output_s", duration_s, "s")
    return duration_s


def _energy(lines: _Lines, scope3: Scope3, model: ModelParameters, duration_s: Number, figures: Figures) -> None:
    p = scope3.parameters
    server = scope3.server(scope3.gpu_count(model), scope3.weight_bytes(model))
    if None in (p.server_idle_power_w, p.cpu_count, p.embodied_kgco2eq_per_h):
        lines.constant("server_gpu_count", edition.DGX)
    idle = f"{edition.SERVER_IDLE_POWER_W} * gpu_count / server_gpu_count"
    lines.worked_out("server_idle_power_w", idle, server.idle_power_w, edition.IDLE)
    cpus = f"{edition.SERVER_CPU_COUNT} * gpu_count / server_gpu_count"
    lines.worked_out("cpu_count", cpus, server.cpu_count, edition.DGX)
    lines.constant("gpu_power_w", edition.H100)
    lines.constant("cpu_power_w", edition.DGX)
    f_power = "server_idle_power_w + gpu_count * gpu_power_w + cpu_count * cpu_power_w"
    lines.add("server_power_w", f_power, server.power_w, "W")
    lines.add("it_energy_kwh", "duration_s * server_power_w / 3.6e6", duration_s * server.power_w / 3.6e6, "kWh")
    lines.constant("pue", "none in the document's formula")
    lines.add("usage_energy_kwh", "pue * it_energy_kwh", figures.usage_energy_kwh, "kWh")


def _impacts(lines: _Lines, scope3: Scope3, model: ModelParameters, site: SiteFactors, figures: Figures) -> None:
    p = scope3.parameters
    server = scope3.server(scope3.gpu_count(model), scope3.weight_bytes(model))
    f_gwp = "usage_energy_kwh * grid_gwp_kgco2eq_per_kwh"
    lines.add("usage_gwp_kgco2eq", f_gwp, figures.usage_gwp_kgco2eq, "kgCO2eq")
    if p.cluster_wue_l_per_kwh is None:
        lines.add("wue_l_per_kwh", "", site.wue_l_per_kwh, "L/kWh", "site")
        lines.add("grid_wue_l_per_kwh", "", site.wue, "L/kWh", "grid_wue")
    wue = scope3.cluster_wue_l_per_kwh(site)
    lines.worked_out("cluster_wue_l_per_kwh", "wue_l_per_kwh + grid_wue_l_per_kwh", wue, edition.REFERENCE)
    lines.add("usage_wcf_l", "usage_energy_kwh * cluster_wue_l_per_kwh", figures.usage_wcf_l or 0.0, "L")

    hours = f"({edition.LIFETIME_H} * {edition.RESERVED_SHARE})"
    carbon = (
        f"gpu_count * ({edition.SERVER_EMBODIED_KGCO2EQ} / server_gpu_count + {edition.GPU_EMBODIED_KGCO2EQ}) / {hours}"
    )
    lines.worked_out("embodied_kgco2eq_per_h", carbon, server.embodied_kgco2eq_per_h, edition.CLUSTER)
    f_embodied = "duration_s * embodied_kgco2eq_per_h / 3600"
    lines.add("embodied_gwp_kgco2eq", f_embodied, figures.embodied_gwp_kgco2eq or 0.0, "kgCO2eq")
    water = f"gpu_count * {edition.GPU_EMBODIED_L} / {hours}"
    lines.worked_out("embodied_l_per_h", water, server.embodied_l_per_h, edition.CLUSTER)
    lines.add("embodied_wcf_l", "duration_s * embodied_l_per_h / 3600", figures.embodied_wcf_l or 0.0, "L")

    lines.add("energy_kwh", "usage_energy_kwh", figures.usage_energy_kwh, "kWh")
    for key, unit, criterion in (("gwp_kgco2eq", "kgCO2eq", "gwp"), ("wcf_l", "L", "wcf")):
        whole = f"usage_{key} + embodied_{key}"
        parts = _training(lines, scope3, unit)
        if parts:
            lines.add(f"training_{key}", " + ".join(parts), getattr(figures, f"training_{key}"), unit)
            whole += f" + training_{key}"
        lines.add(key, whole, figures.total(criterion), unit)


def _training(lines: _Lines, scope3: Scope3, unit: str) -> list[str]:
    """The shares of training that were given, as lines; their symbols."""
    names = [f"{kind}_{unit.lower()}_per_inference" for kind in ("training", "fine_tuning")]
    known = [name for name in names if getattr(scope3.parameters, name) is not None]
    for name in known:
        lines.add(name, "", getattr(scope3.parameters, name), unit, edition.GIVEN)
    return known

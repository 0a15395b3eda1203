"""The arithmetic that the editions of EcoLogits share; what differs between editions is a field of :class:`Parameters`.

Reference: S. Rincé, A. Banse, "EcoLogits: Evaluating the Environmental Impacts of Generative AI", Journal of Open Source
Software 10 (111), 7471, https://doi.org/10.21105/joss.07471, and https://ecologits.ai.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from ecoimpact.methodologies._arrays import ceil, known_or, minimum, next_power_of_two
from ecoimpact.types import Figures, ModelParameters, Number, SiteFactors, StepLine, Usage
from ecoimpact.unknown_names import unknown

_SECONDS_PER_HOUR = 3600
_WH_PER_KWH = 1000

INCLUDES = (
    "generating the output tokens: GPUs and server, in a batch of 64",
    "overhead of the data centre (PUE)",
    "making of the server and its GPUs: carbon, minerals, primary energy",
    "water on site and for the electricity",
)
LEAVES_OUT = (
    "reading the input tokens",
    "training",
    "idle hours of servers",
    "network, storage and the user's device",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The constants of an edition. Parameter counts are in billions; a lifetime has years of 365 days."""

    gpu_energy_alpha_wh: float
    gpu_energy_beta: float
    gpu_energy_gamma_wh: float
    latency_alpha_s: float
    latency_beta_s: float
    latency_gamma_s: float
    weight_bits: float
    server_without_gpu_power_kw: float
    gpu_embodied_gwp_kgco2eq: float
    gpu_embodied_adpe_kgsbeq: float
    gpu_embodied_pe_mj: float
    gpu_count_is_power_of_two: bool
    uses_measured_speed: bool
    batch_size: float = 64
    memory_overhead: float = 1.2
    gpu_memory_gb: float = 80
    server_gpu_count: float = 8
    server_without_gpu_embodied_gwp_kgco2eq: float = 5700
    server_without_gpu_embodied_adpe_kgsbeq: float = 0.37
    server_without_gpu_embodied_pe_mj: float = 70_000
    hardware_lifetime_s: float = 3 * 365 * 24 * 3600


UNITS = {
    "gpu_energy_alpha_wh": "Wh/token per 10^9 parameters",
    "gpu_energy_beta": "1/request",
    "gpu_energy_gamma_wh": "Wh/token",
    "latency_alpha_s": "s/token per 10^9 parameters",
    "latency_beta_s": "s/token per request",
    "latency_gamma_s": "s/token",
    "weight_bits": "bit",
    "server_without_gpu_power_kw": "kW",
    "gpu_embodied_gwp_kgco2eq": "kgCO2eq",
    "gpu_embodied_adpe_kgsbeq": "kgSbeq",
    "gpu_embodied_pe_mj": "MJ",
    "batch_size": "request",
    "memory_overhead": "",
    "gpu_memory_gb": "GB",
    "server_gpu_count": "GPU",
    "server_without_gpu_embodied_gwp_kgco2eq": "kgCO2eq",
    "server_without_gpu_embodied_adpe_kgsbeq": "kgSbeq",
    "server_without_gpu_embodied_pe_mj": "MJ",
    "hardware_lifetime_s": "s",
}
"""The numeric parameters with their units, in the order of an explanation."""


class Serving(NamedTuple):
    """What depends on the model alone: rates per output token and per second of generation, for one request of a batch."""

    it_energy_kwh_per_token: Number
    latency_s_per_token: Number
    time_to_first_token_s: Number
    server_energy_kwh_per_s: Number
    embodied_gwp_kgco2eq_per_s: Number
    embodied_adpe_kgsbeq_per_s: Number
    embodied_pe_mj_per_s: Number
    gpu_count: Number


def gpu_energy_wh_per_output_token(p: Parameters, active_params_b: Number) -> Number:
    """Energy that one GPU uses for one output token.

    f_E = alpha exp(beta B) P_active + gamma   [Wh/token; P in billions of parameters, B in requests]

    Reference: EcoLogits, "Modeling GPU energy consumption", a fit on the ML.ENERGY leaderboard.
    """
    return p.gpu_energy_alpha_wh * math.exp(p.gpu_energy_beta * p.batch_size) * active_params_b + p.gpu_energy_gamma_wh


def latency_s_per_output_token(p: Parameters, active_params_b: Number) -> Number:
    """Time to generate one output token.

    f_L = alpha P_active + beta B + gamma   [s/token; P in billions of parameters, B in requests]

    Reference: EcoLogits, "Estimating the generation latency".
    """
    return p.latency_alpha_s * active_params_b + p.latency_beta_s * p.batch_size + p.latency_gamma_s


def model_memory_gb(p: Parameters, total_params_b: Number) -> Number:
    """Memory that the weights of a model take, with an overhead.

    M_model = 1.2 P_total Q / 8   [GB; P in billions of parameters, Q in bits per weight]

    Reference: EcoLogits, "Estimating the number of active GPUs".
    """
    return p.memory_overhead * total_params_b * p.weight_bits / 8


def gpu_count(p: Parameters, memory_gb: Number) -> Number:
    """Number of GPUs that hold a model.

    GPU = ceil(M_model / M_GPU), in some editions rounded up to a power of two   [GPUs; M in GB]

    Reference: EcoLogits, "Estimating the number of active GPUs".
    """
    gpus = ceil(memory_gb / p.gpu_memory_gb)
    return next_power_of_two(gpus) if p.gpu_count_is_power_of_two else gpus


def server_embodied(p: Parameters, gpus: Number, server: float, gpu: float) -> Number:
    """Embodied impact of the part of a server that holds the model.

    I_server = GPU / GPU_installed x I_server without GPUs + GPU x I_GPU   [kgCO2eq, kgSbeq or MJ]

    Reference: EcoLogits, "Complete server embodied impacts".
    """
    return gpus / p.server_gpu_count * server + gpus * gpu


class Edition:
    """One edition of the EcoLogits methodology: :class:`Parameters` and the arithmetic over them."""

    __slots__ = ("name", "parameters", "reference", "site_table")

    def __init__(self, name: str, site_table: str, reference: str, parameters: Parameters) -> None:
        self.name = name
        self.site_table = site_table
        self.reference = reference
        self.parameters = parameters

    def __repr__(self) -> str:
        return f"<Methodology {self.name}>"

    def serve(self, model: ModelParameters) -> Serving:
        """GPU count, energy and time per token, embodied impact per second: what depends on the model alone."""
        p = self.parameters
        gpus = gpu_count(p, model_memory_gb(p, model.total_params_b))
        s_per_token = latency_s_per_output_token(p, model.active_params_b)
        first_token_s: Number = 0.0
        if p.uses_measured_speed:
            measured = None if model.tokens_per_s is None else 1 / model.tokens_per_s
            s_per_token = known_or(measured, s_per_token)
            first_token_s = known_or(model.time_to_first_token_s, 0.0)
        server_kw = p.server_without_gpu_power_kw / p.server_gpu_count / p.batch_size  # for one GPU and one request
        batch_life_s = p.batch_size * p.hardware_lifetime_s

        def embodied_per_s(server: float, gpu: float) -> Number:
            return server_embodied(p, gpus, server, gpu) / batch_life_s

        return Serving(
            it_energy_kwh_per_token=gpus * gpu_energy_wh_per_output_token(p, model.active_params_b) / _WH_PER_KWH,
            latency_s_per_token=s_per_token,
            time_to_first_token_s=first_token_s,
            server_energy_kwh_per_s=gpus * server_kw / _SECONDS_PER_HOUR,
            embodied_gwp_kgco2eq_per_s=embodied_per_s(
                p.server_without_gpu_embodied_gwp_kgco2eq, p.gpu_embodied_gwp_kgco2eq
            ),
            embodied_adpe_kgsbeq_per_s=embodied_per_s(
                p.server_without_gpu_embodied_adpe_kgsbeq, p.gpu_embodied_adpe_kgsbeq
            ),
            embodied_pe_mj_per_s=embodied_per_s(p.server_without_gpu_embodied_pe_mj, p.gpu_embodied_pe_mj),
            gpu_count=gpus,
        )

    def assess(self, serving: Serving, usage: Usage, latency_s: Number, site: SiteFactors) -> Figures:
        """The impacts of a request.

        dT = min(T_out f_L, dT_request);  E_server = GPU T_out f_E + dT W GPU / GPU_installed / B;  E = PUE E_server;
        I_usage = E F_em;  WCF = E_server (WUE_on-site + PUE WUE_off-site);  I_embodied = dT / (B dL) I_server
        [kWh, kgCO2eq, kgSbeq, MJ, L]. ``latency_s`` is ``math.inf`` where nobody measured it.

        Reference: EcoLogits, "Modeling request energy consumption" and the sections after it.
        """
        kwh_per_token, s_per_token, first_token_s, kwh_per_s, gwp_per_s, adpe_per_s, pe_per_s, _ = serving
        pue, wue_l_per_kwh, grid_gwp, grid_adpe, grid_pe, grid_wue = site
        tokens = usage.output_tokens
        generation_s = minimum(tokens * s_per_token + first_token_s, latency_s)
        it_energy_kwh = tokens * kwh_per_token + generation_s * kwh_per_s
        energy_kwh = pue * it_energy_kwh
        return Figures(
            energy_kwh,
            energy_kwh * grid_gwp,
            energy_kwh * grid_adpe,
            energy_kwh * grid_pe,
            it_energy_kwh * (wue_l_per_kwh + pue * grid_wue),
            generation_s * gwp_per_s,
            generation_s * adpe_per_s,
            generation_s * pe_per_s,
        )

    def steps(self, model: ModelParameters, usage: Usage, latency_s: float, site: SiteFactors) -> tuple[StepLine, ...]:
        """The computation line by line; each formula uses the symbols of the lines above it.

        An empty formula marks a given value; its source is then ``request``, ``model``, ``site``, ``grid_gwp`` (or another
        factor of the grid), or the edition.
        """
        p, serving = self.parameters, self.serve(model)
        figures = self.assess(serving, usage, latency_s, site)
        lines = self._given(model, usage, latency_s, site)

        def add(symbol: str, formula: str, value: Number, unit: str, source: str = self.reference) -> None:
            lines.append((symbol, formula, float(value), unit, source))

        memory_gb = model_memory_gb(p, model.total_params_b)
        add("model_memory_gb", "memory_overhead * total_params_b * weight_bits / 8", memory_gb, "GB")
        count = "ceil(model_memory_gb / gpu_memory_gb)"
        count = f"2 ** ceil(log2({count}))" if p.gpu_count_is_power_of_two else count
        add("gpu_count", count, serving.gpu_count, "GPU")

        f_energy = "gpu_energy_alpha_wh * exp(gpu_energy_beta * batch_size) * active_params_b + gpu_energy_gamma_wh"
        wh_per_token = gpu_energy_wh_per_output_token(p, model.active_params_b)
        add("gpu_energy_per_output_token_wh", f_energy, wh_per_token, "Wh/token")
        one_gpu_kwh = usage.output_tokens * wh_per_token / _WH_PER_KWH
        add("one_gpu_energy_kwh", "output_tokens * gpu_energy_per_output_token_wh / 1000", one_gpu_kwh, "kWh")

        f_latency = "latency_alpha_s * active_params_b + latency_beta_s * batch_size + latency_gamma_s"
        if p.uses_measured_speed and model.tokens_per_s is not None:
            add("tokens_per_s", "", model.tokens_per_s, "token/s", "model")
            f_latency = "1 / tokens_per_s"
        add("latency_per_output_token_s", f_latency, serving.latency_s_per_token, "s/token")
        add(
            "time_to_first_token_s",
            "",
            serving.time_to_first_token_s,
            "s",
            "model" if p.uses_measured_speed else self.reference,
        )
        generation_s = minimum(usage.output_tokens * serving.latency_s_per_token + serving.time_to_first_token_s, latency_s)
        f_generation = "output_tokens * latency_per_output_token_s + time_to_first_token_s"
        if latency_s < math.inf:
            f_generation = f"min({f_generation}, request_latency_s)"
        add("generation_latency_s", f_generation, generation_s, "s")

        f_server = "generation_latency_s / 3600 * server_without_gpu_power_kw * gpu_count / server_gpu_count / batch_size"
        server_kwh = generation_s * serving.server_energy_kwh_per_s
        add("server_without_gpu_energy_kwh", f_server, server_kwh, "kWh")
        f_it = "server_without_gpu_energy_kwh + gpu_count * one_gpu_energy_kwh"
        add("it_energy_kwh", f_it, server_kwh + serving.gpu_count * one_gpu_kwh, "kWh")

        add("usage_energy_kwh", "pue * it_energy_kwh", figures.usage_energy_kwh, "kWh")
        for key, unit in (("gwp_kgco2eq", "kgCO2eq"), ("adpe_kgsbeq", "kgSbeq"), ("pe_mj", "MJ")):
            add(f"usage_{key}", f"usage_energy_kwh * grid_{key}_per_kwh", getattr(figures, f"usage_{key}"), unit)
        f_water = "it_energy_kwh * (wue_l_per_kwh + pue * grid_wue_l_per_kwh)"
        add("usage_wcf_l", f_water, figures.usage_wcf_l, "L")

        for key, unit in (("gwp_kgco2eq", "kgCO2eq"), ("adpe_kgsbeq", "kgSbeq"), ("pe_mj", "MJ")):
            server, gpu = getattr(p, f"server_without_gpu_embodied_{key}"), getattr(p, f"gpu_embodied_{key}")
            whole = server_embodied(p, serving.gpu_count, server, gpu)
            f_whole = f"gpu_count / server_gpu_count * server_without_gpu_embodied_{key} + gpu_count * gpu_embodied_{key}"
            add(f"server_embodied_{key}", f_whole, whole, unit)
            f_share = f"generation_latency_s / (batch_size * hardware_lifetime_s) * server_embodied_{key}"
            add(f"embodied_{key}", f_share, getattr(figures, f"embodied_{key}"), unit)

        add("energy_kwh", "usage_energy_kwh", figures.usage_energy_kwh, "kWh")
        for key, unit, criterion in (
            ("gwp_kgco2eq", "kgCO2eq", "gwp"),
            ("adpe_kgsbeq", "kgSbeq", "adpe"),
            ("pe_mj", "MJ", "pe"),
        ):
            add(key, f"usage_{key} + embodied_{key}", figures.total(criterion), unit)
        add("wcf_l", "usage_wcf_l", figures.usage_wcf_l, "L")
        return tuple(lines)

    def _given(self, model: ModelParameters, usage: Usage, latency_s: float, site: SiteFactors) -> list[StepLine]:
        """The lines without a formula: the request, the model, the site, and the constants of the edition."""
        given: list[tuple[str, Number, str, str]] = [("output_tokens", usage.output_tokens, "token", "request")]
        if latency_s < math.inf:
            given.append(("request_latency_s", latency_s, "s", "request"))
        given += [
            ("active_params_b", model.active_params_b, "10^9 parameters", "model"),
            ("total_params_b", model.total_params_b, "10^9 parameters", "model"),
            ("pue", site.pue, "", "site"),
            ("wue_l_per_kwh", site.wue_l_per_kwh, "L/kWh", "site"),
            ("grid_gwp_kgco2eq_per_kwh", site.gwp, "kgCO2eq/kWh", "grid_gwp"),
            ("grid_adpe_kgsbeq_per_kwh", site.adpe, "kgSbeq/kWh", "grid_adpe"),
            ("grid_pe_mj_per_kwh", site.pe, "MJ/kWh", "grid_pe"),
            ("grid_wue_l_per_kwh", site.wue, "L/kWh", "grid_wue"),
        ]
        given += [(symbol, getattr(self.parameters, symbol), unit, self.reference) for symbol, unit in UNITS.items()]
        return [(symbol, "", float(value), unit, source) for symbol, value, unit, source in given]


def with_parameters(edition: Edition, changes: dict[str, Any]) -> Edition:
    """The edition with some constants replaced; its name then says which, since it is no longer the published one.

    Raises:
        ValueError: a name that the edition has not, or a value that is not a positive number.
    """
    if not changes:
        return edition
    known = [f.name for f in fields(Parameters)]
    for name, value in changes.items():
        if name not in known:
            raise ValueError(unknown("parameter", name, known))
        if name.startswith(("gpu_count_is", "uses_")):
            if not isinstance(value, bool):
                raise ValueError(f"{name} is True or False, got {value!r}")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
        elif value <= 0 and name != "gpu_energy_beta":
            raise ValueError(f"{name} must be above 0, got {value!r}")
    changed = ", ".join(f"{name}={value!r}" for name, value in sorted(changes.items()))
    name = f"{edition.name}[{changed}]"
    return Edition(name, edition.site_table, edition.reference, replace(edition.parameters, **changes))

"""Our own methodology: fitted on ML.ENERGY's measurements of 2026, with intervals that hold for models it has not seen.

Energy and GPU time per token follow from active and total parameters, bits per weight, GPUs, batch, and the lengths of
input and output. What nobody says of a deployment is unknown here too: each unknown widens the interval by what it may
change, and an explanation says how much of the width is due to which. Measurements: https://ml.energy/leaderboard.

Rules of this file: the interval is that of the IT energy, all its sources taken together as independent on a logarithmic
scale. Overhead, water and electricity of the site go from end to end on top of it, as in every edition.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from ecoimpact.methodologies._arrays import known_or
from ecoimpact.methodologies._measured_form import (
    Coefficients,
    PerToken,
    Scale,
    gpu_count,
    is_mixture,
    per_output_token,
    per_token,
)
from ecoimpact.methodologies._parameters import edition_name, replaced
from ecoimpact.types import Figures, ModelParameters, Number, Range, SiteFactors, StepLine, Usage
from ecoimpact.unknown_names import unknown

__all__ = [
    "EDITION",
    "GPUS",
    "INCLUDES",
    "LEAVES_OUT",
    "NAME",
    "Measured",
    "Parameters",
    "gpu_energy_wh_per_output_token",
    "methodology",
]

NAME = "measured-2026"
INCLUDES = (
    "reading the input and generating the output: GPUs, as measured",
    "host servers and idle machines",
    "overhead of the data centre (PUE)",
    "making of the servers and their GPUs: carbon, minerals, primary energy",
    "water on site and for the electricity",
)
LEAVES_OUT = (
    "what a prompt cache saves",
    "images, sound and video as input",
    "training",
    "network, storage and the user's device",
)

# --- the constants of the fit: table measured_fit ------------------------------------------------------------------------

ENERGY_UWH = Coefficients(
    step=43.139,
    mixture=3.6975,
    memory=49.168,
    experts=0.60095,
    compute=0.61088,
    token=2.174,
    attention=3.0696,
    exchange=1.493,
)
TIME_US = Coefficients(
    step=760.19,
    mixture=2.96,
    memory=294.5,
    experts=0.60525,
    compute=2.6578,
    token=15.773,
    attention=19.165,
    exchange=13.069,
)
SPREAD = {"dense": 0.2524, "mixture": 0.4316}
"""Log standard deviation of the energy of a model that the fit has not seen, its coefficients' own included."""


class Ends(NamedTuple):
    """A constant for which sources disagree: at the low end, in the middle, at the high end."""

    low: float
    central: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU: memory, its terms beside those of a H100, and what making it takes."""

    memory_gb: float
    energy: Scale
    time: Scale
    gwp_kgco2eq: Ends
    adpe_kgsbeq: Ends
    pe_mj: Ends


GPUS = {
    "H100": Gpu(
        memory_gb=85.9,
        energy=Scale(),
        time=Scale(),
        gwp_kgco2eq=Ends(164, 273, 575.1),
        adpe_kgsbeq=Ends(5.09e-3, 5.832e-3, 8.95e-3),
        pe_mj=Ends(1828, 3721, 7912),
    ),
    "B200": Gpu(
        memory_gb=180,
        energy=Scale(step=1.3729, memory=1.068, compute=0.46987, exchange=0.9452),
        time=Scale(step=0.95228, memory=0.7117, compute=0.33121, exchange=0.62665),
        gwp_kgco2eq=Ends(285, 635, 1415),
        adpe_kgsbeq=Ends(5.09e-3, 5.887e-3, 8.95e-3),
        pe_mj=Ends(3177, 7791, 19110),
    ),
    "A100": Gpu(
        memory_gb=85.9,
        energy=Scale(step=0.65885, memory=0.92152, compute=1.3903, exchange=0.7323),
        time=Scale(step=1.0531, memory=1.3346, compute=2.3727, exchange=1.221),
        gwp_kgco2eq=Ends(165, 306, 567.7),
        adpe_kgsbeq=Ends(3.76e-3, 3.767e-3, 5.09e-3),
        pe_mj=Ends(1828, 3739, 7648),
    ),
}
"""The GPUs that were measured; 80 GB of H100 and A100 are 80 GiB.

Embodied: NVIDIA, EcoLogits and Boavizta; see the page of the edition."""

# --- what is assumed where nobody says ------------------------------------------------------------------------------------

HOST_POWER_W = Ends(150, 229, 350)
"""Of a server without its GPUs, per GPU: EcoLogits 1.2 kW for eight, Latif et al. 8.4 kW less the GPUs; geometric mean."""
IDLE_RATIO = Ends(0.0, 0.10, 0.30)
"""Energy of idle machines over that of working ones. Google 2025 (arXiv:2508.15734): 0.02 Wh beside 0.20 Wh."""
BATCH_SIZE = Ends(8, 64, 512)
"""Nobody publishes it: an assumption. 64 as in EcoLogits, beside a median of 73 measured; eightfold both ways."""
WEIGHT_BITS = Ends(4, 8, 16)
GPU_COUNT_FACTOR = 2
"""Measured deployments have the smallest count of GPUs that holds the model, or twice that."""
SERVER_GPU_COUNT = 8
SERVER_GWP_KGCO2EQ = Ends(2500, 3775, 5700)
"""Scope3 2500 kg, EcoLogits 5700 kg; geometric mean."""
SERVER_ADPE_KGSBEQ = Ends(0.37, 0.37, 0.37)
SERVER_PE_MJ = Ends(70_000, 70_000, 70_000)
LIFETIME_YEARS = Ends(6, 4, 3)
"""e-footprint 6, Scope3 4, EcoLogits 3: the longest life gives the low end."""
TYPICAL_INPUT_TOKENS = 250
TYPICAL_OUTPUT_TOKENS = 1500
"""Of the requests that were measured; for the module's function, and for what an unknown does to the width."""

REFERENCE = "measured-2026"
FIT = "fit on the ML.ENERGY leaderboard 3.0, table measured_fit"
Z90 = 1.6448536269514722
ORDINARY = Usage(500, 400)
"""An ordinary request, as those are for which energies are published."""
PLAUSIBLE_WH = Range(0.003, 3.0)
"""What is published for ordinary answers, 0.03 to 1 Wh, with room: three times above, ten times below, where small models
are by right."""
_US_PER_H = 3.6e9
_S_PER_YEAR = 365 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What may be known of a deployment; ``None`` where it is not. ``interval`` is the probability of the interval."""

    batch_size: float | None = None
    gpu: str | None = None
    gpu_count: float | None = None
    weight_bits: float | None = None
    interval: float = 0.9
    unknown_input_tokens: float = 6000


class Deployment(NamedTuple):
    """A model on GPUs: all that the form needs."""

    active_params_b: Number
    total_params_b: Number
    weight_bits: Number
    gpu: str
    gpu_count: Number
    batch_size: Number
    host_power_w: Number
    idle_ratio: Number
    cache_bytes_per_token: Number | None = None
    state_bytes: Number = 0.0


class End(NamedTuple):
    """A model at an end of its interval, or in the middle: ``number`` is 0, 1 or 2 from low to high.

    ``spreads`` are log standard deviations by source; the figures are those of the middle times exp(z spread).
    """

    model: ModelParameters
    low: ModelParameters
    high: ModelParameters
    spreads: tuple[tuple[str, float], ...]
    z: float
    number: int

    @property
    def log_spread(self) -> float:
        return math.sqrt(sum(spread**2 for _, spread in self.spreads))


class Serving(NamedTuple):
    """What depends on the model alone: IT energy and embodied impacts, per output, input and context token."""

    energy_kwh_per_output_token: Number
    energy_kwh_per_input_token: Number
    energy_kwh_per_context_token: Number
    gpu_s_per_output_token: Number
    gpu_s_per_input_token: Number
    gpu_s_per_context_token: Number
    gwp_kgco2eq_per_gpu_s: Number
    adpe_kgsbeq_per_gpu_s: Number
    pe_mj_per_gpu_s: Number


def energy_uwh(d: Deployment) -> PerToken:
    """[uWh] Energy of all GPUs per token."""
    return _per_token(ENERGY_UWH, GPUS[d.gpu].energy, d)


def gpu_time_us(d: Deployment) -> PerToken:
    """[us of one GPU] Time of all GPUs per token."""
    return _per_token(TIME_US, GPUS[d.gpu].time, d)


def _per_token(coefficients: Coefficients, scale: Scale, d: Deployment) -> PerToken:
    return per_token(
        coefficients,
        scale,
        active_params_b=d.active_params_b,
        total_params_b=d.total_params_b,
        weight_bytes=d.weight_bits / 8,
        gpu_count=d.gpu_count,
        batch_size=d.batch_size,
        cache_bytes_per_token=d.cache_bytes_per_token,
        state_bytes=d.state_bytes,
    )


def it_energy_uwh(d: Deployment) -> PerToken:
    """[uWh] Energy of GPUs, hosts and idle machines per token.

    E_IT = (1 + idle) (E_GPU + P_host t_GPU)
    """
    gpus, time_us = energy_uwh(d), gpu_time_us(d)
    host = d.host_power_w * 1e6 / _US_PER_H
    return PerToken(*((1 + d.idle_ratio) * (e + host * t) for e, t in zip(gpus, time_us, strict=True)))


def z_score(interval: float) -> float:
    """How many standard deviations to each side hold a share of a normal distribution.

    >>> round(z_score(0.9), 4), round(z_score(0.5), 4)
    (1.6449, 0.6745)
    """
    if interval == 0.9:
        return Z90
    from statistics import NormalDist

    return NormalDist().inv_cdf((1 + interval) / 2)


def gpu_name(gpu: str) -> str:
    """The GPU that a text names, such as ``NVIDIA H100 80GB HBM3``.

    Raises:
        ValueError: none that was measured.

    >>> gpu_name("NVIDIA H100 80GB HBM3")
    'H100'
    """
    found = re.search(rf"(?<![A-Z0-9])({'|'.join(GPUS)})(?![0-9])", str(gpu).upper())
    if found:
        return found.group(1)
    raise ValueError(unknown("GPU", gpu, GPUS))


def gpu_energy_wh_per_output_token(
    *,
    active_params_b: float,
    total_params_b: float,
    weight_bits: float,
    gpu: str,
    gpu_count: float,
    batch_size: float,
    input_tokens: float = TYPICAL_INPUT_TOKENS,
    output_tokens: float = TYPICAL_OUTPUT_TOKENS,
    interval: float = 0.9,
    cache_bytes_per_token: float | None = None,
    state_bytes: float = 0.0,
) -> Range:
    """[Wh] Energy of all GPUs for one output token of a known deployment: the median in ``central``, and an interval.

    ``cache_bytes_per_token`` and ``state_bytes`` are for models of which not all layers have attention.

    Raises:
        ValueError: a GPU that was not measured, or a number that is not above 0.

    >>> found = gpu_energy_wh_per_output_token(
    ...     active_params_b=70, total_params_b=70, weight_bits=16, gpu="H100", gpu_count=4, batch_size=64)
    >>> f"{found.min:.6f} {found.central:.6f} {found.max:.6f}"
    '0.000148 0.000224 0.000339'
    """
    numbers = {"gpu_count": gpu_count, "batch_size": batch_size, "weight_bits": weight_bits, "interval": interval}
    given = _checked(Parameters(), {"gpu": gpu, **{name: float(value) for name, value in numbers.items()}})
    if not 0 < active_params_b <= total_params_b < math.inf:
        raise ValueError(f"0 < active_params_b <= total_params_b, got {active_params_b!r} and {total_params_b!r}")
    found = Deployment(active_params_b, total_params_b, weight_bits, gpu_name(gpu), gpu_count, batch_size, 0.0, 0.0)
    found = found._replace(cache_bytes_per_token=cache_bytes_per_token, state_bytes=state_bytes)
    token = energy_uwh(found)
    wh = per_output_token(token, input_tokens=input_tokens, output_tokens=output_tokens) / 1e6
    factor = math.exp(z_score(given.interval) * residual_spread(active_params_b, total_params_b))
    return Range(wh / factor, wh * factor, wh)


def residual_spread(active_params_b: float, total_params_b: float) -> float:
    """Log standard deviation of a model that the fit has not seen."""
    return SPREAD["mixture" if is_mixture(active_params_b, total_params_b) else "dense"]


class Measured:
    """The edition: its :class:`Parameters` and the arithmetic over them."""

    __slots__ = ("name", "parameters", "site_table", "typical_input_tokens")

    counts_input = True
    uses_region = True

    def __init__(self, name: str, parameters: Parameters) -> None:
        self.name = name
        self.site_table = NAME
        self.parameters = parameters
        self.typical_input_tokens = min(TYPICAL_INPUT_TOKENS, parameters.unknown_input_tokens)

    def __repr__(self) -> str:
        return f"<Methodology {self.name}>"

    # --- the deployment, and how far it may be another

    def deployment(self, model: ModelParameters, **other: Any) -> Deployment:
        """The middle of what is known of a deployment, with some of it replaced by ``other``."""
        p = self.parameters
        gpu = other.pop("gpu", None) or p.gpu or "H100"
        bits = other.pop("weight_bits", None) or self._weight_bits(model)
        factor = other.pop("gpu_count_factor", 1)
        count = p.gpu_count
        if count is None:
            count = factor * gpu_count(
                total_params_b=model.total_params_b, weight_bytes=bits / 8, gpu_memory_gb=GPUS[gpu].memory_gb
            )
        batch = BATCH_SIZE.central if p.batch_size is None else p.batch_size
        middle = Deployment(
            model.active_params_b,
            model.total_params_b,
            bits,
            gpu,
            count,
            batch,
            HOST_POWER_W.central,
            IDLE_RATIO.central,
            model.cache_bytes_per_token,
            known_or(model.state_bytes, 0.0),
        )
        return middle._replace(**other)

    def _weight_bits(self, model: ModelParameters) -> Number:
        given = self.parameters.weight_bits
        if given is not None:
            return given
        return WEIGHT_BITS.central if model.weight_bits is None else known_or(model.weight_bits, WEIGHT_BITS.central)

    def ends(self, low: ModelParameters, high: ModelParameters) -> tuple[End, End, End]:
        """The model at the low end of the interval, at the high end, and in the middle.

        Sources of width are taken as independent: spread = sqrt(sum spread_i^2), the median times exp(-z spread) and
        exp(z spread). What is known within bounds has the spread of which they are the 90 % interval.
        """
        middle = low._replace(
            active_params_b=math.sqrt(low.active_params_b * high.active_params_b),
            total_params_b=math.sqrt(low.total_params_b * high.total_params_b),
        )
        spreads = tuple(self._spreads(middle, low, high).items())
        z = z_score(self.parameters.interval)
        ends = [End(middle, low, high, spreads, sign * z, number) for number, sign in enumerate((-1, 0, 1))]
        return ends[0], ends[2], ends[1]

    def _spreads(self, middle: ModelParameters, low: ModelParameters, high: ModelParameters) -> dict[str, float]:
        p = self.parameters

        def width(one: Deployment, other: Deployment) -> float:
            logs = [
                math.log(
                    per_output_token(
                        it_energy_uwh(d), input_tokens=TYPICAL_INPUT_TOKENS, output_tokens=TYPICAL_OUTPUT_TOKENS
                    )
                )
                for d in (one, other)
            ]
            return abs(logs[1] - logs[0]) / (2 * Z90)

        def between(name: str, ends: tuple[Any, Any]) -> float:
            return width(self.deployment(middle, **{name: ends[0]}), self.deployment(middle, **{name: ends[1]}))

        found = {"fit": residual_spread(middle.active_params_b, middle.total_params_b)}
        found["size"] = 0.0 if low == high else width(self.deployment(low), self.deployment(high))
        found["batch"] = between("batch_size", (BATCH_SIZE.low, BATCH_SIZE.high)) if p.batch_size is None else 0.0
        bits_known = p.weight_bits is not None or middle.weight_bits is not None
        found["precision"] = 0.0 if bits_known else between("weight_bits", (WEIGHT_BITS.low, WEIGHT_BITS.high))
        found["gpu"] = between("gpu", ("H100", "B200")) if p.gpu is None else 0.0
        found["gpu_count"] = between("gpu_count_factor", (1, GPU_COUNT_FACTOR)) if p.gpu_count is None else 0.0
        hosts = between("host_power_w", (HOST_POWER_W.low, HOST_POWER_W.high))
        idle = between("idle_ratio", (IDLE_RATIO.low, IDLE_RATIO.high))
        found["server"] = math.hypot(hosts, idle)
        return found

    # --- the two steps

    def serve(self, model: ModelParameters | End) -> Serving:
        """Rates per token: of a model in the middle, or of an :class:`End`."""
        end = model if isinstance(model, End) else End(model, model, model, (), 0.0, 1)
        d = self.deployment(end.model)
        factor = math.exp(end.z * end.log_spread)
        energy = it_energy_uwh(d)
        gpu_time = gpu_time_us(d)
        return Serving(
            *(e * factor / 1e9 for e in energy),
            *((1 + d.idle_ratio) * t * factor / 1e6 for t in gpu_time),
            *(self.embodied_per_gpu_s(d.gpu, criterion, end.number) for criterion in ("gwp", "adpe", "pe")),
        )

    def embodied_per_gpu_s(self, gpu: str, criterion: str, number: int) -> float:
        """What a second of a GPU and its share of a server embody: kgCO2eq, kgSbeq or MJ."""
        server, of_gpu = embodied(gpu, criterion)
        whole = server[number] / SERVER_GPU_COUNT + of_gpu[number]
        return whole / (LIFETIME_YEARS[number] * _S_PER_YEAR)

    def assess(self, serving: Serving, usage: Usage, latency_s: Number, site: SiteFactors) -> Figures:  # noqa: ARG002
        """The impacts of a request. The measured latency is not used: others are served in the same seconds.

        E_IT = T_out e_out + T_in e_in + T_out (T_in + T_out / 2) e_context;  t = the same of GPU time;  E = PUE E_IT;
        I_usage = E F_em;  WCF = E_IT (WUE_on-site + PUE WUE_off-site);  I_embodied = t i_GPU   [kWh, s, kgCO2eq, ...]
        """
        e_out, e_in, e_context, t_out, t_in, t_context, gwp_per_s, adpe_per_s, pe_per_s = serving
        pue, wue_l_per_kwh, grid_gwp, grid_adpe, grid_pe, grid_wue = site
        tokens: Number = usage.output_tokens
        tokens_in = known_or(usage.input_tokens, self.typical_input_tokens)
        context = tokens * (tokens_in + tokens / 2)
        it_energy_kwh = tokens * e_out + tokens_in * e_in + context * e_context
        gpu_s = tokens * t_out + tokens_in * t_in + context * t_context
        energy_kwh = pue * it_energy_kwh
        return Figures(
            energy_kwh,
            energy_kwh * grid_gwp,
            energy_kwh * grid_adpe,
            energy_kwh * grid_pe,
            it_energy_kwh * (wue_l_per_kwh + pue * grid_wue),
            gpu_s * gwp_per_s,
            gpu_s * adpe_per_s,
            gpu_s * pe_per_s,
        )

    # --- the request

    def bounds(self, usage: Usage) -> tuple[Usage, Usage]:
        """The request at its low and at its high end: an unknown input has between 0 and ``unknown_input_tokens``."""
        if isinstance(usage.input_tokens, int | float):
            return usage, usage
        low = known_or(usage.input_tokens, 0.0)
        high = known_or(usage.input_tokens, self.parameters.unknown_input_tokens)
        return replace(usage, input_tokens=low), replace(usage, input_tokens=high)

    def notices(self, usage: Usage, latency_s: Number) -> tuple[str, ...]:  # noqa: ARG002 - what the engine asks all with
        """What there is to say about a request: codes of warnings."""
        return () if usage.input_tokens is not None else ("input-tokens-unknown",)

    def remarks(self, serving: Serving, site: SiteFactors) -> tuple[str, ...]:
        """What there is to say about a model whatever the request: codes of warnings.

        Its energy for an ordinary request may be far from all that is published for such requests.
        """
        energy_wh = 1e3 * self.assess(serving, ORDINARY, math.inf, site).usage_energy_kwh
        is_plausible = PLAUSIBLE_WH.min <= energy_wh <= PLAUSIBLE_WH.max
        return () if is_plausible else ("energy-outside-published",)

    # --- the computation, line by line

    def steps(
        self,
        model: ModelParameters | End,
        usage: Usage,
        latency_s: float,  # noqa: ARG002
        site: SiteFactors,
    ) -> tuple[StepLine, ...]:
        """The computation line by line; each formula uses the symbols of the lines above it."""
        from ecoimpact.methodologies._measured_steps import steps

        return steps(self, model, usage, site)


def embodied(gpu: str, criterion: str) -> tuple[Ends, Ends]:
    """What making a server without GPUs, and a GPU, takes."""
    one = GPUS[gpu]
    return {
        "gwp": (SERVER_GWP_KGCO2EQ, one.gwp_kgco2eq),
        "adpe": (SERVER_ADPE_KGSBEQ, one.adpe_kgsbeq),
        "pe": (SERVER_PE_MJ, one.pe_mj),
    }[criterion]


def _checked(defaults: Parameters, changes: dict[str, Any]) -> Parameters:
    """The parameters with changes.

    Raises:
        ValueError: what is wrong, and what would be right.
    """
    known = [f.name for f in fields(Parameters)]
    for name in changes:
        if name not in known:
            raise ValueError(unknown("parameter", name, known))
    numbers = {name: value for name, value in changes.items() if name != "gpu"}
    changed = replaced(defaults, numbers, ("unknown_input_tokens",))
    if changed.interval >= 1:
        raise ValueError(f"interval is a probability, above 0 and below 1, got {changed.interval!r}")
    gpu = changes.get("gpu")
    changed = changed if gpu is None else replace(changed, gpu=gpu_name(gpu))
    for name, least in (("batch_size", 1), ("gpu_count", 1), ("weight_bits", 1)):
        value = getattr(changed, name)
        if value is not None and value < least:
            raise ValueError(f"{name} is at least {least}, got {value!r}")
    return changed


EDITION = Measured(NAME, Parameters())


def methodology(**parameters: Any) -> Measured:
    """The edition, with what is known of a deployment; ``None`` stands for what is not.

    >>> methodology(gpu="B200", batch_size=128).name
    "measured-2026[batch_size=128, gpu='B200']"
    """
    changed = _checked(EDITION.parameters, parameters)
    name = edition_name(NAME, EDITION.parameters, changed)
    return EDITION if name == NAME else Measured(name, changed)

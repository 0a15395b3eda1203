"""Scope3's methodology for inference: durations of prefill and decode, power of the server, embodied and training shares.

The server does one request after the other in amortised seconds: that many are served at once is inside the fitted
``beta_in`` and ``beta_out``. Input tokens count. PUE is 1 unless given, since the document's formula has none.
Reference: Scope3, AI inference methodology, https://methodology.scope3.com/inference.

Rules of this file: what is not given is worked out for the GPUs that hold the model, each with its share of a server of
eight; what describes a whole server (its peak, its idle power, ...) needs ``gpu_count`` beside it. So every figure grows
with every input: more GPUs are faster by as much as they draw more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ecoimpact.methodologies._arrays import ceil, known_or, select
from ecoimpact.methodologies._parameters import edition_name, replaced
from ecoimpact.methodologies._price_to_size import PriceRegression, SizeFromPrice, size_from_price
from ecoimpact.types import Figures, ModelParameters, Number, SiteFactors, StepLine, Usage

__all__ = [
    "EDITION",
    "INCLUDES",
    "LEAVES_OUT",
    "NAME",
    "Parameters",
    "PriceRegression",
    "Scope3",
    "SizeFromPrice",
    "decode_s",
    "methodology",
    "prefill_s",
    "size_from_price",
]

NAME = "scope3"
INCLUDES = (
    "prefill and decode of a fully loaded server: GPUs, CPUs, idle power",
    "making of the server and its GPUs: carbon and water",
    "water on site and for the electricity",
    "training and fine-tuning, where their shares are given",
)
LEAVES_OUT = (
    "overhead of the data centre (PUE 1 unless given)",
    "idle hours of servers that are not fully loaded",
    "minerals and primary energy",
    "network, storage and the user's device",
)

REFERENCE = "Scope3, AI inference methodology, https://methodology.scope3.com/inference"
FIT = "fit on throughput of TensorRT-LLM 1.0 on H100 and H200, table throughput_fit"
H100 = "NVIDIA, H100 SXM data sheet, dense, https://www.nvidia.com/en-us/data-center/h100/"
DGX = "NVIDIA, DGX H100 user guide: 8 GPUs, 2 Xeon 8480C of 350 W"
IDLE = "highest draw of a node with 8 H100, 8.4 kW (Latif et al. 2025, arXiv:2412.08602), less its GPUs and CPUs"
CLUSTER = "Scope3, server cluster methodology, https://methodology.scope3.com"
GIVEN = "given by the program"
_JOULE_PER_KWH = 3.6e6
_SECONDS_PER_HOUR = 3600

FP8_PEAK_FLOP_PER_S = 1978.9e12
"""Of one H100 SXM, for weights of up to one byte."""
FP16_PEAK_FLOP_PER_S = 989.4e12
BANDWIDTH_BYTE_PER_S = 3.35e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The constants of the edition. ``None`` where they are worked out, and said to be so in an explanation.

    ``peak_flop_per_s``, ``memory_bandwidth_byte_per_s``, ``server_idle_power_w``, ``cpu_count`` and the two
    ``embodied_..._per_h`` are of all GPUs of the server together, and need ``gpu_count``. Shares of training and
    fine-tuning are per inference; ``None`` leaves them out.
    """

    weight_bytes: float | None = None
    peak_flop_per_s: float | None = None
    memory_bandwidth_byte_per_s: float | None = None
    beta_in: float = 4.4670039
    beta_out: float = 0.018463124
    gpu_count: float | None = None
    gpu_memory_gb: float = 80
    memory_overhead: float = 1.2
    gpu_power_w: float = 700
    server_gpu_count: float = 8
    server_idle_power_w: float | None = None
    cpu_count: float | None = None
    cpu_power_w: float = 350
    pue: float = 1.0
    cluster_wue_l_per_kwh: float | None = None
    embodied_kgco2eq_per_h: float | None = None
    embodied_l_per_h: float | None = None
    training_kgco2eq_per_inference: float | None = None
    fine_tuning_kgco2eq_per_inference: float | None = None
    training_l_per_inference: float | None = None
    fine_tuning_l_per_inference: float | None = None
    unknown_input_tokens: float = 6000


# Of a server with eight H100: what a server draws and embodies besides the constants above.
SERVER_IDLE_POWER_W = 2100
SERVER_CPU_COUNT = 2
SERVER_EMBODIED_KGCO2EQ = 2500
GPU_EMBODIED_KGCO2EQ = 176
GPU_EMBODIED_L = 11
LIFETIME_H = 4 * 8760
RESERVED_SHARE = 0.95

_OF_THE_SERVER = (
    "peak_flop_per_s",
    "memory_bandwidth_byte_per_s",
    "server_idle_power_w",
    "cpu_count",
    "embodied_kgco2eq_per_h",
    "embodied_l_per_h",
)
_MAY_BE_ZERO = frozenset(
    (
        *("beta_in", "beta_out", "gpu_power_w", "server_idle_power_w", "cpu_count", "cpu_power_w", "cluster_wue_l_per_kwh"),
        *("embodied_kgco2eq_per_h", "embodied_l_per_h", "unknown_input_tokens"),
        *("training_kgco2eq_per_inference", "fine_tuning_kgco2eq_per_inference"),
        *("training_l_per_inference", "fine_tuning_l_per_inference"),
    )
)


class Server(NamedTuple):
    """A number of GPUs and what belongs to them."""

    peak_flop_per_s: Number
    memory_bandwidth_byte_per_s: Number
    idle_power_w: Number
    cpu_count: Number
    power_w: Number
    embodied_kgco2eq_per_h: Number
    embodied_l_per_h: Number


class Serving(NamedTuple):
    """What depends on the model alone: seconds per token, and what a second costs."""

    s_per_input_token: Number
    s_per_output_token: Number
    energy_kwh_per_s: Number
    embodied_kgco2eq_per_s: Number
    embodied_l_per_s: Number


def prefill_s(*, active_params_b: Number, input_tokens: Number, peak_flop_per_s: Number) -> Number:
    """Time to read the input, bound by computing.

    t_in = 2 P n_in / A_f(b)   [s; P in billions of parameters, A_f in FLOP/s]

    Reference: Scope3, "Text-to-Text inference duration prediction".

    >>> round(prefill_s(active_params_b=8.03, input_tokens=1200, peak_flop_per_s=989.4e12), 6)
    0.019478
    """
    return 2 * active_params_b * 1e9 * input_tokens / peak_flop_per_s


def decode_s(
    *, weight_bytes: Number, active_params_b: Number, output_tokens: Number, memory_bandwidth_byte_per_s: Number
) -> Number:
    """Time to generate the output, bound by reading the weights from memory.

    t_out = b P n_out / A_bw   [s; b in bytes per weight, P in billions of parameters, A_bw in bytes/s]

    Reference: Scope3, "Text-to-Text inference duration prediction".

    >>> round(decode_s(weight_bytes=2, active_params_b=8.03, output_tokens=350, memory_bandwidth_byte_per_s=3.35e12), 6)
    1.67791
    """
    return weight_bytes * active_params_b * 1e9 * output_tokens / memory_bandwidth_byte_per_s


def shared(*parts: float | None) -> float | None:
    """The sum of the shares that are known, or ``None`` where none is.

    >>> shared(None, 2.0), shared(None, None)
    (2.0, None)
    """
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


class Scope3:
    """The edition: its :class:`Parameters` and the arithmetic over them."""

    __slots__ = ("name", "parameters", "site_table")

    counts_input = True

    def __init__(self, name: str, parameters: Parameters) -> None:
        self.name = name
        self.site_table = "ecologits-2025-09"
        self.parameters = parameters

    def __repr__(self) -> str:
        return f"<Methodology {self.name}>"

    # --- the two steps

    def serve(self, model: ModelParameters) -> Serving:
        """Seconds per token, and power and embodied amounts per second, of the server (or of one GPU and its share)."""
        p, weight_bytes = self.parameters, self.weight_bytes(model)
        server = self.server(p.gpu_count or 1, weight_bytes)
        params_b = model.active_params_b
        input_s = prefill_s(active_params_b=params_b, input_tokens=1, peak_flop_per_s=server.peak_flop_per_s)
        output_s = decode_s(
            weight_bytes=weight_bytes,
            active_params_b=params_b,
            output_tokens=1,
            memory_bandwidth_byte_per_s=server.memory_bandwidth_byte_per_s,
        )
        return Serving(
            s_per_input_token=p.beta_in * input_s,
            s_per_output_token=p.beta_out * output_s,
            energy_kwh_per_s=p.pue * server.power_w / _JOULE_PER_KWH,
            embodied_kgco2eq_per_s=server.embodied_kgco2eq_per_h / _SECONDS_PER_HOUR,
            embodied_l_per_s=server.embodied_l_per_h / _SECONDS_PER_HOUR,
        )

    def assess(self, serving: Serving, usage: Usage, latency_s: Number, site: SiteFactors) -> Figures:  # noqa: ARG002
        """The impacts of a request. The measured latency is not used: others are served in the same seconds.

        t = beta_in t_in + beta_out t_out;  E = PUE t (P_idle + N_gpu P_gpu + N_cpu P_cpu);
        GWP = E I + t EmbEm(1 h) / 3600 + training;  water = E WUE + t EmbH2O(1 h) / 3600 + training
        [s, kWh, kgCO2eq, L]. Input tokens that nobody knows are left out here; :meth:`bounds` says how far that may be off.

        Reference: Scope3, "Calculating emissions and water usage for an inference request".
        """
        s_per_input_token, s_per_output_token, kwh_per_s, kgco2eq_per_s, l_per_s = serving
        p = self.parameters
        input_tokens = known_or(usage.input_tokens, 0.0)
        duration_s = input_tokens * s_per_input_token + usage.output_tokens * s_per_output_token
        energy_kwh = duration_s * kwh_per_s
        return Figures(
            usage_energy_kwh=energy_kwh,
            usage_gwp_kgco2eq=energy_kwh * site.gwp,
            usage_adpe_kgsbeq=None,
            usage_pe_mj=None,
            usage_wcf_l=energy_kwh * self.cluster_wue_l_per_kwh(site),
            embodied_gwp_kgco2eq=duration_s * kgco2eq_per_s,
            embodied_adpe_kgsbeq=None,
            embodied_pe_mj=None,
            embodied_wcf_l=duration_s * l_per_s,
            training_gwp_kgco2eq=shared(p.training_kgco2eq_per_inference, p.fine_tuning_kgco2eq_per_inference),
            training_wcf_l=shared(p.training_l_per_inference, p.fine_tuning_l_per_inference),
        )

    def bounds(self, usage: Usage) -> tuple[Usage, Usage]:
        """The request at its low and at its high end: an unknown input has between 0 and ``unknown_input_tokens``."""
        if isinstance(usage.input_tokens, int | float):
            return usage, usage
        low = known_or(usage.input_tokens, 0.0)
        high = known_or(usage.input_tokens, self.parameters.unknown_input_tokens)
        return replace(usage, input_tokens=low), replace(usage, input_tokens=high)

    def notices(self, usage: Usage, latency_s: Number) -> tuple[str, ...]:  # noqa: ARG002 - what the engine asks all with
        """What there is to say about a request: codes of warnings."""
        p = self.parameters
        codes = () if usage.input_tokens is not None else ("input-tokens-unknown",)
        if p.training_kgco2eq_per_inference is None or p.training_l_per_inference is None:
            codes = (*codes, "training-not-included")
        return codes

    # --- what is worked out where it is not given

    def weight_bytes(self, model: ModelParameters) -> Number:
        if self.parameters.weight_bytes is not None:
            return self.parameters.weight_bytes
        return 1.0 if model.weight_bits is None else known_or(model.weight_bits, 8.0) / 8

    def gpu_count(self, model: ModelParameters) -> Number:
        p = self.parameters
        if p.gpu_count is not None:
            return p.gpu_count
        return ceil(p.memory_overhead * model.total_params_b * self.weight_bytes(model) / p.gpu_memory_gb)

    def cluster_wue_l_per_kwh(self, site: SiteFactors) -> Number:
        given = self.parameters.cluster_wue_l_per_kwh
        return site.wue_l_per_kwh + site.wue if given is None else given

    def server(self, gpus: Number, weight_bytes: Number) -> Server:
        p = self.parameters
        part = gpus / p.server_gpu_count
        hours = LIFETIME_H * RESERVED_SHARE
        peak = select(weight_bytes <= 1, FP8_PEAK_FLOP_PER_S, FP16_PEAK_FLOP_PER_S)
        embodied_kgco2eq = part * SERVER_EMBODIED_KGCO2EQ + gpus * GPU_EMBODIED_KGCO2EQ
        idle_power_w = SERVER_IDLE_POWER_W * part if p.server_idle_power_w is None else p.server_idle_power_w
        cpu_count = SERVER_CPU_COUNT * part if p.cpu_count is None else p.cpu_count
        return Server(
            peak_flop_per_s=gpus * peak if p.peak_flop_per_s is None else p.peak_flop_per_s,
            memory_bandwidth_byte_per_s=(
                gpus * BANDWIDTH_BYTE_PER_S if p.memory_bandwidth_byte_per_s is None else p.memory_bandwidth_byte_per_s
            ),
            idle_power_w=idle_power_w,
            cpu_count=cpu_count,
            power_w=idle_power_w + gpus * p.gpu_power_w + cpu_count * p.cpu_power_w,
            embodied_kgco2eq_per_h=(
                embodied_kgco2eq / hours if p.embodied_kgco2eq_per_h is None else p.embodied_kgco2eq_per_h
            ),
            embodied_l_per_h=gpus * GPU_EMBODIED_L / hours if p.embodied_l_per_h is None else p.embodied_l_per_h,
        )

    # --- the computation, line by line

    def steps(self, model: ModelParameters, usage: Usage, latency_s: float, site: SiteFactors) -> tuple[StepLine, ...]:  # noqa: ARG002
        """The computation line by line; each formula uses the symbols of the lines above it.

        An empty formula marks a given value; its source is then ``request``, ``input``, ``model``, ``site``, ``grid_gwp``
        (or another factor of the grid), or a publication.
        """
        from ecoimpact.methodologies._scope3_steps import steps

        return steps(self, model, usage, site)


def _check(p: Parameters) -> None:
    if p.pue < 1:
        raise ValueError(f"pue is total energy over IT energy, so at least 1, got {p.pue!r}")
    lone = [name for name in _OF_THE_SERVER if getattr(p, name) is not None]
    if lone and p.gpu_count is None:
        raise ValueError(f"{lone[0]} is that of the whole server: give its gpu_count as well")


EDITION = Scope3(NAME, Parameters())


def methodology(**parameters: Any) -> Scope3:
    """The edition, with any of its :class:`Parameters` replaced; ``None`` stands for what is worked out.

    >>> methodology(pue=1.1).name
    'scope3[pue=1.1]'
    """
    changed = replaced(EDITION.parameters, parameters, _MAY_BE_ZERO)
    _check(changed)
    name = edition_name(NAME, EDITION.parameters, changed)
    return EDITION if name == NAME else Scope3(name, changed)

"""EcoLogits, the edition documented in September and October 2025. The default, also called ``ecologits``.

Weights take 4 bits, a server without GPUs draws 1 kW, GPUs are counted one by one; the time to generate is modelled for
every model and bounded by the measured latency. Reference: https://ecologits.ai, doi 10.21105/joss.07471.
"""

from __future__ import annotations

from ecoimpact.methodologies._ecologits import INCLUDES, LEAVES_OUT, Edition, Parameters, with_parameters

__all__ = ["EDITION", "INCLUDES", "LEAVES_OUT", "NAME", "PARAMETERS", "methodology"]

NAME = "ecologits-2025-09"

PARAMETERS = Parameters(
    gpu_energy_alpha_wh=6.47e-6,
    gpu_energy_beta=-2.60e-3,
    gpu_energy_gamma_wh=1.04e-5,
    latency_alpha_s=6.78e-4,
    latency_beta_s=3.12e-4,
    latency_gamma_s=1.94e-2,
    weight_bits=4,
    server_without_gpu_power_kw=1.0,
    gpu_embodied_gwp_kgco2eq=164,
    gpu_embodied_adpe_kgsbeq=5.09e-3,
    gpu_embodied_pe_mj=1828,
    gpu_count_is_power_of_two=False,
    uses_measured_speed=False,
)

EDITION = Edition(NAME, "ecologits-2025-09", "EcoLogits methodology, 2025-09, https://ecologits.ai", PARAMETERS)


def methodology(**parameters: float) -> Edition:
    """The edition, with any of its :class:`Parameters` replaced.

    >>> from ecoimpact.types import ModelParameters
    >>> methodology().serve(ModelParameters(active_params_b=13, total_params_b=46.7)).gpu_count
    1
    """
    return with_parameters(EDITION, parameters)

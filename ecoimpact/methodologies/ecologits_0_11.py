"""EcoLogits as the package computes it since 0.9 and in 0.11.3.

Against the edition of September 2025: another fit of the energy per token, 16 bits per weight, GPUs counted in powers of
two, a server of 1.2 kW, GPUs with higher embodied impacts, and the measured speed of the hosted model where it is known.
Reference: https://pypi.org/project/ecologits/0.11.3/, doi 10.21105/joss.07471.
"""

from __future__ import annotations

from ecoimpact.methodologies._ecologits import INCLUDES, LEAVES_OUT, Edition, Parameters, with_parameters

__all__ = ["EDITION", "INCLUDES", "LEAVES_OUT", "NAME", "PARAMETERS", "methodology"]

NAME = "ecologits-0.11"

PARAMETERS = Parameters(
    gpu_energy_alpha_wh=1.1665273170451914e-06,
    gpu_energy_beta=-0.011205921025579175,
    gpu_energy_gamma_wh=4.052928146734005e-05,
    latency_alpha_s=0.0006785088094353663,
    latency_beta_s=0.0003119310311688259,
    latency_gamma_s=0.019473717579473387,
    weight_bits=16,
    server_without_gpu_power_kw=1.2,
    gpu_embodied_gwp_kgco2eq=273,
    gpu_embodied_adpe_kgsbeq=0.00895,
    gpu_embodied_pe_mj=3721,
    gpu_count_is_power_of_two=True,
    uses_measured_speed=True,
)

EDITION = Edition(NAME, "ecologits-0.11", "EcoLogits 0.11.3, https://pypi.org/project/ecologits", PARAMETERS)


def methodology(**parameters: float) -> Edition:
    """The edition, with any of its :class:`Parameters` replaced.

    >>> from ecoimpact.types import ModelParameters
    >>> methodology().serve(ModelParameters(active_params_b=13, total_params_b=46.7)).gpu_count
    2
    """
    return with_parameters(EDITION, parameters)

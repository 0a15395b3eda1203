"""The text of every warning and error, in one place. Codes are stable: programs and logs rely on them."""

from __future__ import annotations

from functools import cache

from ecoimpact.types import Notice

WARNINGS = {
    # Codes that EcoLogits uses, for the same situations.
    "model-arch-not-released": "The architecture of the model is not public: its size is an estimate.",
    "model-arch-multimodal": "The model is multimodal, which the methodology does not model.",
    "electricity-mix-adpe-world": "No ADPe factor is known for the zone: the world's stands in.",
    "electricity-mix-pe-world": "No primary energy factor is known for the zone: the world's stands in.",
    "electricity-mix-wue-world": "No water factor is known for the zone: the world's stands in.",
    # Codes of our own.
    "electricity-mix-adpe-country": "No ADPe factor is known for the zone: its country's stands in.",
    "electricity-mix-pe-country": "No primary energy factor is known for the zone: its country's stands in.",
    "electricity-mix-wue-country": "No water factor is known for the zone: its country's stands in.",
    "zone-world": "No figures are known for the zone: the world's electricity stands in.",
    "zone-from-host": "No zone was given: the electricity is that of the region which the endpoint's host names.",
    "zone-from-response": "No zone was given: the electricity is that of the place which the answer names.",
    "zone-of-response-unknown": "The answer names a place that is not known: it says nothing about the electricity.",
    "grid-hourly": "The GWP of the electricity is that of the hour of the request.",
    "grid-yearly": "The GWP of the electricity at the time of the request is not known: the yearly figure stands in.",
    "site-world": "The data centres of the provider are not known: typical ones on the world's electricity stand in.",
    "site-typical": "The overhead and the water of the provider's data centres are not known: typical figures stand in.",
    "model-name-normalised": "The model was found after its name was brought to its plain form.",
    "model-family": "The model is not listed: another of its family, of the same size class, stands in.",
    "model-size-from-name": "The model is not listed: its size is the one that its name states.",
    "model-size-from-price": "The model is not listed: its size is guessed from its list price, within a wide range.",
    "model-other-provider": "The model is known from another provider, whose figures are used.",
    "request-not-covered": "The request generates no tokens, and the methodology does not cover what is only read.",
    "output-tokens-estimated": "The provider sent no token count: it was estimated from the length of the answer.",
    "input-tokens-unknown": "Nobody knows how many input tokens there were: the range goes from none to many.",
    "training-not-included": "The shares of training and fine-tuning are not given: they are left out.",
    "latency-modelled": "The latency is not measured, and the methodology rests on it: a model of it stands in.",
    "energy-outside-published": "For an ordinary answer of this model the estimate is far from all that is published.",
    "input-tokens-invalid": "The count of input tokens is not a plausible number and was left out.",
    "latency-invalid": "The latency is not a plausible number and was left out.",
    # Codes of imports.
    "usage-averaged": "Only the sum over several requests is known: it was shared out evenly among them.",
    "requests-unknown": "Nobody says how many requests there were: one record stands for all of them.",
    "provider-from-model": "The import names no provider: the one that owns the model's name stands in.",
}

ERRORS = {
    "model-not-registered": "The model is not known, and neither is its size.",
    "zone-not-registered": "The electricity zone is not known.",
    "provider-not-registered": "The provider is not known.",
    "output-tokens-unknown": "Nobody knows how many tokens were generated.",
    "tokens-invalid": "The count of output tokens is not a plausible number.",
}

NOTICES = {**WARNINGS, **ERRORS}
"""Every code with its text."""


@cache
def _plain(code: str) -> Notice:
    return Notice(code, NOTICES[code])


def notice(code: str, detail: str = "") -> Notice:
    """The notice of a code. ``detail`` says what it is about, such as a name, and follows the text.

    >>> str(notice("zone-not-registered", "'XXX'"))
    "The electricity zone is not known: 'XXX'. [zone-not-registered]"
    """
    if not detail:
        return _plain(code)
    return Notice(code, f"{NOTICES[code].removesuffix('.')}: {detail}.")

"""What a type checker tells the users of the public names: checked by mypy, and run."""

from __future__ import annotations

from typing import assert_type

import openai

import ecoimpact
from ecoimpact import Figure, Impacts, Range
from ecoimpact.types import Explanation, Notice, Phase


def test_impacts_are_typed() -> None:
    impacts = assert_type(ecoimpact.estimate("gpt-4o-mini", output_tokens=400), Impacts)
    energy = assert_type(impacts.energy, Figure | None)
    assert energy is not None
    assert_type(energy.value, Range)
    assert_type(energy.value.max, float)
    assert_type(energy.value + 1, Range)
    assert_type(float(energy), float)
    assert_type(impacts.embodied, Phase | None)
    assert_type(impacts.warnings, tuple[Notice, ...])
    assert_type(impacts.explain(), Explanation)
    assert_type(impacts.cost, float | None)
    assert_type(ecoimpact.impacts_of(object()), Impacts | None)
    assert_type(ecoimpact.drops(), dict[str, int])
    assert_type(ecoimpact.flush(1), bool)


def test_a_wrapped_client_keeps_its_type() -> None:
    with openai.OpenAI(api_key="test") as client:
        assert assert_type(ecoimpact.wrap(client), openai.OpenAI) is client
    ecoimpact.uninstrument()


def test_every_public_name_is_there() -> None:
    for name in ecoimpact.__all__:
        assert getattr(ecoimpact, name) is not None
    assert set(ecoimpact.__all__) <= set(dir(ecoimpact))

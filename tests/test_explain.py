"""Explanations: for every methodology the formulas, worked out in order, give the figures; and their views."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoimpact import data, engine, methodologies
from ecoimpact.engine import catalog, estimate
from ecoimpact.types import CRITERIA, PHASE_FIELDS, Explanation, Figures, Impacts, Range, Step, Usage

EDITIONS = [name for name in methodologies.names() if name not in methodologies.ALIASES]
GIVEN_SERVER = {
    "pue": 1.1,
    "gpu_count": 8,
    "peak_flop_per_s": 1.58312e16,
    "memory_bandwidth_byte_per_s": 26.8e12,
    "server_idle_power_w": 1200,
    "cpu_count": 2,
    "cluster_wue_l_per_kwh": 1.8,
    "embodied_kgco2eq_per_h": 0.117,
    "embodied_l_per_h": 0.0026,
    "training_kgco2eq_per_inference": 2.1e-6,
    "fine_tuning_kgco2eq_per_inference": 3e-8,
    "training_l_per_inference": 1.4e-5,
}
CHOSEN: list[Any] = [
    *EDITIONS,
    methodologies.get("ecologits-0.11", batch_size=8),
    methodologies.get("scope3", **GIVEN_SERVER),
    methodologies.get("scope3", weight_bytes=0.5, fine_tuning_l_per_inference=1e-6),
    methodologies.get("sci", processor_count=8, device_embodied_kgco2eq=7012, calls_per_user=40, calls_per_conversation=6),
]

_OPERATORS: Mapping[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}
_FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "ceil": math.ceil, "exp": math.exp, "log": math.log, "log2": math.log2, "max": max, "min": min, "sqrt": math.sqrt,
}  # fmt: skip


def evaluate(formula: str, known: Mapping[str, float]) -> float:
    """A formula over known symbols: numbers, arithmetic, and a few functions; whatever else is in it is an error."""

    def value(node: ast.AST) -> Any:
        match node:
            case ast.Expression(body):
                return value(body)
            case ast.Constant(int() | float() as number):
                return number
            case ast.Name(symbol):
                return known[symbol]
            case ast.BinOp(left, kind, right):
                return _OPERATORS[type(kind)](value(left), value(right))
            case ast.UnaryOp(kind, operand):
                return _OPERATORS[type(kind)](value(operand))
            case ast.Call(ast.Name(function), arguments, []):
                return _FUNCTIONS[function](*map(value, arguments))
        raise AssertionError(f"{formula!r} holds {ast.dump(node)}")

    return float(value(ast.parse(formula, mode="eval")))


def recomputed(steps: Explanation, end: str) -> dict[str, float]:
    """All symbols, worked out from what is given at one end."""
    known: dict[str, float] = {}
    for step in steps:
        assert step.symbol not in known, f"{step.symbol} stands twice"
        assert step.source
        stated = getattr(step, end)
        known[step.symbol] = evaluate(step.formula, known) if step.formula else stated
        assert known[step.symbol] == pytest.approx(stated, rel=1e-12, abs=0), step
        assert step.value.min <= stated <= step.value.max
    return known


def check(impacts: Impacts) -> None:
    steps = impacts.explain()
    for end, figures in (("low", impacts.assessment.low), ("high", impacts.assessment.high)):
        assert figures is not None
        known = recomputed(steps, end)
        for field in Figures._fields:
            value = getattr(figures, field)
            assert known.get(field) == (None if value is None else pytest.approx(value, rel=1e-12, abs=0)), field
        for criterion in CRITERIA:
            total = figures.total(criterion.key)
            assert known.get(criterion.suffix) == (None if total is None else pytest.approx(total, rel=1e-12, abs=0))


cards = [card for card in (*data.cards(), *data.added_cards()) if card.provider in data.OWNERS]
requests = st.fixed_dictionaries(
    {
        "models": st.sampled_from(cards).map(lambda card: (card.name,)),
        "provider": st.sampled_from([None, "openai", "azure_openai", "bedrock", "groq", "mistralai", "scaleway"]),
        "usage": st.builds(
            Usage,
            st.one_of(st.none(), st.integers(0, 10**6)),
            st.integers(0, 10**6),
            estimated=st.booleans(),
        ),
        "latency_s": st.one_of(st.none(), st.just(0.0), st.floats(1e-9, 600)),
        "zone": st.one_of(st.none(), st.sampled_from(sorted(data.zone_codes()))),
    }
)


@pytest.mark.parametrize("methodology", CHOSEN, ids=str)
@given(request=requests)
@settings(max_examples=60)
def test_the_steps_recompute_the_figures(methodology: Any, request: dict[str, Any]) -> None:
    assessment = engine.assess(catalog(), methodology=methodology, **request)
    assert not assessment.errors
    check(Impacts(assessment))


@pytest.mark.parametrize("methodology", EDITIONS)
@pytest.mark.parametrize("model", ["gpt-4o", "claude-opus-5", "mistral-large-latest", "gemini-2.5-pro", "gpt-oss-120b"])
def test_the_steps_of_well_known_models(methodology: str, model: str) -> None:
    check(estimate(model, output_tokens=400, input_tokens=1200, methodology=methodology))
    check(estimate(model, output_tokens=0, latency_s=0.0, methodology=methodology))


@pytest.mark.parametrize("methodology", EDITIONS)
def test_every_given_value_has_a_source_that_says_more_than_a_key(methodology: str) -> None:
    steps = estimate("gpt-4o", output_tokens=400, methodology=methodology).explain()
    for step in steps:
        if not step.formula:
            assert step.source not in ("request", "input", "model", "site", "grid_gwp", "grid_adpe", "grid_pe", "grid_wue")


def test_a_sum_of_phases_is_explained_by_its_phases() -> None:
    for name in EDITIONS:
        steps = estimate("gpt-4o", output_tokens=400, input_tokens=9, methodology=name).explain()
        parts = [field for field in PHASE_FIELDS["gwp"] if field in {step.symbol for step in steps}]
        assert steps["gwp_kgco2eq"].formula == " + ".join(parts)


@pytest.mark.parametrize("formula", ["__import__('os')", "x.real", "x[0]", "lambda: 1", "x if x else 1", "open(x)", "'a'"])
def test_the_evaluator_takes_nothing_but_arithmetic(formula: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        evaluate(formula, {"x": 1.0})


# --- views --------------------------------------------------------------------------------------------------------------

HOSTILE = Explanation(
    "m<script>",
    (
        Step("a", "", Range(1, 2), "10^9 | x", "<img src=x onerror=alert(1)> | [a](b)\nc `d` \\"),
        Step("b", "a * 2 | 1", Range(2, 4), "", "s"),
    ),
)


class _Cells(HTMLParser):
    """The texts of the cells, and every tag that occurs."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_text_names_every_step_with_formula_value_unit_and_source() -> None:
    steps = estimate("gpt-4o-mini", output_tokens=400, input_tokens=100, methodology="scope3").explain()
    text = str(steps)
    for step in steps:
        assert f"{step.symbol} = {step.value:.4g} {step.unit}".rstrip() in text.splitlines()
        assert step.source in text
        assert step.formula in text


def test_markdown_is_one_table() -> None:
    steps = estimate("gpt-4o-mini", output_tokens=400, methodology="sci").explain()
    head, rule, *rows = steps.to_markdown().splitlines()
    assert head == "| symbol | formula | value | unit | source |"
    assert rule == "|---|---|---|---|---|"
    assert len(rows) == len(steps)
    assert rows[0].startswith("| `output_tokens` |  | 400 | token | ")
    for row in HOSTILE.to_markdown().splitlines():
        assert row.replace("\\\\", "").replace("\\|", "").count("|") == 6
    for sign in ("<", "[", "`"):
        assert f" {sign}" not in HOSTILE.to_markdown().splitlines()[2].partition("`a`")[2]


def test_html_is_a_table_of_escaped_text() -> None:
    page = _Cells()
    page.feed(HOSTILE._repr_html_())
    assert page.tags == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert "m<script>" in page.texts
    assert HOSTILE[0].source in page.texts
    assert "1.5 [1 - 2]" in page.texts


def test_ends_are_those_of_the_value_unless_a_step_falls() -> None:
    assert (HOSTILE["a"].low, HOSTILE["a"].high) == (1, 2)
    falling = Step("t", "", Range(1, 2), "s", "x", 2, 1)
    assert (falling.low, falling.high, falling.value) == (2, 1, Range(1, 2))

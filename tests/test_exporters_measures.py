"""What live metrics take of a record: bounded and printable whatever it holds, and nothing that nobody knows."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ecoimpact
from ecoimpact.exporters import metrics
from ecoimpact.exporters.measures import MAX_SERIES, MAX_VALUE_CHARS, MAX_VALUES, OTHER, Measurement, Measures
from ecoimpact.exporters.metric_exporter import MetricExporter
from ecoimpact.types import Assessment, Inference, Record, Usage

INFERENCE = Inference(
    provider="openai",
    endpoint="chat.completions",
    request_model="gpt-4o-mini",
    response_model="gpt-4o-mini-2024-07-18",
    usage=Usage(input_tokens=23, output_tokens=503),
    latency_s=2.5,
    time_to_first_token_s=None,
    started_at=1767225600.0,
    stream=False,
    status="ok",
)


def assessed(model: str = "gpt-4o-mini", output_tokens: int = 503) -> Assessment:
    return ecoimpact.estimate(model, output_tokens=output_tokens, provider="openai").assessment


KNOWN, NOT_KNOWN = assessed(), assessed("nobody-knows-this-one")


def made(assessment: Assessment = KNOWN, **changes: Any) -> Record:
    outside = {name: changes.pop(name) for name in ("labels", "cost_usd") if name in changes}
    return Record(id="1", inference=replace(INFERENCE, **changes), assessment=assessment, **{"cost_usd": 0.25, **outside})


def named(measures: Measures, found: Measurement) -> dict[str, str]:
    return dict(zip(measures.attributes_of(found.metric), found.attributes, strict=True))


def values(found: list[Measurement]) -> dict[str, float]:
    sums: Counter[str] = Counter()
    for metric, value, _ in found:
        sums[metric.name] += value  # type: ignore[assignment]
    return dict(sums)


def test_units_and_ends() -> None:
    found = values([*Measures().of(made())])
    figures = made().to_dict()
    assert found["ecoimpact.requests"] == 1
    assert found["ecoimpact.tokens"] == 526
    assert found["ecoimpact.cost.usd"] == 0.25
    for end, name in (("min", "low"), ("central", "central"), ("max", "high")):
        for metric, field, factor in (
            (f"ecoimpact.energy.{name}", "energy_kwh", 3_600_000),
            (f"ecoimpact.gwp.{name}", "gwp_kgco2eq", 1000),
            (f"ecoimpact.adpe.{name}", "adpe_kgsbeq", 1000),
            (f"ecoimpact.pe.{name}", "pe_mj", 1_000_000),
            (f"ecoimpact.wcf.{name}.liters", "wcf_l", 1),
        ):
            assert found[metric] == pytest.approx(figures[f"{field}_{end}"] * factor, rel=1e-12)
    assert "ecoimpact.requests.unestimated" not in found
    assert "ecoimpact.requests.unpriced" not in found


def test_what_nobody_knows_is_counted_as_unknown_and_never_as_zero() -> None:
    shown = Measures()
    record = made(NOT_KNOWN, cost_usd=None, usage=Usage(), response_model=None, request_model=None, latency_s=None)
    found = [*shown.of(record)]
    assert values(found) == {
        "ecoimpact.requests": 1,
        "ecoimpact.requests.unestimated": 1,
        "ecoimpact.requests.unpriced": 1,
    }
    reasons = [named(shown, one).get("reason") for one in found if one.metric is metrics.UNESTIMATED]
    assert reasons == ["model-not-registered"]
    assert named(shown, found[0])["model"] == "(unknown)"


@pytest.mark.parametrize("poison", [math.nan, math.inf, -1.0])
def test_a_value_that_no_counter_can_take_adds_nothing(poison: float) -> None:
    assert KNOWN.low is not None
    figures = replace(KNOWN, low=KNOWN.low._replace(usage_gwp_kgco2eq=poison - 1))
    found = values([*Measures().of(made(figures, cost_usd=poison, latency_s=poison))])
    assert all(math.isfinite(value) and value >= 0 for value in found.values())
    assert "ecoimpact.gwp.low" not in found
    assert "ecoimpact.gwp.central" not in found
    assert "ecoimpact.gwp.high" not in found, "one end alone would be no range"
    assert found["ecoimpact.requests.unpriced"] == 1
    assert found["ecoimpact.energy.low"] > 0


def test_a_label_becomes_an_attribute_only_where_it_is_named() -> None:
    record = made(labels={"user": "alice@example.org", "feature": "search", "team": "red"})
    for one in Measures().of(record):
        assert not {"alice@example.org", "search", "red"} & set(one.attributes)
    shown = Measures(labels=["feature", "absent"])
    requests = next(shown.of(record))
    assert named(shown, requests)["label.feature"] == "search"
    assert named(shown, requests)["label.absent"] == ""
    assert all("alice" not in text for one in shown.of(record) for text in one.attributes)
    by_user = Measures(labels=["user"])
    assert named(by_user, next(by_user.of(record)))["label.user"] == "alice@example.org"


@pytest.mark.parametrize("labels", [["a.b", "a_b"], [""], [1], ["é", "è"]])
def test_labels_that_cannot_be_told_apart_are_an_error_at_once(labels: Any) -> None:
    with pytest.raises(ValueError, match="labels"):
        Measures(labels=labels)


def test_the_same_label_twice_is_one() -> None:
    assert Measures(labels=["feature", "feature"]).labels == ("feature",)
    assert Measures(labels="feature").labels == ("feature",)


def test_every_attribute_is_bounded_and_the_sums_stay() -> None:
    shown = Measures(labels=["feature"])
    seen: dict[str, set[str]] = {}
    total = 0.0
    count = 3 * MAX_VALUES
    for number in range(count):
        record = made(
            NOT_KNOWN,
            provider=f"host-{number}.example",
            request_model=f"model-{number}",
            response_model=f"answer-{number}",
            error_type=f"Error{number}",
            labels={"feature": f"feature-{number}"},
        )
        for one in shown.of(record):
            total += one.value if one.metric is metrics.REQUESTS else 0
            for name, text in named(shown, one).items():
                seen.setdefault(name, set()).add(text)
    assert total == count
    assert max(len(found) for found in seen.values()) == MAX_VALUES + 1
    for name in ("provider", "model", "label.feature", "gen_ai.request.model", "gen_ai.response.model", "error.type"):
        assert OTHER in seen[name]


def test_combinations_are_bounded_too() -> None:
    shown = Measures(labels=["feature"])
    combinations = set()
    for number in range(MAX_SERIES * 2):
        labels = {"feature": f"feature-{number % 99}"}
        record = made(NOT_KNOWN, request_model=f"model-{number % 83}", labels=labels)
        combinations.add(next(shown.of(record)).attributes)
    assert len(combinations) <= MAX_SERIES + 1
    assert (OTHER, OTHER, OTHER, "ok", OTHER) in combinations


anything = st.text(st.characters(), max_size=300) | st.text(st.characters(categories=["Cs", "Cc", "Zl", "Cf"]), max_size=9)


@given(st.fixed_dictionaries(dict.fromkeys(("provider", "endpoint", "request_model", "error_type"), anything)), anything)
def test_attributes_are_short_and_printable_whatever_comes(texts: dict[str, str], label: str) -> None:
    shown = Measures(labels=["feature"])
    for one in shown.of(made(NOT_KNOWN, **texts, labels={"feature": label})):
        for text in one.attributes:
            assert len(text) <= MAX_VALUE_CHARS
            assert text.isprintable()
            text.encode("utf-8")


def test_estimated_output_is_no_usage_by_the_conventions() -> None:
    found = [*Measures().of(made(usage=Usage(input_tokens=5, output_tokens=7, estimated=True)))]
    assert [(one.value, one.attributes[-1]) for one in found if one.metric is metrics.TOKEN_USAGE] == [(5, "input")]
    assert [one.value for one in found if one.metric is metrics.TOKENS] == [5, 7]


def test_our_metrics_can_be_had_without_the_conventions() -> None:
    assert all(one.metric.name.startswith("ecoimpact.") for one in Measures(gen_ai=False).of(made()))


def test_the_documentation_lists_every_metric() -> None:
    documented = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text("utf-8")
    rows = re.findall(r"^\| `([\w.]+)` \| `([^`]+)` \| `(\w+)` \| (.*) \|$", documented, flags=re.MULTILINE)

    def attributes(metric: metrics.Metric) -> str:
        if metric is metrics.DROPPED:
            return "`reason`"
        base = "of the conventions" if metric in metrics.GEN_AI else "of the request"
        return ", ".join([base, *(f"`{name}`" for name in metric.attributes[4:])])

    expected = [
        (metric.name, metric.unit, metric.prometheus + ("" if metric.buckets else "_total"), attributes(metric))
        for metric in Measures().metrics
    ]
    assert rows == expected
    for number in (MAX_VALUES, MAX_SERIES, MAX_VALUE_CHARS):
        assert f" {number} " in documented.replace("\n", " ")


def test_providers_are_the_packages_own() -> None:
    from ecoimpact.data.providers import PROVIDERS

    assert set(metrics.OTEL_PROVIDERS) <= set(PROVIDERS)


class Counted(MetricExporter):
    """Keeps what it is told to add."""

    def __init__(self, drops: Callable[[], dict[str, int]]) -> None:
        super().__init__(Measures())
        self.added: Counter[tuple[str, ...]] = Counter()
        self._drops = drops
        self._seen_drops = drops()

    def _add(self, metric: metrics.Metric, value: float, attributes: tuple[str, ...]) -> None:
        if metric is metrics.DROPPED:
            self.added[attributes] += value  # type: ignore[assignment]


def test_losses_are_counted_once_each_and_from_now_on() -> None:
    lost = {"queue-full": 5}
    exporter = Counted(lambda: dict(lost))
    exporter(made())
    assert exporter.added == {}
    lost.update({"queue-full": 7, "exporter-error": 1})
    exporter(made())
    exporter(made())
    assert exporter.added == {("queue-full",): 2, ("exporter-error",): 1}
    lost.clear()  # as in a forked child
    exporter(made())
    lost["queue-full"] = 1
    exporter(made())
    assert exporter.added == {("queue-full",): 3, ("exporter-error",): 1}

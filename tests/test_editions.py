"""What holds for every methodology of requests: golden figures, and the properties of ``scope3`` and ``sci`` (those of the
editions of EcoLogits are in a file of their own).
"""

from __future__ import annotations

import doctest
import importlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import payloads
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from server import Server, as_json
from typer.testing import CliRunner

import ecoimpact
from ecoimpact import methodologies
from ecoimpact.cli.app import app
from ecoimpact.engine import assess, catalog, estimate
from ecoimpact.records.index import Index
from ecoimpact.records.queries import report
from ecoimpact.records.reader import read_records
from ecoimpact.types import CRITERIA, Figures, Impacts, Methodology, ModelParameters, SiteFactors, Usage

ROOT = Path(__file__).parents[1]
FROZEN = json.loads((Path(__file__).with_name("golden") / "editions.json").read_text("utf-8"))
EDITIONS = [name for name in methodologies.names() if name not in methodologies.ALIASES]
NEW: list[Methodology] = [
    methodologies.get("scope3"),
    methodologies.get(
        "scope3", gpu_count=8, server_idle_power_w=1200, embodied_kgco2eq_per_h=0.1, training_l_per_inference=1.0
    ),
    methodologies.get("scope3", cluster_wue_l_per_kwh=1.8, weight_bytes=2, beta_in=0),
    methodologies.get("sci"),
    methodologies.get("sci", processor_count=8, device_embodied_kgco2eq=7012, resource_share=0.125, pue=1.2),
]

sizes = st.floats(0.01, 1e5)
positive = st.floats(0, 1e4)
models = st.builds(
    lambda active, extra, bits: ModelParameters(active, active + extra, bits),
    sizes,
    st.floats(0, 1e5),
    st.one_of(st.none(), st.sampled_from([2.0, 4.0, 8.0, 16.0, 32.0])),
)
site_factors = st.builds(SiteFactors, st.floats(1, 3), positive, positive, positive, positive, positive)
usages = st.builds(Usage, st.integers(0, 10**9), st.integers(0, 10**9))
latencies = st.one_of(st.just(math.inf), st.floats(0, 1e6))


def run(edition: Methodology, model: ModelParameters, usage: Usage, latency_s: Any, site: SiteFactors) -> Figures:
    return edition.assess(edition.serve(model), usage, latency_s, site)


def known(figures: Figures) -> dict[str, Any]:
    return {name: value for name, value in figures._asdict().items() if value is not None}


@pytest.mark.parametrize("name", sorted(FROZEN))
def test_released_editions_are_frozen(name: str) -> None:
    assert len(FROZEN[name]) > 30
    for row in FROZEN[name]:
        edition = methodologies.get(name, **row.get("parameters", {}))
        usage = Usage(row.get("input_tokens"), row["output_tokens"])
        latency_s = math.inf if row["latency_s"] is None else row["latency_s"]
        figures = run(edition, ModelParameters(*row["model"]), usage, latency_s, SiteFactors(*row["site"]))
        expected = [*row["figures"], None, None, None][:11]
        assert list(figures) == [None if value is None else pytest.approx(value, rel=1e-12) for value in expected]


def test_every_edition_is_frozen_described_and_documented() -> None:
    for name in EDITIONS:
        assert name in FROZEN
        assert (ROOT / "docs" / "methodologies" / f"{name}.md").is_file()
        about = methodologies.about(name)
        assert about.includes
        assert about.leaves_out
        for words in (*about.includes, *about.leaves_out):
            assert len(words) < 80


def test_an_alias_is_described_as_what_it_stands_for() -> None:
    assert methodologies.about("ecologits") == methodologies.about("ecologits-2025-09")
    with pytest.raises(ValueError, match="did you mean 'scope3'"):
        methodologies.about("scope")


@given(st.sampled_from(NEW), models, usages, latencies, site_factors)
def test_figures_are_finite_and_not_negative(
    edition: Methodology, model: ModelParameters, usage: Usage, latency_s: float, site: SiteFactors
) -> None:
    for value in known(run(edition, model, usage, latency_s, site)).values():
        assert math.isfinite(value)
        assert value >= 0


@given(st.sampled_from(NEW), models, st.tuples(usages, latencies), site_factors, st.floats(1, 10))
@settings(max_examples=200)
def test_figures_grow_with_every_input(
    edition: Methodology, model: ModelParameters, request: tuple[Usage, float], site: SiteFactors, factor: float
) -> None:
    usage, latency_s = request
    before = known(run(edition, model, usage, latency_s, site))
    tokens_in, tokens_out = int(usage.input_tokens), int(usage.output_tokens)  # type: ignore[arg-type]
    bits = 8.0 if model.weight_bits is None else model.weight_bits
    more = [
        run(edition, model._replace(total_params_b=model.total_params_b * factor), usage, latency_s, site),
        run(edition, model._replace(active_params_b=model.active_params_b * factor), usage, latency_s, site),
        run(edition, model._replace(weight_bits=bits * factor), usage, latency_s, site),
        run(edition, model, Usage(int(tokens_in * factor), tokens_out), latency_s, site),
        run(edition, model, Usage(tokens_in, int(tokens_out * factor)), latency_s, site),
        run(edition, model, usage, latency_s * factor, site),
        *(run(edition, model, usage, latency_s, site._replace(**{f: getattr(site, f) * factor})) for f in site._fields),
    ]
    for after in more:
        # Not even by a rounding: the ends of a range are put in no order afterwards.
        assert all(known(after)[name] >= value for name, value in before.items())


@given(
    st.sampled_from(NEW),
    st.lists(st.tuples(models, usages, latencies, site_factors), min_size=1, max_size=6),
    st.booleans(),
)
@settings(max_examples=80)
def test_arrays_give_what_floats_give(
    edition: Methodology, requests: list[tuple[ModelParameters, Usage, float, SiteFactors]], knows_bits: bool
) -> None:
    def column(values: list[Any]) -> Any:
        return np.array([math.nan if value is None else value for value in values], dtype=float)

    if not knows_bits:
        requests = [(model._replace(weight_bits=None), *rest) for model, *rest in requests]  # type: ignore[misc]
    model = ModelParameters(
        column([m.active_params_b for m, *_ in requests]),
        column([m.total_params_b for m, *_ in requests]),
        column([m.weight_bits for m, *_ in requests]) if knows_bits else None,
    )
    usage = Usage(column([u.input_tokens for _, u, *_ in requests]), column([u.output_tokens for _, u, *_ in requests]))
    site = SiteFactors(*(column([getattr(r[3], field) for r in requests]) for field in SiteFactors._fields))
    together = run(edition, model, usage, column([r[2] for r in requests]), site)
    for i, (one_model, one_usage, latency_s, one_site) in enumerate(requests):
        alone = run(edition, one_model, one_usage, latency_s, one_site)
        assert known(together).keys() == known(alone).keys()
        for name, value in known(alone).items():
            array = np.broadcast_to(getattr(together, name), len(requests))
            assert array.dtype == np.float64
            assert array[i] == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("edition", NEW, ids=str)
def test_unknown_counts_in_an_array_stay_unknown(edition: Methodology) -> None:
    site = SiteFactors(1.2, 0.569, 0.3844, 9.855e-08, 9.6884, 3.1321)
    usage = Usage(np.array([10.0, 10.0]), np.array([400.0, np.nan]))
    figures = run(edition, ModelParameters(8.0, 8.0), usage, np.array([np.inf, np.inf]), site)
    assert figures.usage_energy_kwh[0] == run(edition, ModelParameters(8.0, 8.0), Usage(10, 400), math.inf, site)[0]
    for criterion in ("energy", "gwp"):
        assert np.isnan(figures.total(criterion)[1])  # type: ignore[index]


@pytest.mark.parametrize("module", ["scope3", "sci", "_arrays", "_parameters", "_price_to_size", "__init__"])
def test_the_examples_in_the_docstrings(module: str) -> None:
    name = "ecoimpact.methodologies" if module == "__init__" else f"ecoimpact.methodologies.{module}"
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0
    assert results.attempted > 0


# --- figures that a methodology does not have -----------------------------------------------------------------------------


ABSENT = {"scope3": {"adpe", "pe"}, "sci": {"adpe", "pe", "wcf"}}
PRESENT = {name: [c for c in CRITERIA if c.key not in absent] for name, absent in ABSENT.items()}


@pytest.fixture
def watched(tmp_path: Path, server: Server, client: openai.OpenAI) -> Iterator[dict[str, Any]]:
    """One request under each methodology, written to one log; the impacts on the responses."""
    server.reset(as_json(payloads.chat()))
    ask: Any = {"model": payloads.MODEL, "messages": [{"role": "user", "content": "Why?"}]}
    found = {}
    for name in ("sci", "scope3", "ecologits-2025-09"):
        ecoimpact.instrument("openai", methodology=name, log_dir=tmp_path / "log")
        found[name] = ecoimpact.impacts_of(client.chat.completions.create(**ask))
        assert ecoimpact.flush(10)
    yield found
    ecoimpact.uninstrument()


@pytest.mark.parametrize("name", ABSENT)
def test_absent_figures_are_none_in_every_view(name: str) -> None:
    impacts = estimate("gpt-4o-mini", output_tokens=400, input_tokens=100, methodology=name)
    text, html, flat = str(impacts), impacts._repr_html_(), impacts.to_dict()
    for criterion in CRITERIA:
        is_absent = criterion.key in ABSENT[name]
        assert (getattr(impacts, criterion.key) is None) == is_absent
        assert (f"\n  {criterion.key} " in text) != is_absent
        assert (criterion.name in html) != is_absent
        assert (f"{criterion.key}=" in repr(impacts)) != is_absent
        for end in ("min", "max"):
            assert (flat[f"{criterion.suffix}_{end}"] is None) == is_absent
            assert (flat[f"usage_{criterion.suffix}_{end}"] is None) == is_absent
    assert json.loads(json.dumps(flat, allow_nan=False)) == flat
    assert ("embodied_wcf_l_min" in flat) == (name == "scope3")
    assert impacts.embodied is not None
    assert impacts.embodied.adpe is None


def test_training_shares_are_in_the_plain_data() -> None:
    edition = methodologies.get("scope3", training_kgco2eq_per_inference=2e-6)
    flat = estimate("gpt-4o-mini", output_tokens=4, methodology=edition).to_dict()
    assert flat["training_gwp_kgco2eq_min"] == flat["training_gwp_kgco2eq_max"] == 2e-6
    assert "training_wcf_l_min" not in flat


def test_records_of_every_methodology_are_written_and_read(watched: dict[str, Any], tmp_path: Path) -> None:
    records = {record["methodology"]: record for record in read_records(tmp_path / "log")}
    assert set(records) == set(watched)
    for name, impacts in watched.items():
        record = records[name]
        assert record["errors"] == []
        assert record["warnings"] == [warning.code for warning in impacts.warnings]
        for criterion in CRITERIA:
            figure = getattr(impacts, criterion.key)
            assert record[f"{criterion.suffix}_min"] == (None if figure is None else figure.min)
            assert record[f"{criterion.suffix}_max"] == (None if figure is None else figure.max)
    assert "latency-modelled" not in records["sci"]["warnings"]
    assert "training-not-included" in records["scope3"]["warnings"]
    assert "input-tokens-unknown" not in records["scope3"]["warnings"]


def test_reports_add_up_what_is_known(watched: dict[str, Any], tmp_path: Path) -> None:
    with Index(tmp_path / "log") as index:
        index.refresh()
        found = report(index, by="methodology")
    groups = {group.key: group.totals for group in found.groups}
    assert set(groups) == set(watched)
    for name, impacts in watched.items():
        assert groups[name].unestimated == 0
        for criterion in CRITERIA:
            total, figure = getattr(groups[name], criterion.key), getattr(impacts, criterion.key)
            assert (total is None) == (figure is None)
            if figure is not None:
                assert (total.min, total.max) == pytest.approx((figure.min, figure.max))
    assert found.total.pe is not None
    assert found.total.pe.max == pytest.approx(watched["ecologits-2025-09"].pe.max)
    assert found.total.requests == 3


@pytest.mark.parametrize(
    "arguments", ["--format table", "--format json", "--format csv", "--format html --out report.html"]
)
def test_the_commands_show_what_is_known(
    watched: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["report", "--log", "log", "--by", "methodology", *arguments.split()])
    assert done.exit_code == 0, done.output
    shown = (tmp_path / "report.html").read_text("utf-8") if "html" in arguments else done.stdout
    for name in watched:
        assert name in shown
    if "json" in arguments:
        groups = {group["key"]: group for group in json.loads(shown)["groups"]}
        assert groups["sci"]["wcf_l_max"] is None
        assert groups["scope3"]["wcf_l_max"] > 0
    exported = CliRunner().invoke(app, ["export", "--log", "log", "--format", "csv", "--out", "out.csv"])
    assert exported.exit_code == 0, exported.output


@pytest.mark.parametrize("name", ABSENT)
def test_the_estimate_command_shows_what_is_known(name: str) -> None:
    ask = ["estimate", "gpt-4o-mini", "--output-tokens", "400", "--methodology", name, "--explain"]
    done = CliRunner().invoke(app, ask)
    assert done.exit_code == 0, done.output
    for criterion in CRITERIA:
        assert (f"\n{criterion.key} " in done.stdout) == (criterion in PRESENT[name])


# --- whatever comes from outside -----------------------------------------------------------------------------------------

junk = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**12), st.floats(), st.text(max_size=5), st.just(10**400), st.just([1])
)


@given(
    edition=st.sampled_from(NEW),
    model=st.sampled_from(["gpt-4o", "mixtral-8x7b", "grok-4.7", "llama3.1:8b-instruct-q4_K_M", "nobody", ""]),
    usage=st.one_of(junk, st.builds(Usage, junk, junk, estimated=st.booleans(), generates=st.booleans())),
    latency_s=junk,
)
@settings(max_examples=300)
def test_nothing_from_outside_raises(edition: Methodology, model: str, usage: Any, latency_s: Any) -> None:
    told = assess(catalog(), provider=None, models=(model,), usage=usage, latency_s=latency_s, methodology=edition)
    if told.low is None or told.high is None:
        assert told.errors or "request-not-covered" in {warning.code for warning in told.warnings}
        return
    for low, high in zip(told.low, told.high, strict=True):
        assert (low is None) == (high is None)
        assert low is None or 0 <= low <= high < math.inf
    impacts = Impacts(told)
    assert len(impacts.explain()) > 10
    assert str(impacts)
    assert impacts._repr_html_()

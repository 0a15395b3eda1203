"""``compare``: all methodologies side by side, as data, text, picture and command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import ecoimpact
from ecoimpact import data, engine, methodologies
from ecoimpact.cli.app import app
from ecoimpact.comparison import BAND_WH, PUBLISHED, Comparison, compare
from ecoimpact.comparison_picture import Scale
from ecoimpact.types import Figures, Impacts, Range

EDITIONS = [name for name in methodologies.names() if name not in methodologies.ALIASES]
SVG = "{http://www.w3.org/2000/svg}"
Invoke = Callable[..., Any]


def ordinary() -> Comparison:
    return ecoimpact.compare("gpt-4o-mini", output_tokens=400, input_tokens=200, provider="openai", latency_s=6.0)


# --- the mapping --------------------------------------------------------------------------------------------------------


def test_every_edition_once_and_no_alias() -> None:
    found = ordinary()
    assert isinstance(found, Mapping)
    assert list(found) == EDITIONS
    assert len(found) == len(EDITIONS)
    assert {"ecologits-2025-09", "ecologits-0.11", "scope3", "sci"} <= set(found)
    for name, impacts in found.items():
        assert isinstance(impacts, Impacts)
        assert impacts.methodology == name
        assert impacts == engine.estimate(
            "gpt-4o-mini", output_tokens=400, input_tokens=200, provider="openai", latency_s=6.0, methodology=name
        )
    assert found["ecologits"] is found["ecologits-2025-09"]
    assert found.about("ecologits") == methodologies.about("ecologits-2025-09")
    with pytest.raises(KeyError):
        found["nobody"]


def test_only_those_that_are_named() -> None:
    scope3 = methodologies.get("scope3", pue=1.2)
    found = compare("gpt-4o", output_tokens=9, methodology=["ecologits", scope3, "scope3"])
    assert list(found) == ["ecologits-2025-09", "scope3[pue=1.2]", "scope3"]
    assert found.about("scope3[pue=1.2]") == found.about("scope3")
    assert list(compare("gpt-4o", output_tokens=9, methodology="sci")) == ["sci"]
    with pytest.raises(ValueError, match="did you mean 'scope3'"):
        compare("gpt-4o", output_tokens=9, methodology=["scope"])


def test_a_methodology_of_the_program_says_nothing_of_itself() -> None:
    class Flat:
        name = "flat"
        site_table = "ecologits-2025-09"

        def serve(self, model: Any) -> Any:
            return model

        def assess(self, serving: Any, usage: Any, latency_s: Any, site: Any) -> Any:
            return Figures(1e-4, 1e-4 * site.gwp, None, None, None, None, None, None)

        def steps(self, model: Any, usage: Any, latency_s: Any, site: Any) -> Any:
            return ()

    class Odd(Flat):
        name = "odd"

        def notices(self, usage: Any, latency_s: Any) -> tuple[str, ...]:
            return ("odd-code",)

    methodology: Any = [Flat(), Odd()]
    found = compare("gpt-4o", output_tokens=9, methodology=methodology)
    assert found.about("flat") == methodologies.About()
    assert [warning.code for warning in found["odd"].warnings][-1] == "odd-code"
    assert "flat, odd" in str(found)


def test_zone_and_provider_hold_for_all() -> None:
    found = compare("gpt-4o", output_tokens=9, zone="FRA", provider="azure_openai")
    assert {impacts.zone for impacts in found.values()} == {"FRA"}
    assert "zone FRA" in found.heading


def test_an_unknown_model_has_errors_under_every_methodology() -> None:
    found = compare("gpt-99-omega", output_tokens=400)
    for impacts in found.values():
        assert [error.code for error in impacts.errors] == ["model-not-registered"]
    assert set(found.energies_wh().values()) == {None}
    assert str(found).count("no estimate") == len(found)
    assert found.picture().count("no estimate") >= len(found)
    assert json.loads(json.dumps(found.to_dict()))["methodologies"]["sci"]["energy_kwh_min"] is None


# --- what is published --------------------------------------------------------------------------------------------------


def test_the_band_holds_what_is_published_each_with_its_source() -> None:
    assert (BAND_WH.min, BAND_WH.max) == (0.03, 1.0)
    for published in PUBLISHED:
        assert BAND_WH.min <= published.energy_wh.min <= published.energy_wh.max <= BAND_WH.max
        assert re.search(r"arXiv:\d{4}\.\d{5}|https://", published.source)
    assert {0.24, 0.34, 0.42, 0.031} == {published.energy_wh.min for published in PUBLISHED}


def test_what_lies_outside_the_band_is_named() -> None:
    named = compare("gpt-4o-mini", output_tokens=400, input_tokens=200, methodology=["ecologits", "sci", "scope3"])
    assert named.beside_the_band == (
        "Published for an ordinary answer: 0.03 to 1 Wh; all below it: scope3; all above it: sci"
    )
    within = compare("gpt-4o-mini", output_tokens=400, methodology="ecologits")
    assert within.beside_the_band == "Published for an ordinary answer: 0.03 to 1 Wh"
    assert compare("gpt-99-omega", output_tokens=400).beside_the_band == within.beside_the_band


def test_plain_data() -> None:
    flat = json.loads(json.dumps(ordinary().to_dict(), allow_nan=False))
    assert (flat["model"], flat["output_tokens"], flat["input_tokens"], flat["latency_s"]) == ("gpt-4o-mini", 400, 200, 6.0)
    assert list(flat["methodologies"]) == EDITIONS
    for entry in flat["methodologies"].values():
        assert entry["includes"]
        assert entry["leaves_out"]
        assert entry["energy_kwh_min"] > 0
    assert len(flat["published"]) == len(PUBLISHED)


# --- text ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["gpt-4o-mini", "mistral-large-latest", "an-unknown-model-" + "x" * 200, "a b" * 60])
def test_text_fits_80_columns(model: str) -> None:
    long_name = methodologies.get("scope3", gpu_count=8, peak_flop_per_s=1.58e16, memory_bandwidth_byte_per_s=26.8e12)
    for found in (compare(model, output_tokens=400), compare(model, output_tokens=400, methodology=[long_name])):
        lines = str(found).splitlines()
        assert max(map(len, lines)) <= 80
        assert not any(line != line.rstrip() for line in lines)


def test_the_table_has_the_figures() -> None:
    found = ordinary()
    text = str(found)
    for name, impacts in found.items():
        row = next(line for line in text.splitlines() if line.startswith(f"{name} "))
        numbers = [float(cell) for cell in row.removeprefix(name).split()]
        assert impacts.energy is not None
        assert impacts.gwp is not None
        expected = [value * 1e3 for value in (impacts.energy.central, impacts.energy.min, impacts.energy.max)]
        expected.append(impacts.gwp.central * 1e3)
        expected += [impacts.wcf.central * 1e3] if impacts.wcf is not None else []
        assert numbers == pytest.approx(expected, rel=6e-3)
    for word in (*found.about("sci").leaves_out, "arXiv:2508.15734"):
        assert word in text
    assert "0.031 to 0.313 Wh" in text


# --- pictures -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)).map(sorted), max_size=6), st.floats(0, 1e12))
@settings(max_examples=200)
def test_a_scale_holds_everything_in_order(pairs: list[list[float]], value: float) -> None:
    scale = Scale([BAND_WH, *(Range(*pair) for pair in pairs)])
    assert scale.high > scale.low
    for low, high in pairs:
        assert 0 <= scale.place(low) <= scale.place(high) <= 1
        if low > 0:
            assert 10.0**scale.low <= low * (1 + 1e-9)
            assert high <= 10.0**scale.high * (1 + 1e-9)
    assert scale.place(0) == 0
    assert 0 <= scale.place(value) <= 1


def test_the_picture_has_a_bar_for_every_methodology() -> None:
    found = ordinary()
    root = ET.fromstring(found.picture())  # noqa: S314 - of our own making
    assert root.tag == f"{SVG}svg"
    titles = [title.text for title in root.iter(f"{SVG}title")]
    assert [str(title).partition(":")[0] for title in titles] == list(found)
    bars = [(float(g[1].attrib["x"]), float(g[1].attrib["width"])) for g in root.iter(f"{SVG}g")]
    dots = [float(g[2].attrib["cx"]) for g in root.iter(f"{SVG}g")]
    energies = [energy.central for energy in found.energies_wh().values() if energy is not None]
    assert sorted(range(len(dots)), key=dots.__getitem__) == sorted(range(len(dots)), key=energies.__getitem__)
    for (x, width), dot in zip(bars, dots, strict=True):
        assert x - 0.1 <= dot <= x + width + 0.1
    assert "prefers-color-scheme:dark" in found.picture()
    assert {"script", "image", "foreignObject"}.isdisjoint(element.tag.removeprefix(SVG) for element in root.iter())


def test_a_notebook_gets_picture_table_and_lists() -> None:
    page = ordinary()._repr_html_()
    assert "prefers-color-scheme" not in page  # the notebook says what is dark
    assert "currentColor" in page
    assert page.count("<svg") == page.count("<table") == 1
    assert "leaves out reading the input tokens" in page


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)


@pytest.mark.parametrize(
    "model", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a\x1b[31m\x00\ud800b", "&<>'\""]
)
def test_names_are_hostile_text(model: str) -> None:
    found = compare(model, output_tokens=4)
    tags = _Tags()
    tags.feed(found._repr_html_())
    tags.feed(found.picture())
    assert not tags.seen & {"script", "img"}
    ET.fromstring(found.picture().encode())  # noqa: S314
    assert "\x1b" not in found.heading


# --- the command --------------------------------------------------------------------------------------------------------


@pytest.fixture(name="invoke")
def _invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, ["compare", *map(str, arguments)])


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_the_command_fits_the_terminal(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    done = invoke("gpt-4o-mini", "--output-tokens", 400, "--input-tokens", 200, "--zone", "fra", "--latency", 6)
    assert done.exit_code == 0
    assert max(len(line.rstrip()) for line in done.stdout.splitlines()) <= int(columns)
    for name in EDITIONS:
        assert name in done.stdout
    if columns != "40":
        assert "zone FRA" in done.stdout
        assert "Google 2025" in done.stdout
        drawn = [line for line in done.stdout.splitlines() if "●" in line]
        assert [line.split()[0] for line in drawn] == EDITIONS
        energies = compare("gpt-4o-mini", output_tokens=400, input_tokens=200, zone="FRA", latency_s=6.0).energies_wh()
        places = {line.split()[0]: line.index("●") for line in drawn}
        centres = {name: energy.central for name, energy in energies.items() if energy is not None}
        assert sorted(places, key=places.__getitem__) == sorted(centres, key=lambda name: (centres[name], name))


def test_json_is_the_plain_data(invoke: Invoke) -> None:
    done = invoke("gpt-4o-mini", "--output-tokens", 400, "--format", "json")
    assert json.loads(done.stdout) == json.loads(json.dumps(compare("gpt-4o-mini", output_tokens=400).to_dict()))


def test_the_picture_goes_into_a_file(invoke: Invoke, tmp_path: Path) -> None:
    done = invoke("gpt-4o-mini", "--output-tokens", 400, "--picture", "energy.svg", "--format", "json")
    assert done.exit_code == 0
    json.loads(done.stdout)
    assert (tmp_path / "energy.svg").read_text("utf-8") == compare("gpt-4o-mini", output_tokens=400).picture()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gpt-4o-mini",), "--output-tokens"),
        (("gpt-4o-maxi", "--output-tokens", "4"), "gpt-4o-mini"),
        (("gpt-4o", "--output-tokens", "4", "--zone", "Frence"), "FRA"),
        (("gpt-4o", "--output-tokens", "4", "--provider", "opena"), "openai"),
        (("gpt-4o", "--output-tokens", "-4"), "--output-tokens"),
        (("gpt-4o", "--output-tokens", "4", "--format", "yaml"), "json"),
        (("gpt-4o", "--output-tokens", "4", "--picture", "no/such/place.svg"), "place.svg"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_right(invoke: Invoke, arguments: tuple[str, ...], message: str) -> None:
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_as_a_process() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "80"}
    command = [sys.executable, "-W", "error", "-m", "ecoimpact.cli", "compare", "gpt-4o-mini", "--output-tokens", "400"]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "Wh, logarithmic" in done.stdout.decode()


def test_nothing_heavy_is_imported() -> None:
    code = """
import sys, ecoimpact
found = ecoimpact.compare("gpt-4o-mini", output_tokens=400)
str(found), found._repr_html_(), found.picture()
heavy = {"numpy", "pydantic", "openai", "genai_prices", "rich", "typer"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-I", "-c", code], check=True)


def test_every_published_code_has_its_words() -> None:
    for code in ("input-tokens-unknown", "training-not-included", "latency-modelled"):
        assert data.notice(code).message.endswith(".")

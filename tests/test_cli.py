"""The commands, as people and scripts use them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import ecoimpact
from ecoimpact import cli, data, engine
from ecoimpact.cli import doctor
from ecoimpact.cli.app import app
from ecoimpact.cli.quantities import unit_for
from ecoimpact.types import Range

Invoke = Callable[..., Any]


@pytest.fixture(name="invoke")
def _invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("ECOIMPACT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "80")
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(argument) for argument in arguments])


def fits(text: str, width: int = 80) -> bool:
    return all(len(line.rstrip()) <= width for line in text.splitlines())


def test_version_and_help(invoke: Invoke) -> None:
    assert invoke("--version").stdout == f"ecoimpact {ecoimpact.__version__}\n"
    shown = invoke("--help")
    assert shown.exit_code == 0
    for name in ("demo", "doctor", "estimate", "models", "zones"):
        assert name in shown.stdout
        assert invoke(name, "--help").exit_code == 0


def test_without_its_libraries_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 2
    assert capsys.readouterr().err == 'the ecoimpact command needs typer and rich: pip install "ecoimpact[cli]"\n'


def test_the_module_runs_as_well() -> None:
    command = [sys.executable, "-W", "error", "-m", "ecoimpact.cli", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("ecoimpact ")


# --- estimate -----------------------------------------------------------------------------------------------------------


def test_estimate_prints_what_the_function_computes(invoke: Invoke) -> None:
    result = invoke(
        "estimate",
        "gpt-4o-mini",
        "--output-tokens",
        400,
        "--zone",
        "fra",
        "--latency-s",
        3.5,
        "--input-tokens",
        9,
        "--json",
    )
    assert result.exit_code == 0, result.output
    expected = ecoimpact.estimate("gpt-4o-mini", output_tokens=400, input_tokens=9, latency_s=3.5, zone="FRA")
    assert json.loads(result.stdout) == json.loads(json.dumps(expected.to_dict()))


def test_estimate_is_readable_and_fits_a_terminal(invoke: Invoke) -> None:
    result = invoke("estimate", "gpt-4o-mini", "--provider", "OpenAI", "--output-tokens", 400)
    assert result.exit_code == 0, result.output
    assert fits(result.stdout)
    energy = ecoimpact.estimate("gpt-4o-mini", output_tokens=400, provider="openai").energy
    assert energy is not None
    unit = unit_for("energy", energy.central)
    assert f"{unit.symbol}  " in result.stdout
    assert unit.span(energy.value) in result.stdout
    for word in ("gwp", "adpe", "pe", "wcf", "zone USA", "ecologits-2025-09", "[model-arch-not-released]"):
        assert word in result.stdout


def test_estimate_explains_itself(invoke: Invoke) -> None:
    shown = invoke("estimate", "gpt-4o-mini", "--output-tokens", 400, "--explain")
    plain = invoke("estimate", "gpt-4o-mini", "--output-tokens", 400, "--explain", "--json")
    steps = list(ecoimpact.estimate("gpt-4o-mini", output_tokens=400).explain())
    assert len(steps) > 5

    def no_constants(name: str) -> Any:
        raise AssertionError(f"{name} is no JSON")

    parsed = json.loads(plain.stdout, parse_constant=no_constants)
    assert [step["symbol"] for step in parsed["steps"]] == [step.symbol for step in steps]
    assert all(f". {step.symbol} = " in shown.stdout for step in steps)


def test_editions_give_their_own_figures(invoke: Invoke) -> None:
    for name in ("ecologits", "ecologits-0.11"):
        result = invoke("estimate", "gpt-4o", "--output-tokens", 100, "--methodology", name, "--json")
        expected = ecoimpact.estimate("gpt-4o", output_tokens=100, methodology=name)
        assert json.loads(result.stdout) == json.loads(json.dumps(expected.to_dict()))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["gpt-4o-mni", "--output-tokens", "4"], "no model 'gpt-4o-mni'. Near: gpt-4o-mini"),
        (["zzzzzzzz", "--output-tokens", "4"], "All of them: ecoimpact models"),
        (["gpt-4o", "--output-tokens", "4", "--zone", "FRX"], "FRA (France)"),
        (["gpt-4o", "--output-tokens", "4", "--provider", "opnai"], "no provider 'opnai'. Near: openai"),
        (["gpt-4o", "--output-tokens", "4", "--provider", "???"], "Known: anthropic, "),
        (["gpt-4o", "--output-tokens", "4", "--methodology", "ecologit"], "'ecologits'"),
        (["gpt-4o", "--output-tokens", "-4"], "--output-tokens"),
        (["gpt-4o", "--output-tokens", "many"], "--output-tokens"),
        (["gpt-4o", "--output-tokens", "9" * 30], "not a plausible number"),
        (["gpt-4o", "--output-tokens", "4", "--latency-s", "-1"], "--latency-s"),
        (["gpt-4o"], "--output-tokens"),
        (["--output-tokens", "4"], "Missing argument"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_right(invoke: Invoke, arguments: list[str], says: str) -> None:
    result = invoke("estimate", *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stdout == ""


# --- models, zones ------------------------------------------------------------------------------------------------------


def test_models_lists_and_filters(invoke: Invoke) -> None:
    everything = json.loads(invoke("models", "--json").stdout)
    assert len(everything) == len(engine.models())
    found = invoke("models", "--provider", "anthropic", "--search", "HAIKU")
    assert found.exit_code == 0
    names = [card.name for card in engine.models("anthropic") if "haiku" in card.name]
    assert names
    assert all(name in found.stdout for name in names)
    assert "gpt" not in found.stdout
    assert found.stderr == f"{len(names)} models; sizes in billions of parameters\n"


def test_lists_keep_one_line_a_row_in_a_pipe(invoke: Invoke) -> None:
    rows = invoke("models").stdout.splitlines()
    assert len(rows) == len(engine.models()) + 2  # and the head with its rule


def test_nothing_found_is_said(invoke: Invoke) -> None:
    for command in ("models", "zones"):
        result = invoke(command, "--search", "no such thing")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr.startswith(f"0 {command}")
        assert json.loads(invoke(command, "--search", "no such thing", "--json").stdout) == []


def test_models_of_an_unknown_provider(invoke: Invoke) -> None:
    result = invoke("models", "--provider", "antropic")
    assert result.exit_code == 2
    assert "Near: anthropic" in result.stderr


def test_zones_lists_and_filters(invoke: Invoke) -> None:
    zones = json.loads(invoke("zones", "--json").stdout)
    assert {zone["zone"] for zone in zones} == set(data.zone_codes())
    france = next(zone for zone in zones if zone["zone"] == "FRA")
    mix = data.mix("FRA")
    assert mix is not None
    assert france["gwp_kgco2eq_per_kwh"] == mix.gwp.mean
    found = invoke("zones", "--search", "france")
    assert found.stdout.count("\n") == 3
    assert fits(found.stdout)


# --- doctor -------------------------------------------------------------------------------------------------------------


def test_doctor_reports_what_is_there(invoke: Invoke) -> None:
    result = invoke("doctor", "--json")
    report = json.loads(result.stdout)
    assert report["ecoimpact"] == ecoimpact.__version__
    assert report["data"]["version"] == data.DATA_VERSION
    assert {table["name"] for table in report["data"]["tables"]} >= {"models", "zones"}
    for name in ("openai", "anthropic"):
        assert report["sdks"][name]["in_range"] is True
        assert report["sdks"][name]["wrapped"]
    assert report["log"]["writable"] is True
    assert (result.exit_code == 1) is bool(report["problems"])
    readable = invoke("doctor")
    assert "openai" in readable.stdout
    assert fits(readable.stdout)


def test_doctor_leaves_nothing_behind(invoke: Invoke) -> None:
    import openai

    before = openai.resources.chat.completions.Completions.create
    invoke("doctor")
    assert openai.resources.chat.completions.Completions.create is before
    assert list(Path.cwd().iterdir()) == []


def test_doctor_names_settings_and_what_is_wrong_with_them(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("pyproject.toml").write_text('[tool.ecoimpact]\nzone = "FRA"\nlabels = {app = "chat"}\n')
    monkeypatch.setenv("ECOIMPACT_LOG", "elsewhere")
    report = json.loads(invoke("doctor", "--json").stdout)
    assert report["settings"]["values"] == {"zone": "FRA", "labels": {"app": "chat"}, "log_dir": "elsewhere"}
    assert report["settings"]["environment"] == {"ECOIMPACT_LOG": "elsewhere"}
    assert report["log"]["path"].endswith("elsewhere")
    Path("pyproject.toml").write_text('[tool.ecoimpact]\nzoen = "FRA"\n')
    result = invoke("doctor", "--json")
    assert result.exit_code == 1
    problems = json.loads(result.stdout)["problems"]
    assert any("zoen" in problem and "zone" in problem for problem in problems)


def test_doctor_sees_a_log_that_cannot_be_written(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").touch()
    monkeypatch.setenv("ECOIMPACT_LOG", "file/log")
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "cannot be written" in " ".join(result.stdout.split())


def test_doctor_sees_an_sdk_outside_its_range(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    version = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "99.0" if name == "openai" else version(name))
    problems = json.loads(invoke("doctor", "--json").stdout)["problems"]
    assert any(problem.startswith("openai 99.0 is outside") for problem in problems)


@pytest.mark.parametrize(
    ("version", "inside"),
    [
        ("1.66", True),
        ("1.66.0", True),
        ("1.65.9", False),
        ("3.99.1", True),
        ("4", False),
        ("4.0.0rc1", False),
        ("x", False),
    ],
)
def test_ranges_of_versions(version: str, inside: bool) -> None:
    assert doctor.in_range(version, ">=1.66,<4") is inside


# --- quantities ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 Wh"),
        (1e-3, "1.00 Wh"),
        (0.9996e-3, "1.00 Wh"),
        (0.9994e-3, "999 mWh"),
        (1.0, "1.00 kWh"),
        (123.4, "123 kWh"),
        (5e6, "5.00 GWh"),
        (5e9, "5,000 GWh"),
        (1e-18, "1.00 fWh"),
        (1e-22, "1.0e-04 fWh"),
    ],
)
def test_units_fit_the_magnitude(value: float, text: str) -> None:
    assert unit_for("energy", value).text(value) == text


def test_both_ends_are_in_the_unit_of_the_middle() -> None:
    assert unit_for("gwp", 1e-3).span(Range(4e-4, 2.5e-3, 1e-3)) == "1.00 (0.40 to 2.50)"
    assert unit_for("gwp", 1e-3).span(Range(1e-7, 1e-3, 5e-4)) == "0.50 (1.0e-04 to 1.00)"
    assert unit_for("gwp", 1e-3).span(Range(1e-3, 1e-3)) == "1.00"

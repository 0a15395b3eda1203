"""Regions of clouds: they stand wherever a zone does, and bring what the cloud publishes of them."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from payloads import chat
from server import Server, as_json

import ecoimpact
from ecoimpact import data, engine, methodologies
from ecoimpact.types import Record, Usage

HAIKU = "anthropic.claude-haiku-4-5-20251001-v1:0"


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_current", engine.Catalog({}, {}))


def codes(notices: Any) -> list[str]:
    return [notice.code for notice in notices]


def steps(impacts: ecoimpact.Impacts) -> dict[str, float]:
    return {step.symbol: step.value.mean for step in impacts.explain()}


# --- the table ----------------------------------------------------------------------------------------------------------


def test_every_region_lies_in_a_zone_and_is_plausible() -> None:
    for region in data.regions():
        cloud, _, name = region.code.partition(":")
        assert cloud in data.CLOUDS
        assert name
        assert name == name.lower()
        assert region.place
        assert data.mix(region.zone) is not None
        assert region.pue is None or 1 <= region.pue.min <= region.pue.max < 2
        assert region.wue_l_per_kwh is None or 0 <= region.wue_l_per_kwh.min <= region.wue_l_per_kwh.max < 4
        assert bool(region.year) == (region.pue is not None or region.wue_l_per_kwh is not None)
        assert all(key in data.sources() for key in region.source.split())


@pytest.mark.parametrize(
    ("code", "zone", "pue", "wue_l_per_kwh"),
    [
        # AWS, sustainability fact sheets of 2025.
        ("aws:us-east-1", "US-VA", 1.15, 0.06),
        ("aws:eu-central-1", "DEU", 1.24, 0.17),
        ("aws:ap-southeast-3", "IDN", 1.29, 2.85),
        ("aws:eu-west-3", "FRA", 1.35, None),
        ("aws:eu-north-1", "SE-SE3", 1.09, 0.02),
        ("aws:ca-central-1", "CA-QC", 1.19, 0.06),
        ("aws:ap-northeast-2", "KOR", None, None),
        # Microsoft, July 2024 to June 2025: by location where the page has it, else by part of the world.
        ("azure:swedencentral", "SE-SE3", 1.16, 0.03),
        ("azure:westus", "US-CA", 1.16, 0.34),
        ("azure:westus3", "US-AZ", 1.13, 0.34),
        ("azure:japaneast", "JPN", 1.28, 0.25),
        ("azure:chinanorth3", "CN-HE", None, None),
        # Google, environmental report of 2026.
        ("gcp:europe-west9", "FRA", None, None),
        ("gcp:us-east5", "US-OH", 1.06, None),
        ("gcp:northamerica-northeast1", "CA-QC", None, None),
        ("ovh:ca-east-bhs", "CA-QC", None, None),
        ("scaleway:pl-waw", "POL", None, None),
    ],
)
def test_regions_as_they_are_published(code: str, zone: str, pue: float | None, wue_l_per_kwh: float | None) -> None:
    region = data.region(code)
    assert region is not None
    assert region.zone == zone
    assert (region.pue and region.pue.mean, region.wue_l_per_kwh and region.wue_l_per_kwh.mean) == (pue, wue_l_per_kwh)


# --- as a zone ----------------------------------------------------------------------------------------------------------


def test_a_region_brings_its_electricity_overhead_and_water() -> None:
    impacts = engine.estimate(HAIKU, output_tokens=400, provider="bedrock", zone="aws:eu-central-1")
    assert not impacts.errors
    assert impacts.zone == "DEU"
    found, mix = steps(impacts), data.mix("DEU")
    assert mix is not None
    assert (found["pue"], found["wue_l_per_kwh"]) == (1.24, 0.17)
    assert found["grid_gwp_kgco2eq_per_kwh"] == mix.gwp.mean
    assert any("fact sheets" in step.source for step in impacts.explain() if step.symbol == "pue")


def test_what_a_region_does_not_publish_is_the_providers() -> None:
    paris = engine.estimate(HAIKU, output_tokens=400, provider="bedrock", zone="aws:eu-west-3")
    france = engine.estimate(HAIKU, output_tokens=400, provider="bedrock", zone="FRA")
    assert steps(paris)["pue"] == 1.35
    assert steps(paris)["wue_l_per_kwh"] == steps(france)["wue_l_per_kwh"]
    seoul = engine.estimate(HAIKU, output_tokens=400, provider="bedrock", zone="aws:ap-northeast-2")
    assert seoul.to_dict() == engine.estimate(HAIKU, output_tokens=400, provider="bedrock", zone="KOR").to_dict()


@pytest.mark.parametrize("provider", ["vertex", "google_genai", "azure_openai", "groq", "scaleway"])
def test_a_region_of_another_cloud_is_only_a_zone(provider: str) -> None:
    """That a provider runs in somebody else's data centre is not for us to say; where its electricity is from, is."""
    for model in ("gemini-2.5-flash", "gpt-4o-mini", "openai/gpt-oss-120b"):
        at_aws = engine.estimate(model, output_tokens=400, provider=provider, zone="aws:eu-central-1")
        in_germany = engine.estimate(model, output_tokens=400, provider=provider, zone="DEU")
        assert not at_aws.errors
        assert at_aws.to_dict() == in_germany.to_dict()


def test_a_provider_on_two_clouds_takes_the_region_of_either() -> None:
    for zone, pue in (("aws:us-west-2", 1.12), ("gcp:us-west1", 1.10)):
        impacts = engine.estimate("claude-haiku-4-5", output_tokens=400, provider="anthropic", zone=zone)
        assert (impacts.zone, steps(impacts)["pue"]) == ("US-OR", pue)


def test_where_nobody_knows_the_provider_the_region_says_where_it_runs() -> None:
    known = engine.estimate("openai/gpt-oss-120b", output_tokens=400, provider="vllm", zone="aws:eu-central-1")
    assert steps(known)["pue"] == 1.24
    assert "site-world" not in codes(known.warnings)
    half = engine.estimate("openai/gpt-oss-120b", output_tokens=400, provider="vllm", zone="aws:eu-west-3")
    assert steps(half)["pue"] == 1.35
    assert "site-world" in codes(half.warnings)  # the water is still typical


def test_a_registered_site_keeps_its_overhead() -> None:
    engine.register_site("bedrock", zone="aws:eu-north-1", pue=1.5, wue_l_per_kwh=0.9)
    registered = engine.estimate(HAIKU, output_tokens=400, provider="bedrock")
    assert (registered.zone, steps(registered)["pue"]) == ("SE-SE3", 1.5)
    moved = engine.estimate(HAIKU, output_tokens=400, provider="bedrock", zone="aws:eu-central-1")
    assert (moved.zone, steps(moved)["pue"], steps(moved)["wue_l_per_kwh"]) == ("DEU", 1.5, 0.9)


def test_a_batch_takes_regions_row_by_row() -> None:
    zones = ["aws:eu-central-1", " AWS:EU-Central-1 ", "DEU", "azure:swedencentral", "aws:nowhere", None]
    columns = {"model": [HAIKU] * 6, "provider": ["bedrock"] * 6, "output_tokens": [400] * 6, "zone": zones}
    figures = ecoimpact.estimate_batch(columns, zone="aws:us-east-1")
    for row, zone in enumerate(zones):
        one = engine.estimate(HAIKU, output_tokens=400, provider="bedrock", zone=zone or "aws:us-east-1")
        assert list(figures["errors"][row]) == codes(one.errors)
        if one.gwp is not None:
            assert figures["gwp_kgco2eq_max"][row] == pytest.approx(one.gwp.max, rel=1e-12)
            assert list(figures["warnings"][row]) == codes(one.warnings)


def test_a_watched_call_takes_the_region_of_the_settings(server: Server) -> None:
    server.reset(as_json(chat()))
    records: list[Record] = []
    ecoimpact.instrument("openai", zone="AWS:eu-central-1", exporters=[records.append])
    try:
        with openai.OpenAI(api_key="test", base_url=server.url, max_retries=0) as client:
            client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "?"}])
        assert ecoimpact.flush(10)
    finally:
        ecoimpact.uninstrument()
    assert [record.assessment.zone for record in records] == ["DEU"]


# --- unknown regions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "near"),
    [
        ("aws:eu-wst-3", "aws:eu-west-3 (Europe (Paris))"),
        ("eu-west-3", "aws:eu-west-3"),
        ("azure:eu-west-3", "aws:eu-west-3"),
        ("azure:sweden-central", "azure:swedencentral"),
        ("gpc:europe-west9", "gcp:europe-west9"),
        ("SE3", "SE-SE3"),
        ("QC", "CA-QC"),
        ("quebec", "CA-QC (Quebec)"),
    ],
)
def test_an_unknown_region_is_an_error_of_configuration_with_near_ones(zone: str, near: str) -> None:
    with pytest.raises(ValueError, match="unknown zone") as raised:
        engine.validate_zone(zone)
    assert near in str(raised.value).partition("near:")[2]
    with pytest.raises(ValueError, match="unknown zone"):
        ecoimpact.instrument(zone=zone)
    with pytest.raises(ValueError, match="unknown zone"):
        ecoimpact.register_site("groq", zone=zone, pue=1.1, wue_l_per_kwh=0)


@pytest.mark.parametrize("zone", ["aws:nowhere", "aws:", ":", "aws", "eu-west-3"])
def test_an_unknown_region_in_data_is_an_error_of_the_result(zone: str) -> None:
    impacts = engine.estimate(HAIKU, output_tokens=400, provider="bedrock", zone=zone)
    assert impacts.energy is None
    assert codes(impacts.errors) == ["zone-not-registered"]


@given(st.text(max_size=60))
def test_any_text_may_be_a_zone_or_a_host(text: str) -> None:
    grid, region = data.electricity(text)
    assert (region is None) or (grid is not None and grid.zone == region.zone)
    assert data.region_of_host(text) is None or ":" not in text
    if grid is not None:
        assert engine.validate_zone(text) == (region.code if region is not None else grid.zone)
    else:
        with pytest.raises(ValueError, match="near:"):
            engine.validate_zone(text)


# --- the endpoint's host ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("bedrock-runtime.eu-west-3.amazonaws.com", "aws:eu-west-3"),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "aws:us-gov-west-1"),
        ("bedrock-runtime.cn-north-1.amazonaws.com.cn", "aws:cn-north-1"),
        ("bedrock-mantle.us-east-1.api.aws", "aws:us-east-1"),
        ("europe-west9-aiplatform.googleapis.com", "gcp:europe-west9"),
        ("europe-west12-aiplatform.googleapis.com:443", "gcp:europe-west12"),
        ("aiplatform.europe-west4.rep.googleapis.com", "gcp:europe-west4"),
        ("my-model.swedencentral.models.ai.azure.com", "azure:swedencentral"),
        ("westeurope.api.cognitive.microsoft.com", "azure:westeurope"),
    ],
)
def test_hosts_that_name_a_region(host: str, code: str) -> None:
    region = data.region_of_host(host)
    assert region is not None
    assert region.code == code


@pytest.mark.parametrize(
    "host",
    [
        "api.openai.com",
        "aiplatform.googleapis.com",
        "us-aiplatform.googleapis.com",
        "my-unit.openai.azure.com",
        "bedrock-runtime.eu-west-3.amazonaws.com.evil.example",
        "bedrock-runtime.moon-west-1.amazonaws.com",
        "s3.eu-west-3.amazonaws.com",
        "",
    ],
)
def test_hosts_that_name_none(host: str) -> None:
    assert data.region_of_host(host) is None


class Regional:
    """A methodology that wants the region of the host, and is else like another."""

    uses_region = True

    def __init__(self) -> None:
        edition = methodologies.get("ecologits")
        self.name, self.site_table = "regional", edition.site_table
        self.serve, self.assess, self.steps = edition.serve, edition.assess, edition.steps


def assessed(methodology: Any, **given: Any) -> ecoimpact.Impacts:
    return ecoimpact.Impacts(
        engine.assess(
            engine.catalog(),
            provider="bedrock",
            models=(HAIKU,),
            usage=Usage(output_tokens=400),
            methodology=methodology,
            **given,
        )
    )


def test_a_host_is_a_hint_for_methodologies_that_want_it() -> None:
    host = "bedrock-runtime.eu-central-1.amazonaws.com"
    regional = Regional()
    impacts = assessed(regional, host=host)
    assert impacts.zone == "DEU"
    assert "zone-from-host" in codes(impacts.warnings)
    assert steps(impacts)["pue"] == 1.24
    told = next(warning for warning in impacts.warnings if warning.code == "zone-from-host")
    assert told.message.endswith("host names: aws:eu-central-1.")
    asked = assessed(regional, host=host, zone="FRA")  # what the program says comes first
    assert (asked.zone, "zone-from-host" in codes(asked.warnings)) == ("FRA", False)
    engine.register_site(host, zone="POL", pue=1.3, wue_l_per_kwh=0)
    registered = assessed(regional, host=host)
    assert (registered.zone, "zone-from-host" in codes(registered.warnings)) == ("POL", False)


def test_the_host_of_a_watched_client_is_the_hint() -> None:
    """Bedrock's address for OpenAI's SDK; the answer comes from a transport in this process."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={**chat(), "model": "openai.gpt-oss-120b-1:0"}, request=request)

    records: list[Record] = []
    ecoimpact.instrument("openai", methodology=Regional(), exporters=[records.append])
    try:
        transport: Any = httpx.Client(transport=httpx.MockTransport(answer))  # later SDKs have it typed as httpx2's
        with transport:
            url = "https://bedrock-runtime.us-west-2.amazonaws.com/openai/v1"
            client = openai.OpenAI(api_key="test", base_url=url, http_client=transport)
            client.chat.completions.create(model="openai.gpt-oss-120b-1:0", messages=[{"role": "user", "content": "?"}])
        assert ecoimpact.flush(10)
    finally:
        ecoimpact.uninstrument()
    (record,) = records
    assert (record.inference.provider, record.assessment.zone) == ("bedrock", "US-OR")
    assert "zone-from-host" in codes(record.assessment.warnings)


@pytest.mark.parametrize("name", ["ecologits", "ecologits-0.11", "scope3", "sci"])
def test_released_editions_take_no_hint_from_a_host(name: str) -> None:
    edition = methodologies.get(name)
    with_host = assessed(edition, host="bedrock-runtime.eu-central-1.amazonaws.com", latency_s=3.0)
    assert with_host.to_dict() == assessed(edition, latency_s=3.0).to_dict()


# --- the command line ---------------------------------------------------------------------------------------------------


def run(*arguments: str) -> Any:
    from typer.testing import CliRunner

    from ecoimpact.cli.app import app

    return CliRunner().invoke(app, list(arguments))


def test_the_command_line_takes_regions() -> None:
    done = run("estimate", HAIKU, "--provider", "bedrock", "--output-tokens", "400", "--zone", "aws:eu-central-1", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["zone"] == "DEU"
    wrong = run("estimate", HAIKU, "--output-tokens", "400", "--zone", "aws:eu-wst-3")
    assert wrong.exit_code == 2
    assert "aws:eu-west-3" in wrong.output.replace("\n", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("quebec", "CA-QC"),
        ("SE-SE", "SE-SE4"),
        ("sichuan", "CN-SC"),
        ("aws:eu-west-3", "aws:eu-west-3"),
        ("gävle", "azure:swedencentral"),
    ],
)
def test_the_command_line_finds_parts_of_countries_and_regions(text: str, expected: str) -> None:
    found = run("zones", "--search", text, "--json")
    assert found.exit_code == 0, found.output
    assert expected in [zone["zone"] for zone in json.loads(found.stdout)]
    assert expected in run("zones", text).stdout
    with_regions = json.loads(run("zones", "--regions", "--json").stdout)
    assert {zone["zone"] for zone in with_regions} == {*data.zone_codes(), *data.region_codes()}

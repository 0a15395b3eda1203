"""The shipped tables: every row has its source, names resolve, and a released table does not change."""

from __future__ import annotations

import csv
import hashlib
import re
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoimpact import data
from ecoimpact.data.tables import FILES, header, rows
from ecoimpact.methodologies import get, names
from ecoimpact.providers._hosts import HOSTS, LOCAL_SERVERS

TABLES = sorted(path.stem for path in FILES.glob("*.csv"))
DOCS = Path(__file__).parent.parent / "docs"

# A change of a table is a release of the data: give DATA_VERSION the day of the change, then the new digest here.
RELEASED = "2026-11-22"
DIGESTS = {
    "cloud_regions.csv": "e3c9affc7336f7ad",
    "measured_fit.csv": "ab5a8e3a9dbc73e6",
    "model_aliases.csv": "6b8b2d9ff58aa1ab",
    "model_names.csv": "e98eff6c507d7e9c",
    "models.csv": "5e4b8c74fafa8576",
    "models_added.csv": "2a1d4305ec3df47d",
    "price_fit.csv": "db5be2e15c7c18ae",
    "price_fit_by_provider.csv": "6c9ac91f59305183",
    "request_memory.csv": "3178819b04aa28c5",
    "sites-ecologits-0.11.csv": "fbcd7574791e4bbb",
    "sites-ecologits-2025-09.csv": "97863a6a6725e17d",
    "sites-measured-2026.csv": "145af0ae1117ad1f",
    "sites_added.csv": "b77f177758bb52b6",
    "sources.toml": "e6a441a18854e93a",
    "throughput.csv": "15f71a6b1183629c",
    "throughput_fit.csv": "ec4941e11bcf521e",
    "weight_precision.csv": "5533a1881b4e5161",
    "zones.csv": "e918e22a80b4736f",
}


@pytest.mark.parametrize("table", TABLES)
def test_every_row_has_sources_with_licence_and_date(table: str) -> None:
    columns = header(table)
    assert len(set(columns)) == len(columns)
    column = columns.index("source") if "source" in columns else columns.index("sources")
    for row in rows(table):
        assert len(row) == len(columns)
        keys = row[column].split()
        assert keys, row
        for key in keys:
            source = data.sources()[key]
            assert source.title
            assert source.licence
            assert source.url.startswith("https://")
            assert date.fromisoformat(source.date) <= date.fromisoformat(data.DATA_VERSION)


def test_all_files_are_tables_or_their_sources() -> None:
    assert {path.name for path in FILES.iterdir() if path.suffix != ".csv"} == {"sources.toml"}
    for source in data.sources().values():
        assert source.licence
        assert date.fromisoformat(source.date) <= date.fromisoformat(data.DATA_VERSION)


@pytest.mark.parametrize("table", [table for table in TABLES if "evidence" in header(table)])
def test_evidence_is_an_address(table: str) -> None:
    column = header(table).index("evidence")
    for row in rows(table):
        assert all(address.startswith("https://") for address in row[column].split()), row


def test_every_source_is_used() -> None:
    used = {source.key for table in data.tables() for source in table.sources}
    assert used == set(data.sources())


@pytest.mark.parametrize("table", TABLES)
def test_no_row_stands_twice(table: str) -> None:
    width = 2 if table.startswith("model") else 1  # provider and name
    keys = [tuple(cell.lower() for cell in row[:width]) for row in rows(table)]
    assert len(set(keys)) == len(keys)


def test_released_tables_are_frozen() -> None:
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in sorted(FILES.iterdir())}
    assert found == DIGESTS
    assert data.DATA_VERSION == RELEASED


def test_the_index_of_tables() -> None:
    index = {table.name: table for table in data.tables()}
    assert set(index) == set(TABLES)
    assert index["models"].rows == 342
    assert index["models_added"].rows > 150
    assert index["zones"].rows > 320
    assert index["cloud_regions"].rows > 150
    for table in index.values():
        assert date.fromisoformat(table.date) <= date.fromisoformat(data.DATA_VERSION)
        assert table.sources


# --- models -------------------------------------------------------------------------------------------------------------


def test_cards_are_complete() -> None:
    for card in (*data.cards(), *data.added_cards()):
        assert card.active_params_b.min > 0
        assert card.active_params_b.min <= card.total_params_b.min
        assert card.active_params_b.max <= card.total_params_b.max
        assert card.architecture in ("dense", "moe")
        assert (card.architecture == "moe") or card.active_params_b == card.total_params_b
        assert set(card.warnings) <= set(data.WARNINGS)
        assert "https://" in card.source, card.name
        if card.deployment is not None and card.deployment.tokens_per_s is not None:
            assert card.deployment.tokens_per_s > 0


def test_what_was_added_leaves_the_models_of_ecologits_alone() -> None:
    names = {(card.provider, card.name.lower()) for card in data.cards()}
    names |= {(provider, alias.lower()) for provider, alias in data.aliases()}
    added = [(card.provider, card.name.lower()) for card in data.added_cards()]
    second = [(provider, name.lower()) for provider, name, *_ in rows("model_names")]
    assert not names & {*added, *second}
    assert not set(added) & set(second)
    assert len(set(second)) == len(second)


def test_a_size_that_nobody_published_is_a_range_with_its_reason() -> None:
    for card in data.added_cards():
        if "model-arch-not-released" in card.warnings:
            low, high = card.active_params_b.min, card.active_params_b.max
            assert ":" in card.source, card.name  # the reason, and then the sources
            assert low < high or card.name in ("command", "command-light"), card.name


def test_second_names_lead_to_their_model() -> None:
    for provider, name, model, step, reason, _ in rows("model_names"):
        found = data.find(provider, name)
        assert found is not None
        assert (found.match.step, found.match.name) == (step, model)
        assert [w.code for w in found.warnings] == (["model-family"] if step == "family" else [])
        assert reason


def test_aliases_lead_to_a_model() -> None:
    for (provider, alias), model in data.aliases().items():
        found = data.find(provider, alias)
        assert found is not None
        assert (found.match.step, found.match.name, found.warnings) == ("alias", model, ())


@pytest.mark.parametrize(
    ("provider", "name", "expected"),
    [
        ("openai", "gpt-4o-mini", "openai/gpt-4o-mini (exact)"),
        ("openai", " GPT-4o-Mini ", "openai/gpt-4o-mini (exact)"),
        (None, "claude-opus-5", "anthropic/claude-opus-5 (exact)"),
        ("azure_openai", "gpt-4o-mini", "openai/gpt-4o-mini (exact)"),
        ("azure_openai", "gpt-35-turbo", "openai/gpt-3.5-turbo (alias)"),
        ("azure_openai", "gpt-4o-mini-2024-07-18.ft-0123abcd", "openai/gpt-4o-mini-2024-07-18 (normalised)"),
        ("bedrock", "anthropic.claude-opus-4-6-v1", "anthropic/claude-opus-4-6 (normalised)"),
        ("bedrock", "us.anthropic.claude-haiku-4-5-20251001-v1:0", "anthropic/claude-haiku-4-5-20251001 (normalised)"),
        ("bedrock", "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
         "anthropic/claude-sonnet-4-5-20250929 (normalised)"),
        ("bedrock", "openai.gpt-oss-120b-1:0", "huggingface_hub/openai/gpt-oss-120b (normalised)"),
        ("vertex", "claude-haiku-4-5@20251001", "anthropic/claude-haiku-4-5-20251001 (normalised)"),
        ("vertex", "claude-opus-5@default", "anthropic/claude-opus-5 (normalised)"),
        ("vertex", "publishers/google/models/gemini-2.5-pro", "google_genai/gemini-2.5-pro (normalised)"),
        ("google_genai", "models/gemini-2.5-flash", "google_genai/gemini-2.5-flash (normalised)"),
        ("openrouter", "anthropic/claude-opus-4.5", "anthropic/claude-opus-4-5-20251101 (normalised)"),
        ("openrouter", "openai/gpt-4o:free", "openai/gpt-4o (normalised)"),
        ("litellm", "vertex_ai/gemini-2.5-pro", "google_genai/gemini-2.5-pro (normalised)"),
        ("litellm", "bedrock/us.anthropic.claude-opus-4-6-v1", "anthropic/claude-opus-4-6 (normalised)"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc", "openai/gpt-4o-mini-2024-07-18 (normalised)"),
        ("openai", "gpt-4o-latest", "openai/gpt-4o (normalised)"),
        ("groq", "openai/gpt-oss-120b", "huggingface_hub/openai/gpt-oss-120b (exact)"),
        ("vllm", "gpt-oss-120b", "huggingface_hub/openai/gpt-oss-120b (normalised)"),
    ],
)  # fmt: skip
def test_names_as_programs_write_them(provider: str | None, name: str, expected: str) -> None:
    found = data.find(provider, name)
    assert found is not None
    assert str(found.match) == expected
    assert found.match.requested == name
    codes = [warning.code for warning in found.warnings]
    assert codes == (["model-name-normalised"] if found.match.step == "normalised" else [])


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("openai", "gpt-4o-maxi"),
        ("openai", "gpt-4"[:-1]),
        ("openai", "gpt-9"),
        ("openai", "grok-4"),
        ("anthropic", "claude-3-opus-20240229-large"),
        ("anthropic", "claude-tanka"),
        ("openai", "someone/gpt-4o"),
        ("openai", "gpt-4o-mini-high"),
        ("openai", ""),
        ("openai", " "),
        ("openai", "-latest"),
        ("openai", "ft:"),
        ("openai", "gpt-4o" + "o" * 300),
        ("mistralai", "mistral-medium-2701"),
    ],
)
def test_no_name_is_taken_for_another(provider: str, name: str) -> None:
    assert data.find(provider, name) is None


def test_a_model_of_another_provider_is_found_and_flagged() -> None:
    found = data.find("openai", "claude-opus-5")
    assert found is not None
    assert found.match.provider == "anthropic"
    assert [warning.code for warning in found.warnings] == ["model-other-provider"]


@given(st.sampled_from([None, "openai", "bedrock", "litellm", "nobody"]), st.text(max_size=400))
def test_any_text_may_be_a_name(provider: str | None, name: str) -> None:
    found = data.find(provider, name)
    assert found is None or found.match.requested == name
    assert 1 <= len(data.plain_forms(name[:256])) <= 40


# --- electricity --------------------------------------------------------------------------------------------------------


def test_every_zone_has_factors() -> None:
    for zone in data.zones():
        mix = zone.mix
        assert zone.name
        assert mix.zone == zone.code
        assert mix.source
        assert re.fullmatch(r"[A-Z]{3}|(?:US|CA|CN)-[A-Z]{2}|(SE|NO)-\1[1-5]", zone.code)
        for factor in (mix.gwp, mix.adpe, mix.pe, mix.wue):
            assert factor.min >= 0
        assert set(mix.warnings) <= set(data.WARNINGS)
        assert set(data.factor_sources(zone.code)) == {"gwp", "adpe", "pe", "wue"}


def test_what_a_zone_lacks_comes_from_its_parent_and_is_flagged() -> None:
    world, usa = data.mix(data.WORLD), data.mix("USA")
    aruba, california, aland = data.mix("ABW"), data.mix("US-CA"), data.mix("ALA")
    assert world is not None
    assert usa is not None
    assert aruba is not None
    assert california is not None
    assert aland is not None
    assert (aruba.adpe, aruba.gwp.mean) == (world.adpe, 0.55)
    assert aruba.warnings == tuple(f"electricity-mix-{factor}-world" for factor in ("adpe", "pe", "wue"))
    assert (california.wue, california.gwp.mean, california.year) == (usa.wue, 0.17906, "2023")
    assert california.warnings == tuple(f"electricity-mix-{factor}-country" for factor in ("adpe", "pe", "wue"))
    assert (aland.gwp, aland.warnings) == (world.gwp, ("zone-world",))
    assert not world.warnings
    assert data.mix("ZZZ") is None
    assert data.mix("") is None


@pytest.mark.parametrize(
    ("code", "name", "country", "gwp_kgco2eq_per_kwh", "year"),
    [
        ("CA-QC", "Quebec", "CAN", 0.0312, "2023"),
        ("CA-AB", "Alberta", "CAN", 0.6366, "2023"),
        ("CN-SC", "Sichuan", "CHN", 0.1564, "2023"),
        ("CN-NM", "Inner Mongolia", "CHN", 0.6479, "2023"),
        ("NO-NO4", "Norway, bidding zone NO4 (Tromsø)", "NOR", 0.0517, "2025"),
        ("SE-SE3", "Sweden, bidding zone SE3 (Stockholm)", "SWE", 0.027, "2025"),
    ],
)
def test_parts_of_a_country(code: str, name: str, country: str, gwp_kgco2eq_per_kwh: float, year: str) -> None:
    """Figures as CodeCarbon 3.3.2 has them; what they lack is the country's."""
    part, whole = data.mix(code), data.mix(country)
    assert part is not None
    assert whole is not None
    assert data.zone_codes()[code] == name
    assert (part.gwp.min, part.gwp.max, part.year) == (gwp_kgco2eq_per_kwh, gwp_kgco2eq_per_kwh, year)
    assert (part.adpe, part.pe, part.wue) == (whole.adpe, whole.pe, whole.wue)
    assert part.warnings == tuple(f"electricity-mix-{factor}-country" for factor in ("adpe", "pe", "wue")) + whole.warnings
    assert data.sources()[data.factor_sources(code)["gwp"]].licence == "MIT"


def test_all_parts_of_the_countries_that_have_them() -> None:
    codes = list(data.zone_codes())
    counts = {country: sum(code.startswith(f"{country}-") for code in codes) for country in ("US", "CA", "CN", "NO", "SE")}
    assert counts == {"US": 51, "CA": 13, "CN": 30, "NO": 5, "SE": 4}


# --- sites --------------------------------------------------------------------------------------------------------------


def test_every_methodology_has_its_provider_table() -> None:
    for name in names():
        assert get(name).site_table in data.site_tables()


@pytest.mark.parametrize("table", data.site_tables())
def test_sites_are_plausible(table: str) -> None:
    for provider, *_ in rows(f"sites-{table}"):
        site = data.site(table, provider)
        assert 1 <= site.pue.min <= site.pue.max < 3
        assert 0 <= site.wue_l_per_kwh.min <= site.wue_l_per_kwh.max < 10
        assert provider in (*data.PROVIDERS, "*")
        assert set(data.OWNERS) < {row[0] for row in rows(f"sites-{table}")}


@pytest.mark.parametrize("table", data.site_tables())
@pytest.mark.parametrize("provider", ["together", "nobody", None, "*"])
def test_an_unknown_site_is_typical_and_flagged(table: str, provider: str | None) -> None:
    site = data.site(table, provider)
    assert not data.has_site(table, provider)
    assert site.warnings == ("site-world",)
    assert site.mix.zone == data.WORLD
    assert site.pue.max - site.pue.min > 0.3
    assert site.wue_l_per_kwh.max - site.wue_l_per_kwh.min > 1


@pytest.mark.parametrize("table", data.site_tables())
def test_sites_of_our_own_complete_the_methodologies_tables(table: str) -> None:
    """None overrules a row of a methodology's own table; one without overhead or water has typical ones, and says so."""
    typical = data.site(table, None)
    for provider, _, _, pue, wue, _ in rows("sites_added"):
        site = data.site(table, provider)
        assert provider in data.PROVIDERS
        assert provider not in {row[0] for row in rows(f"sites-{table}")}
        assert site.mix.zone != data.WORLD
        assert site.warnings == (() if pue and wue else ("site-typical",))
        assert (site.pue == typical.pue) == (not pue)
        assert (site.wue_l_per_kwh == typical.wue_l_per_kwh) == (not wue)


def test_the_hosts_of_the_instrumentation_are_known_providers() -> None:
    assert {*HOSTS.values(), *LOCAL_SERVERS.values()} <= set(data.PROVIDERS)


# --- notices ------------------------------------------------------------------------------------------------------------


def test_every_code_is_documented_and_none_else() -> None:
    _, _, notices = (DOCS / "nomenclature.md").read_text(encoding="utf-8").partition("## Warnings")
    documented = re.findall(r"^\| `([a-z-]+)` \|", notices, re.MULTILINE)
    assert sorted(documented) == sorted(data.NOTICES)
    assert not set(data.WARNINGS) & set(data.ERRORS)


def test_notices_say_what_they_are_about() -> None:
    assert data.notice("site-world") is data.notice("site-world")
    told = data.notice("model-not-registered", "'x'")
    assert told.message.endswith("size: 'x'.")
    for text in data.NOTICES.values():
        assert text.endswith(".")


def test_tables_are_clean_text() -> None:
    for path in FILES.glob("*.csv"):
        text = path.read_bytes()
        assert b"\r" not in text
        assert text.endswith(b"\n")
        for row in csv.reader(text.decode().splitlines()):
            assert all(cell == cell.strip() for cell in row)

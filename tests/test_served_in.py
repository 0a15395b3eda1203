"""Where an answer says it was served: the zone of a request for which the program gave none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import payloads as p
import pytest
from hypothesis import given
from hypothesis import strategies as st
from server import Server, as_json, sse

import ecoimpact
from ecoimpact import data, engine, methodologies
from ecoimpact.types import Record, Usage

FRANKFURT = "bedrock-runtime.eu-central-1.amazonaws.com"
ASKED: Any = {"model": p.CLAUDE, "max_tokens": 400, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_current", engine.Catalog({}, {}))


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def codes(notices: Any) -> list[str]:
    return [notice.code for notice in notices]


def assessed(
    region: Any, *, provider: str = "mistralai", methodology: str = "ecologits", **given: Any
) -> ecoimpact.Impacts:
    """Of a provider in Scandinavia."""
    usage = Usage(input_tokens=100, output_tokens=400, region=region)
    found = engine.assess(
        engine.catalog(),
        provider=provider,
        models=("mistral-small-latest",),
        usage=usage,
        methodology=methodology,
        **{"latency_s": 3.0, **given},
    )
    return ecoimpact.Impacts(found)


# --- through the SDK ----------------------------------------------------------------------------------------------------


def plain(client: anthropic.Anthropic) -> None:
    client.messages.create(**ASKED)


def streamed(client: anthropic.Anthropic) -> None:
    for _ in client.messages.create(**ASKED, stream=True):
        pass


def helper(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**ASKED) as stream:
        stream.get_final_message()


def beta(client: anthropic.Anthropic) -> None:
    client.beta.messages.create(**ASKED)


def events(start: str | None, end: str | None) -> list[dict[str, Any]]:
    """A stream whose first event says where it is served, or whose last one does."""
    found = p.message_events()
    found[0]["message"]["usage"] = {**found[0]["message"]["usage"], "inference_geo": start}
    if end is not None:
        last = next(event for event in reversed(found) if event["type"] == "message_delta")
        last["usage"]["inference_geo"] = end
    return found


def record_of(script: Any, call: Any, server: Server, **settings: Any) -> Record:
    server.reset(script)
    records: list[Record] = []
    ecoimpact.instrument("anthropic", exporters=[records.append], **settings)
    try:
        with anthropic.Anthropic(api_key="test", base_url=server.url, max_retries=0) as client:
            call(client)
        assert ecoimpact.flush(10)
    finally:
        ecoimpact.uninstrument()
    (record,) = records
    return record


def answer(geo: str | None) -> Any:
    return as_json(p.message(usage={**p.MESSAGE_USAGE, "inference_geo": geo}))


@pytest.mark.parametrize(
    ("script", "call"),
    [
        (answer("us"), plain),
        (answer("us"), beta),
        (sse(events("us", None), named=True), streamed),
        (sse(events(None, "us"), named=True), streamed),
        (sse(events("us", "us"), named=True), helper),
    ],
    ids=["plain", "beta", "message_start", "message_delta", "helper"],
)
def test_the_sdks_answer_says_where_it_was_served(server: Server, script: Any, call: Any) -> None:
    record = record_of(script, call, server)
    assert record.inference.usage.region == "us"
    assert record.inference.usage.output_tokens == 317
    told = record.assessment
    assert (told.zone, told.errors) == ("USA", ())
    assert not [code for code in codes(told.warnings) if code.startswith("zone-")]  # where Anthropic runs anyway


@pytest.mark.parametrize("call", [plain, streamed])
@pytest.mark.parametrize(
    ("geo", "zone", "code"),
    [
        ("FRA", "FRA", "zone-from-response"),
        ("aws:eu-central-1", "DEU", "zone-from-response"),
        ("atlantis", "USA", "zone-of-response-unknown"),
        ("x" * 5000, "USA", "zone-of-response-unknown"),
        ("global", "USA", None),
        ("not_available", "USA", None),
        (None, "USA", None),
    ],
)
def test_a_place_replaces_the_providers_zone_and_others_leave_it(
    server: Server, call: Any, geo: str | None, zone: str, code: str | None
) -> None:
    told = record_of(answer(geo) if call is plain else sse(events(geo, None), named=True), call, server).assessment
    assert told.zone == zone
    assert [found for found in codes(told.warnings) if found.startswith("zone-")] == ([code] if code else [])
    assert all(len(warning.message) < 300 for warning in told.warnings)
    mix = data.mix(zone)
    assert mix is not None
    assert told.explain is not None
    assert told.explain()["grid_gwp_kgco2eq_per_kwh"].value == mix.gwp


def test_the_programs_zone_comes_before_the_answers(server: Server) -> None:
    record = record_of(answer("us"), plain, server, zone="FRA")
    assert (record.assessment.zone, record.inference.usage.region) == ("FRA", "us")
    assert not [code for code in codes(record.assessment.warnings) if code.startswith("zone-")]


def test_a_site_of_ones_own_comes_before_the_answers(server: Server) -> None:
    ecoimpact.register_site(server.url, zone="SWE", pue=1.3, wue_l_per_kwh=0)
    told = record_of(answer("us"), plain, server).assessment
    assert told.zone == "SWE"


def test_an_answer_without_one_is_as_before(server: Server) -> None:
    with_none = record_of(as_json(p.message()), plain, server)
    assert with_none.inference.usage.region is None
    assert with_none.assessment.zone == "USA"


# --- without an SDK -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*methodologies.names()])
def test_every_methodology_takes_what_the_answer_states(name: str) -> None:
    here, there = assessed(None, methodology=name), assessed("us", methodology=name)
    assert (here.zone in ("SWE", "SWE+NOR"), there.zone) == (True, "USA")
    told = next(warning for warning in there.warnings if warning.code == "zone-from-response")
    assert told.message.endswith("names: 'us'.")
    asked = assessed(None, methodology=name, zone="USA")
    assert asked.gwp == there.gwp
    assert asked.energy == there.energy


def test_the_answer_comes_before_the_host() -> None:
    of_host = assessed(None, provider="bedrock", methodology="measured-2026", host=FRANKFURT)
    of_answer = assessed("aws:us-west-2", provider="bedrock", methodology="measured-2026", host=FRANKFURT)
    unknown = assessed("atlantis", provider="bedrock", methodology="measured-2026", host=FRANKFURT)
    assert (of_host.zone, of_answer.zone, unknown.zone) == ("DEU", "US-OR", "DEU")
    assert {"zone-of-response-unknown", "zone-from-host"} <= {*codes(unknown.warnings)}


@given(st.one_of(st.none(), st.text(), st.integers(), st.lists(st.integers(), max_size=2), st.binary()))
def test_anything_may_stand_there(region: Any) -> None:
    impacts = assessed(region)
    assert not impacts.errors
    assert impacts.energy == assessed(None).energy
    assert impacts.zone is not None


def test_words_from_outside_do_not_pile_up() -> None:
    known = engine.catalog()
    for number in range(3000):
        assessed(f"place-{number}")
    assert len(known.plans) <= engine._MAX_PLANS
    assessed("z" * 5000)
    assert not [key for key in known.plans if "z" * 300 in map(str, key)]

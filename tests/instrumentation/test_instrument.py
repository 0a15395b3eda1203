"""Turning it on and off: settings, single clients, import order, errors of configuration."""

from __future__ import annotations

import copy
import importlib
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import payloads as p
import pytest
from server import Server, as_json, sse

import ecoimpact
from ecoimpact import Impacts, Record, runtime
from ecoimpact.instrumentation.provider import Role
from ecoimpact.providers import all_providers

ASK: Any = {"model": p.MODEL, "messages": [{"role": "user", "content": "How does water boil?"}]}


@pytest.fixture(autouse=True)
def _bare(server: Server) -> Iterator[None]:
    server.reset(as_json(p.chat()))
    yield
    ecoimpact.uninstrument()


def ask(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(**ASK, **options)


def functions() -> dict[tuple[str, str], Any]:
    """Every function that a provider names, as it stands in the SDK now."""
    found = {}
    for provider in all_providers().values():
        for target in provider.targets:
            owner = sys.modules.get(target.module)
            *path, attribute = target.name.split(".")
            for name in path:
                owner = getattr(owner, name, None)
            if owner is not None and attribute in vars(owner):
                found[target.module, target.name] = vars(owner)[attribute]
    return found


def test_a_client_made_before_is_watched_and_uninstrument_restores_everything(client: openai.OpenAI) -> None:
    import openai.lib.streaming.chat
    import openai.lib.streaming.responses

    before = functions()
    assert len(before) > 20
    raw_create = client.chat.completions.with_raw_response  # holds bound methods from before
    ecoimpact.instrument()
    assert isinstance(ask(client).impacts, Impacts)
    assert isinstance(raw_create.create(**ASK).parse().impacts, Impacts)
    with openai.OpenAI(api_key="test", base_url=str(client.base_url)) as meanwhile:
        held = meanwhile.chat.completions.with_raw_response
        assert isinstance(ask(meanwhile).impacts, Impacts)
        ecoimpact.uninstrument()
        assert functions() == before
        for response in (ask(client), ask(meanwhile), held.create(**ASK).parse(), raw_create.create(**ASK).parse()):
            assert ecoimpact.impacts_of(response) is None
            assert not hasattr(response, "impacts")


def test_instrumenting_twice_counts_once(client: openai.OpenAI) -> None:
    records: list[Record] = []
    ecoimpact.instrument(exporters=[records.append])
    once = functions()
    ecoimpact.instrument()
    ecoimpact.instrument("openai")
    ask(client)
    assert ecoimpact.flush(10)
    assert len(records) == 1
    assert functions() == once


def test_a_second_call_changes_only_what_it_names(client: openai.OpenAI, tmp_path: Path) -> None:
    records: list[Record] = []
    ecoimpact.instrument("openai", zone="FRA", labels={"app": "chat"}, exporters=[records.append])
    ecoimpact.instrument(methodology="ecologits-0.11")
    ask(client)
    ecoimpact.instrument(zone=None, log_dir=tmp_path)
    ask(client)
    assert ecoimpact.flush(10)
    first, second = records
    assert (first.assessment.zone, first.assessment.methodology) == ("FRA", "ecologits-0.11")
    assert (second.assessment.zone, second.assessment.methodology) == ("USA", "ecologits-0.11")
    assert first.labels == second.labels == {"app": "chat"}
    (segment,) = tmp_path.glob("*/*.jsonl")
    assert [json.loads(line)["zone"] for line in segment.read_text().splitlines()] == ["USA"]


def test_figures_are_those_of_the_moment_of_the_call(client: openai.OpenAI) -> None:
    ecoimpact.instrument(zone="FRA")
    response = ask(client)
    ecoimpact.instrument(zone="POL", methodology="ecologits-0.11")
    ecoimpact.uninstrument()
    expected = ecoimpact.estimate(p.MODEL, output_tokens=503, provider="openai", zone="FRA")
    assert response.impacts.zone == "FRA"
    assert response.impacts.methodology == "ecologits-2025-09"
    assert response.impacts.gwp.value.max <= expected.gwp.value.max  # type: ignore[union-attr] # the latency is a bound


def test_only_named_providers_are_watched(client: openai.OpenAI) -> None:
    ecoimpact.instrument("anthropic")
    assert ecoimpact.impacts_of(ask(client)) is None
    ecoimpact.instrument("openai")
    assert isinstance(ecoimpact.impacts_of(ask(client)), Impacts)


def test_wrap_watches_one_client_and_its_copies(client: openai.OpenAI, server: Server) -> None:
    before = functions()
    assert ecoimpact.wrap(client) is client
    assert ecoimpact.wrap(client) is client
    with openai.OpenAI(api_key="test", base_url=server.url) as other:
        assert ecoimpact.impacts_of(ask(other)) is None
        for watched in (client, client.copy(), client.with_options(timeout=9), client.with_options().copy()):
            assert isinstance(ecoimpact.impacts_of(ask(watched)), Impacts)
        records: list[Record] = []
        ecoimpact.instrument(exporters=[records.append])
        assert isinstance(ecoimpact.impacts_of(ask(client)), Impacts)
        assert isinstance(ecoimpact.impacts_of(ask(other)), Impacts)
        assert ecoimpact.flush(10)
        assert len(records) == 2, "a wrapped client must not be counted twice when all are watched"
    ecoimpact.uninstrument()
    assert functions().items() >= before.items()
    assert not [name for name in vars(client) if "ecoimpact" in name]
    assert ecoimpact.impacts_of(ask(client)) is None


def test_a_copy_by_the_standard_library_sends_its_own_key(client: openai.OpenAI, server: Server) -> None:
    records: list[Record] = []
    ecoimpact.instrument("anthropic", exporters=[records.append])
    twin = copy.copy(ecoimpact.wrap(client))
    twin.api_key = "another"
    twin.post("/chat/completions", body=ASK, cast_to=object)
    assert server.received[-1].headers["authorization"] == "Bearer another"
    assert ecoimpact.flush(10)
    assert len(records) == 1


def test_clients_that_cannot_be_hashed_or_are_equal(server: Server) -> None:
    class Odd(openai.OpenAI):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Odd)

    with Odd(api_key="a", base_url=server.url) as one, Odd(api_key="b", base_url=server.url) as other:
        ecoimpact.wrap(one)
        assert isinstance(ecoimpact.impacts_of(ask(one)), Impacts)
        assert ecoimpact.impacts_of(ask(other)) is None
        assert isinstance(ecoimpact.impacts_of(ask(ecoimpact.wrap(other))), Impacts)


def test_another_tool_on_one_client_stays(client: openai.OpenAI) -> None:
    seen: list[str] = []
    inner = client.request

    def theirs(*args: Any, **kwargs: Any) -> Any:
        seen.append("theirs")
        return inner(*args, **kwargs)

    client.request = theirs  # type: ignore[method-assign]
    ecoimpact.wrap(client)
    ask(client)
    ecoimpact.uninstrument()
    ask(client)
    assert seen == ["theirs", "theirs"]
    assert vars(client)["request"] is theirs


@pytest.mark.parametrize("owner", [openai.OpenAI, openai.OpenAI.__mro__[1]], ids=["subclass", "base class"])
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_another_tool_on_the_class(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, owner: Any, first: str) -> None:
    """Tools replace ``request`` on a class below the one we patch, or on top of ours: one record, whatever the order."""
    records: list[Record] = []
    seen: list[str] = []
    if first == "ours":
        ecoimpact.instrument(exporters=[records.append])
    inner = owner.request

    def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append("theirs")
        return inner(self, *args, **kwargs)

    monkeypatch.setattr(owner, "request", theirs)
    ecoimpact.instrument(exporters=[records.append])
    ask(client)
    ecoimpact.uninstrument()
    assert ecoimpact.impacts_of(ask(client)) is None
    ecoimpact.instrument(exporters=[records.append])
    assert isinstance(ecoimpact.impacts_of(ask(client)), Impacts)
    assert ecoimpact.flush(10)
    assert seen == ["theirs"] * 3
    assert len(records) == 2


def test_a_wrapped_client_is_collected_like_any_other(server: Server) -> None:
    import gc
    import weakref

    client = ecoimpact.wrap(openai.OpenAI(api_key="test", base_url=server.url))
    ref = weakref.ref(client)
    ask(client)
    client.close()
    del client
    gc.collect()
    assert ref() is None


@pytest.mark.parametrize("odd", [None, object(), 3, "openai", openai.OpenAI, pytest])
def test_wrap_refuses_what_is_no_client(odd: Any) -> None:
    with pytest.raises(TypeError, match="anthropic, bedrock, cohere"):
        ecoimpact.wrap(odd)


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (["opnai"], {}, "did you mean 'openai'"),
        (["claude"], {}, "known: anthropic, bedrock, cohere"),
        ([], {"zone": "FRX"}, "FRA"),
        ([], {"zone": "Frnace"}, "FRA"),
        ([], {"zone": 7}, "zone must be a non-empty text"),
        ([], {"methodology": "ecologit"}, "ecologits"),
        ([], {"methodology": 3}, "methodology"),
        ([], {"log_dir": 3}, "log_dir must be"),
        ([], {"exporters": ["print"]}, "callables"),
        ([], {"exporters": 4}, "callables"),
        ([], {"labels": ["app"]}, "labels must map"),
        ([], {"request_stream_usage": "perhaps"}, "true or false"),
    ],
)
def test_wrong_settings_are_errors_at_once_and_change_nothing(
    client: openai.OpenAI, arguments: list[str], settings: dict[str, Any], message: str
) -> None:
    ecoimpact.instrument("openai", zone="FRA")
    patched = functions()
    with pytest.raises(ValueError, match=message):
        ecoimpact.instrument(*arguments, **settings)
    assert functions() == patched
    assert ask(client).impacts.zone == "FRA"


def test_the_environment_and_pyproject_give_defaults(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.ecoimpact]\nzone = "DEU"\nmethodology = "ecologits-0.11"\nlabels = { app = "chat" }\n'
    )
    (inner := tmp_path / "src").mkdir()
    monkeypatch.chdir(inner)
    monkeypatch.setenv("ECOIMPACT_ZONE", "SWE")
    records: list[Record] = []
    ecoimpact.instrument(exporters=[records.append])
    ask(client)
    ecoimpact.instrument(zone="FRA")
    ask(client)
    assert ecoimpact.flush(10)
    assert [(r.assessment.zone, r.assessment.methodology) for r in records] == [
        ("SWE", "ecologits-0.11"),
        ("FRA", "ecologits-0.11"),
    ]
    assert records[0].labels == {"app": "chat"}


@pytest.mark.parametrize(
    ("file", "variable", "message"),
    [
        ('zoen = "FRA"', None, "did you mean 'zone'"),
        ('zone = "FRX"', None, "FRA"),
        ("request_stream_usage = 7", None, "true or false"),
        ("", ("ECOIMPACT_ZONE", "FRX"), "FRA"),
        ("", ("ECOIMPACT_METHODOLOGY", "nothing"), "ecologits"),
        ("", ("ECOIMPACT_REQUEST_STREAM_USAGE", "perhaps"), "true or false"),
    ],
)
def test_wrong_defaults_are_errors_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str, variable: tuple[str, str] | None, message: str
) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.ecoimpact]\n{file}\n")
    monkeypatch.chdir(tmp_path)
    if variable:
        monkeypatch.setenv(*variable)
    with pytest.raises(ValueError, match=message):
        ecoimpact.instrument()
    assert not runtime.status()["instrumented"]


def test_a_broken_pyproject_is_none_of_our_business(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.ecoimpact\n")
    monkeypatch.chdir(tmp_path)
    ecoimpact.instrument()
    assert runtime.status()["instrumented"]


IMPORT_ORDER = """
import sys
sys.path.insert(0, {here!r})
import ecoimpact
from server import Server, as_json, sse
import payloads as p
{body}
"""


def in_a_new_process(body: str) -> str:
    code = IMPORT_ORDER.format(here=str(Path(__file__).parent), body=body)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_instrument_imports_no_sdk_and_catches_those_imported_later() -> None:
    out = in_a_new_process("""
ecoimpact.instrument()
heavy = {"openai", "anthropic", "numpy", "pydantic", "httpx", "httpx2", "rich", "typer"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
import openai, anthropic
server = Server()
server.reset(as_json(p.chat()))
client = openai.OpenAI(api_key="test", base_url=server.url)
print(type(client.chat.completions.create(model=p.MODEL, messages=[]).impacts).__name__)
server.reset(as_json(p.message()))
claude = anthropic.Anthropic(api_key="test", base_url=server.url)
print(type(claude.messages.create(model=p.CLAUDE, max_tokens=9, messages=[]).impacts).__name__)
client.close(); claude.close(); server.close()
""")
    assert out.split() == ["Impacts", "Impacts"]


def test_importing_the_package_loads_nothing_else() -> None:
    out = in_a_new_process("""
import subprocess
code = "import sys; before = set(sys.modules); import ecoimpact; print(*(sorted(set(sys.modules) - before)))"
print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
""")
    others = {name.partition(".")[0] for name in out.split()} - sys.stdlib_module_names
    assert others == {"ecoimpact"}
    assert {name for name in out.split() if name.startswith("ecoimpact")} == {"ecoimpact"}


def test_the_module_level_client_is_watched_too() -> None:
    out = in_a_new_process("""
import openai
ecoimpact.instrument("openai")
server = Server()
server.reset(as_json(p.chat()))
openai.api_key, openai.base_url = "test", server.url + "/"
print(openai.chat.completions.create(model=p.MODEL, messages=[]).impacts.energy.unit)
openai._client._client.close() if hasattr(openai, "_client") and hasattr(openai._client, "_client") else None
server.close()
import os; sys.stdout.flush(); os._exit(0)
""")
    assert out.split() == ["kWh"]


def test_an_answer_travels_with_its_impacts(client: openai.OpenAI) -> None:
    ecoimpact.instrument()
    response = ask(client)
    impacts = response.impacts
    for twin in (pickle.loads(pickle.dumps(response)), copy.copy(response), copy.deepcopy(response), response.model_copy()):
        assert twin == response
        assert twin.impacts == impacts
        assert twin.impacts.energy == impacts.energy
    assert "impacts" not in response.model_dump()
    assert "impacts" not in response.model_dump_json()
    assert "impacts" not in repr(response)


def test_reading_early_gives_an_estimate_and_the_end_the_exact_figure(client: openai.OpenAI, server: Server) -> None:
    ecoimpact.instrument()
    server.reset(lambda _request: sse(p.chat_chunks(usage=True), done=True))
    early = late = None
    stream = ask(client, stream=True, stream_options={"include_usage": True})
    for chunk in stream:
        if chunk.choices and chunk.choices[0].finish_reason:
            early = chunk.impacts
            assert [warning.code for warning in early.warnings if "estimated" in warning.code]
            early_energy = early.energy
        late = chunk
    assert early is not None
    assert late is not None
    assert not [warning for warning in late.impacts.warnings if "estimated" in warning.code]
    assert late.impacts.energy.value.min > early_energy.value.max
    assert stream.impacts == late.impacts
    assert early.energy == early_energy, "what was read does not change afterwards"


def test_a_finish_chunk_read_after_the_end_has_the_exact_figure(client: openai.OpenAI, server: Server) -> None:
    ecoimpact.instrument()
    server.reset(lambda _request: sse(p.chat_chunks(usage=True), done=True))
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    finish = next(chunk for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason)
    assert finish.impacts == chunks[-1].impacts


def test_status_tells_what_is_watched(client: openai.OpenAI) -> None:
    assert not runtime.status()["instrumented"]
    ecoimpact.instrument("openai", zone="FRA")
    ask(client)
    status = runtime.status()
    assert status["zone"] == "FRA"
    assert status["providers"]["openai"]["enabled"]
    assert not status["providers"]["anthropic"]["enabled"]
    assert "openai._base_client:SyncAPIClient.request" in status["providers"]["openai"]["patched"]
    json.dumps(status)


def test_every_required_function_exists_in_this_version_of_the_sdks() -> None:
    ecoimpact.instrument()
    elsewhere = {"litellm"}  # has an environment of its own, and this test there
    for name, provider in all_providers().items():
        for module in {
            target.module for target in provider.targets if target.required and name not in elsewhere
        }:  # some are loaded when they are used
            importlib.import_module(module)
    for name, status in runtime.status()["providers"].items():
        assert status["missing"] == [] or name in elsewhere, name
    roles = {target.role for provider in all_providers().values() for target in provider.targets}
    assert roles == set(Role)

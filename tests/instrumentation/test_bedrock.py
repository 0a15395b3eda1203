"""boto3, whose clients share one method for all services and answer with plain dicts: what holds besides its shapes."""

from __future__ import annotations

import copy
import gc
import inspect
import json
import socket
import subprocess
import sys
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.client
import clients
import pytest
import shapes_bedrock as shapes
from botocore.config import Config
from botocore.eventstream import EventStream
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoCredentialsError
from botocore.response import StreamingBody
from botocore.stub import Stubber
from server import Received, Reply, Script, Server

import ecoimpact
from ecoimpact import Impacts, Record
from ecoimpact.instrumentation import dict_answers, report
from ecoimpact.instrumentation.call import Call
from ecoimpact.providers import bedrock
from ecoimpact.types import Usage


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    client = make(server.url)
    yield client
    client.close()


@pytest.fixture
def records() -> Iterator[list[Record]]:
    """Those that come of ``instrument("bedrock", exporters=[records.append])``."""
    yield []
    ecoimpact.uninstrument()


def make(url: str) -> Any:
    return clients.make("bedrock", "default", url, asynchronous=False)


def answering(body: Any = None, **headers: str) -> Script:
    """Every answer has an id of its own, as AWS gives it."""
    data = json.dumps(shapes.converse() if body is None else body).encode()
    return lambda _request: Reply(body=data, headers={"x-amzn-requestid": str(uuid.uuid4()), **headers})


def kept_of(records: list[Record]) -> list[Record]:
    assert ecoimpact.flush(10)
    assert ecoimpact.drops() == {}
    return records


FUNCTIONS = ((botocore.client.BaseClient, "_make_api_call"), (EventStream, "close"))


def test_a_client_made_before_is_watched_and_uninstrument_restores_everything(
    server: Server, client: Any, records: list[Record]
) -> None:
    server.reset(answering())
    before = [vars(owner)[name] for owner, name in FUNCTIONS]
    ecoimpact.instrument("bedrock", exporters=[records.append])
    during = [vars(owner)[name] for owner, name in FUNCTIONS]
    for bare, watched in zip(before, during, strict=True):
        assert watched is not bare
        assert (watched.__name__, watched.__doc__) == (bare.__name__, bare.__doc__)
        assert inspect.signature(watched) == inspect.signature(bare)
    ecoimpact.instrument("bedrock")
    assert [vars(owner)[name] for owner, name in FUNCTIONS] == during
    assert isinstance(ecoimpact.impacts_of(client.converse(**shapes.ASK)), Impacts)
    ecoimpact.uninstrument()
    assert [vars(owner)[name] for owner, name in FUNCTIONS] == before
    assert ecoimpact.impacts_of(client.converse(**shapes.ASK)) is None
    assert len(kept_of(records)) == 1


def test_wrap_watches_one_client_alone_and_leaves_no_trace(server: Server, records: list[Record]) -> None:
    server.reset(answering())
    one, other = make(server.url), make(server.url)
    ecoimpact.instrument("anthropic", exporters=[records.append])
    assert ecoimpact.wrap(one) is one
    assert isinstance(ecoimpact.impacts_of(one.converse(**shapes.ASK)), Impacts)
    assert ecoimpact.impacts_of(other.converse(**shapes.ASK)) is None
    ecoimpact.instrument("bedrock")
    assert isinstance(ecoimpact.impacts_of(other.converse(**shapes.ASK)), Impacts)
    assert len(kept_of(records)) == 2
    ecoimpact.uninstrument()
    assert not [name for name in vars(one) if "ecoimpact" in name]
    for client in (one, other):
        client.close()


def test_clients_of_other_services_cannot_be_wrapped() -> None:
    with pytest.raises(TypeError, match="bedrock"):
        ecoimpact.wrap(aws("sts", "http://127.0.0.1"))


def aws(service: str, url: str, **options: Any) -> Any:
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client(service, "eu-west-3", endpoint_url=url, **{**keys, **options})


IDENTITY = b"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Account>1</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"""


def test_other_services_and_operations_are_left_alone(
    server: Server, client: Any, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    monkeypatch.setattr(Call, "__init__", lambda *_args: started.append(_args))
    ecoimpact.instrument("bedrock", exporters=[records.append])
    sts, s3 = aws("sts", server.url), aws("s3", server.url)
    server.reset(Reply(body=IDENTITY, content_type="text/xml"))
    assert sts.get_caller_identity()["Account"] == "1"
    server.reset(Reply(body=b"a file", content_type="text/plain"))
    body = s3.get_object(Bucket="b", Key="k")["Body"]
    assert body.read() == b"a file"
    assert not [name for name in vars(body) if "impacts" in name]
    server.reset(Reply(body=b'{"action": "NONE"}'))
    content = [{"text": {"text": shapes.QUESTION}}]
    checked = client.apply_guardrail(guardrailIdentifier="abc", guardrailVersion="1", source="INPUT", content=content)
    assert checked["action"] == "NONE"
    assert kept_of(records) == []
    assert started == []
    for other in (sts, s3):
        other.close()


def test_another_tool_on_top_does_not_make_two_of_one(
    server: Server, client: Any, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.reset(answering())
    ecoimpact.instrument("bedrock", exporters=[records.append])
    seen: list[str] = []
    inner = vars(botocore.client.BaseClient)["_make_api_call"]

    def theirs(self: Any, operation_name: str, api_params: Any) -> Any:
        seen.append(operation_name)
        return inner(self, operation_name=operation_name, api_params=api_params)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", theirs)
    ecoimpact.uninstrument()
    assert ecoimpact.impacts_of(client.converse(**shapes.ASK)) is None
    ecoimpact.instrument("bedrock", exporters=[records.append])
    assert isinstance(ecoimpact.impacts_of(client.converse(**shapes.ASK)), Impacts)
    assert len(kept_of(records)) == 1
    assert seen == ["Converse", "Converse"]


def test_the_host_tells_the_region() -> None:
    for region, host in (("eu-west-3", "amazonaws.com"), ("cn-north-1", "amazonaws.com.cn")):
        client = boto3.client("bedrock-runtime", region, aws_access_key_id="test", aws_secret_access_key="test")
        request = bedrock.identify(client, ("Converse", shapes.ASK), {})
        assert request is not None
        assert bedrock.PROVIDER.locate(request) == ("bedrock", f"bedrock-runtime.{region}.{host}")
        client.close()


# --- dicts


def test_a_dict_is_found_by_its_id_and_is_the_one_that_boto3_made(
    server: Server, client: Any, records: list[Record]
) -> None:
    server.reset(answering())
    ecoimpact.instrument("bedrock", exporters=[records.append])
    one, other = client.converse(**shapes.ASK), client.converse(**shapes.ASK)
    assert set(one) == {"ResponseMetadata", "output", "stopReason", "usage", "metrics"}
    assert type(one) is dict
    impacts = ecoimpact.impacts_of(one)
    assert isinstance(impacts, Impacts)
    assert impacts is not ecoimpact.impacts_of(other)
    for copied in (copy.deepcopy(one), json.loads(json.dumps(one))):
        assert ecoimpact.impacts_of(copied) is impacts
    assert impacts.energy is not None
    assert impacts.energy.value.min > 0
    odds: list[dict[str, Any]] = [{}, {"ResponseMetadata": None}, {"ResponseMetadata": {"RequestId": 7}}]
    for odd in odds:
        assert ecoimpact.impacts_of(odd) is None


def test_figures_of_dicts_are_kept_for_the_last_ones_alone(
    server: Server, client: Any, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dict_answers, "LIMIT", 3)
    server.reset(answering())
    ecoimpact.instrument("bedrock", exporters=[records.append])
    answers = [client.converse(**shapes.ASK) for _ in range(5)]
    assert [ecoimpact.impacts_of(answer) is None for answer in answers] == [True, True, False, False, False]
    assert len(dict_answers._figures) == 3
    ecoimpact.uninstrument()
    assert not dict_answers._figures


def test_nothing_of_an_answer_is_kept(server: Server, client: Any, records: list[Record]) -> None:
    ecoimpact.instrument("bedrock", exporters=[records.append])
    server.reset(shapes.events(shapes.converse_frames())())
    stream = client.converse_stream(**shapes.ASK)["stream"]
    assert isinstance(stream, EventStream)
    assert "metadata" in list(stream)[-1]
    server.reset(answering(shapes.MESSAGE))
    body = client.invoke_model(modelId=shapes.CLAUDE, body="{}")["body"]
    assert isinstance(body, StreamingBody)
    assert json.loads(body.read()) == shapes.MESSAGE
    impacts = [ecoimpact.impacts_of(stream), ecoimpact.impacts_of(body)]
    kept = [weakref.ref(stream), weakref.ref(body)]
    del stream, body
    gc.collect()
    assert [ref() for ref in kept] == [None, None]
    assert [each is not None and each.energy is not None for each in impacts] == [True, True]
    assert [record.inference.usage.output_tokens for record in kept_of(records)] == [503, 90]


def test_the_service_counts_what_the_cache_was_spared() -> None:
    """As AWS documents it, the input is the sum of three counts; genai-prices wants the hour's cache apart."""
    reader = bedrock.ConverseReader()
    details = [{"ttl": "1h", "inputTokens": 300}, {"ttl": "5m", "inputTokens": 45}]
    usage = {"inputTokens": 10, "outputTokens": 5, "cacheReadInputTokens": 200, "cacheWriteInputTokens": 345}
    assert reader.feed({"metadata": {"usage": {**usage, "cacheDetails": details}, "serviceTier": {"type": "priority"}}})
    assert reader.usage() == Usage(
        input_tokens=555,
        output_tokens=5,
        cached_input_tokens=200,
        cache_write_tokens=345,
        service_tier="priority",
        priced_apart=(("cache_write_1h_tokens", 300),),
    )


def test_a_prompt_router_names_the_model_that_it_chose(server: Server, client: Any, records: list[Record]) -> None:
    server.reset(answering(shapes.converse(trace=shapes.ROUTED)))
    ecoimpact.instrument("bedrock", exporters=[records.append])
    impacts = ecoimpact.impacts_of(
        client.converse(**{**shapes.ASK, "modelId": "arn:aws:bedrock:eu-west-3:1:prompt-router/a"})
    )
    assert impacts is not None
    assert impacts.model is not None
    assert impacts.model.name.startswith("claude-haiku-4-5")


# --- what was sent and what was not


def test_a_request_that_found_nobody_counts_and_one_that_was_never_sent_does_not(records: list[Record]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"  # bound, but nobody listens
        unreachable = make(url)
        ecoimpact.instrument("bedrock", exporters=[records.append])
        with pytest.raises(EndpointConnectionError):
            unreachable.converse(**shapes.ASK)
    anonymous = aws("bedrock-runtime", url, aws_access_key_id=None, aws_secret_access_key=None)
    anonymous._request_signer._credentials = None  # whatever this machine has
    with pytest.raises(NoCredentialsError):
        anonymous.converse(**shapes.ASK)
    found = [(record.inference.status, record.inference.error_type) for record in kept_of(records)]
    assert found == [("error", "EndpointConnectionError")]
    for client in (unreachable, anonymous):
        client.close()


def test_a_server_that_never_answers_is_an_error(server: Server, records: list[Record]) -> None:
    server.reset(Reply(waits=True))
    client = aws("bedrock-runtime", server.url, config=Config(read_timeout=0.2, retries={"total_max_attempts": 1}))
    ecoimpact.instrument("bedrock", exporters=[records.append])
    with pytest.raises(BotoCoreError):
        client.converse(**shapes.ASK)
    server.release.set()
    assert [record.inference.error_type for record in kept_of(records)] == ["ReadTimeoutError"]
    client.close()


def test_what_a_program_stubs_is_watched_like_the_rest(client: Any, records: list[Record]) -> None:
    ecoimpact.instrument("bedrock", exporters=[records.append])
    with Stubber(client) as stub:
        stub.add_response("converse", {**shapes.converse(usage=shapes.PLAIN_USAGE)})
        stub.add_client_error("converse", "ThrottlingException")
        assert ecoimpact.impacts_of(client.converse(**shapes.ASK)) is None  # it has no id
        with pytest.raises(ClientError):
            client.converse(**shapes.ASK)
    assert [record.inference.status for record in kept_of(records)] == ["ok", "error"]


# --- failures of ours


def test_a_failure_of_ours_never_reaches_the_program(
    server: Server, client: Any, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError("ours, not theirs")

    def script(request: Received) -> Reply:
        if request.path.endswith("-stream"):
            return shapes.events(shapes.converse_frames())()
        return Reply(body=json.dumps(shapes.converse()).encode(), headers={"x-amzn-requestid": "r-1"})

    def asked() -> Any:
        body = client.invoke_model(modelId=shapes.NOVA, body="{}")["body"]
        return client.converse(**shapes.ASK), list(client.converse_stream(**shapes.ASK)["stream"]), body.read()

    server.reset(script)
    bare = asked()
    places = [
        *((Call, name) for name in ("__init__", "answer", "end", "inference", "note")),
        *((reader, "feed") for reader in (bedrock.ConverseReader, bedrock.BodyReader)),
        *((dict_answers, name) for name in ("_part", "_remember", "_observe_events", "_observe_body", "hold")),
    ]
    for owner, attribute in places:
        with monkeypatch.context() as patch:
            patch.setattr(owner, attribute, broken)
            ecoimpact.instrument("bedrock")
            assert asked() == bare, attribute
            ecoimpact.uninstrument()
    report.failures.clear()


IMPORTED_LATER = """
import sys
sys.path.insert(0, {here!r})
import ecoimpact
records = []
ecoimpact.instrument(exporters=[records.append])
assert not {{"botocore", "boto3", "urllib3"}} & set(sys.modules), "instrument() imports no SDK"
import boto3
import shapes_bedrock
from botocore.stub import Stubber
client = boto3.client("bedrock-runtime", "eu-west-3", aws_access_key_id="test", aws_secret_access_key="test")
with Stubber(client) as stub:
    answer = shapes_bedrock.converse(usage=shapes_bedrock.PLAIN_USAGE)
    stub.add_response("converse", {{**answer, "ResponseMetadata": {{"RequestId": "r-1"}}}})
    print(type(ecoimpact.impacts_of(client.converse(**shapes_bedrock.ASK))).__name__)
ecoimpact.flush(10)
print(len(records))
"""


def test_boto3_imported_later_is_watched() -> None:
    code = IMPORTED_LATER.format(here=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["Impacts", "1"]

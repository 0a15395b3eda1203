"""One check for every framework: bare and instrumented, its result and its requests are the same, and each is counted once.

A case is a framework, a model of it, a task and a way to call it. What records it must give follows from the API that the
model uses and the requests that the task takes; the table in docs/frameworks.md is made of what the cases did.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import enum
import inspect
import re
from collections.abc import AsyncIterable, Callable, Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple

from harness import collect
from loopback_model import Model
from pydantic import BaseModel
from server import Server

import ecoimpact
from ecoimpact import Record

QUESTION: Final = "When does water boil?"
WAYS: Final = ("sync", "async", "sync, streamed", "async, streamed")
STREAMED: Final = WAYS[2:]
CHAT, RESPONSES, MESSAGES = "chat.completions", "responses", "messages"

Tokens = Mapping[str, tuple[int | None, ...]]

# (input, output, cached, reasoning) tokens, as loopback_model and payloads send them.
ANSWER: Tokens = {CHAT: (23, 503, 16, 441), RESPONSES: (31, 87, 8, 64), MESSAGES: (2065, 317, 2048, 200)}
TOOL_CALL: Tokens = {CHAT: (61, 19, None, None), RESPONSES: (67, 21, 0, 0), MESSAGES: (71, 29, None, None)}
REQUESTS: dict[str, tuple[Tokens, ...]] = {
    (PLAIN := "an answer"): (ANSWER,),
    (SCHEMA := "an answer in a schema"): (ANSWER,),
    (SCHEMA_TOOL := "an answer in a schema, by a tool"): (TOOL_CALL,),
    (TOOL := "a tool, then an answer"): (TOOL_CALL, ANSWER),
    (RETRY := "a tool, refused, and again"): (TOOL_CALL, TOOL_CALL),
    (TOOLS := "a tool, then an answer by a tool"): (TOOL_CALL, TOOL_CALL),
}


class Place(BaseModel):
    """The schema of a structured answer; its only field is the tool's only argument."""

    city: str


def weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: its name
    """
    return f"{city}: rain"


ANSWERS: Final = Model()


class Case(NamedTuple):
    """One cell of the matrix."""

    framework: str
    through: str
    """The framework's name for the model, and what is set on it."""
    api: str
    task: str
    way: str
    make: Callable[[str], Any]
    """Makes what is called, from the server's URL: after ``instrument()``, as a program would."""
    call: Callable[[Any], Any]
    """Calls it: returns the result, or what gives it when awaited."""
    estimated: bool
    """The framework does not ask for the usage of its streams."""
    unseen: bool
    """The framework has an HTTP client of its own, below which nothing is watched."""
    model: Model
    provider: str

    def __str__(self) -> str:
        return f"{self.through}-{self.task}-{self.way}".replace(" ", "_").replace(",", "")


def cases(
    framework: str,
    through: str,
    make: Callable[[str], Any],
    calls: Mapping[str, Callable[[Any], Any]],
    *,
    api: str,
    task: str = PLAIN,
    estimated: Collection[str] = (),
    unseen: bool = False,
    model: Model = ANSWERS,
    provider: str | None = None,
) -> list[Case]:
    """A row of the matrix: one case for each way that the framework has."""
    provider = provider or ("anthropic" if api == MESSAGES else "openai")
    return [
        Case(framework, through, api, task, way, make, call, way in estimated, unseen, model, provider)
        for way, call in calls.items()
    ]


class Row(NamedTuple):
    """What a case did, for the table."""

    case: Case
    requests: int
    records: list[Record]
    figures: tuple[str, ...]
    """The paths to ``.impacts`` in the result."""


ROWS: list[Row] = []
OBSERVED: list[tuple[str, str, tuple[str, ...]]] = []
Check = Callable[[Case], None]


def check(server: Server, runner: asyncio.Runner, case: Case) -> None:
    bare = described(play(server, runner, case))
    wire = requests(server)

    result, records = watched(server, runner, case)
    assert described(result) == bare
    assert requests(server) == wire
    assert [told(record) for record in records] == expected(server, case, estimated=case.estimated)
    ROWS.append(Row(case, len(wire), records, tuple(figures(result))))

    if case.estimated and case.provider != "litellm":  # asked for behind its back: exact, and no difference to be seen
        result, records = watched(server, runner, case, request_stream_usage=True)
        assert described(result) == bare
        assert [told(record) for record in records] == expected(server, case, estimated=False)


def watched(server: Server, runner: asyncio.Runner, case: Case, **settings: Any) -> tuple[Any, list[Record]]:
    """The result of a case, and its records."""
    records: list[Record] = []
    ecoimpact.instrument(exporters=[records.append], **settings)
    try:
        result = play(server, runner, case)
        collect()
        assert ecoimpact.flush(10)
        assert ecoimpact.drops() == {}
    finally:
        ecoimpact.uninstrument()
    return result, records


def play(server: Server, runner: asyncio.Runner, case: Case) -> Any:
    server.reset(case.model)
    if case.way.startswith("sync"):
        result = case.call(case.make(server.url))
        assert not inspect.isawaitable(result)
        return result

    async def main() -> Any:
        return await case.call(case.make(server.url))

    return runner.run(main())


def requests(server: Server) -> list[Any]:
    return [described((request.method, request.path, request.body)) for request in server.received]


def told(record: Record) -> dict[str, Any]:
    inference, usage = record.inference, record.inference.usage
    tokens = (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens, usage.reasoning_tokens)
    return {
        "provider": inference.provider,
        "endpoint": inference.endpoint,
        "stream": inference.stream,
        "status": inference.status,
        "figures": record.assessment.low is not None,
        "estimated": usage.estimated,
        "tokens": None if usage.estimated else tokens,
    }


def expected(server: Server, case: Case, *, estimated: bool) -> list[dict[str, Any]]:
    """One record for each request that the server had, with the tokens that it sent."""
    if case.unseen:
        return []
    return [
        {
            "provider": case.provider,
            "endpoint": case.api,
            "stream": bool(request.body.get("stream")),
            "status": "ok",
            "figures": True,
            "estimated": estimated,
            "tokens": None if estimated else tokens[case.api],
        }
        for tokens, request in zip(REQUESTS[case.task], server.received, strict=True)
    ]


async def listed(items: AsyncIterable[Any]) -> list[Any]:
    return [item async for item in items]


# --- what a program can see of a framework's result

_PASSING = re.compile(
    r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}|0x[0-9a-f]+|\d{4}-\d\d-\d\dT[\d:.+Z]+"
)

_OF_THE_RUN = ("created",)


def described(value: Any, seen: tuple[int, ...] = ()) -> Any:
    """A result's types and values all the way down, but for what differs from run to run: ids, times, addresses."""
    if value is None or isinstance(value, bool | int | bytes | enum.Enum):
        return value
    if isinstance(value, str | type):
        return _PASSING.sub("*", str(value))
    kind = f"{type(value).__module__}.{type(value).__qualname__}"  # some classes are made anew for every call
    if isinstance(value, float | dt.datetime) or id(value) in seen:
        return kind
    seen = (*seen, id(value))
    if isinstance(value, Mapping):
        return (kind, {key: described(item, seen) for key, item in value.items() if key not in _OF_THE_RUN})
    if isinstance(value, list | tuple | set | frozenset):
        return (kind, [described(item, seen) for item in value])
    return (kind, {name: described(item, seen) for name, item in parts(value) if name not in _OF_THE_RUN})


def parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The fields of a pydantic model or a dataclass."""
    if isinstance(value, type):
        names = []
    elif hasattr(type(value), "__pydantic_fields__"):
        names = [*type(value).__pydantic_fields__, *(getattr(value, "__pydantic_extra__", None) or {})]
    elif dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    else:
        names = []
    for name in names:
        if hasattr(value, name):
            yield name, getattr(value, name)


def figures(value: Any, path: str = "", depth: int = 0) -> Iterator[str]:
    """Where in a result the figures can be read."""
    if isinstance(getattr(value, "__dict__", {}).get("impacts"), ecoimpact.Impacts):
        yield f"{path}.impacts"
    elif depth < 4:
        if isinstance(value, Mapping):
            inside = [(f"{path}[{key!r}]", item) for key, item in value.items()]
        elif isinstance(value, list | tuple):
            inside = [(f"{path}[{'-1' if item is value[-1] else '...'}]", item) for item in value]
        else:
            inside = [(f"{path}.{name}", item) for name, item in {**dict(parts(value)), **vars_of(value)}.items()]
        for name, item in inside:
            yield from figures(item, name, depth + 1)


def vars_of(value: Any) -> dict[str, Any]:
    fields = getattr(value, "__dict__", None)
    return fields if isinstance(fields, dict) and not isinstance(value, type) else {}

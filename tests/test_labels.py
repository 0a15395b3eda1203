"""Labels: where they hold, that they never leak, and that nothing a program passes can hurt it or the log."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ecoimpact
from ecoimpact import config, labels
from ecoimpact.labels import MAX_KEY_CHARS, MAX_LABELS, MAX_VALUE_CHARS, capped, clean, current_labels, hashed, label

LIMIT_S = 30.0


def here() -> dict[str, str]:
    return dict(current_labels())


@pytest.fixture(autouse=True)
def _no_label_leaks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(labels, "_warned", set())
    assert here() == {}
    yield
    assert here() == {}


# --- where they hold ----------------------------------------------------------------------------------------------------


def test_scopes_nest_and_the_inner_one_wins() -> None:
    with ecoimpact.label(user="u1", feature="search"):
        with label({"http.route": "/x"}, feature="chat"):
            assert here() == {"user": "u1", "feature": "chat", "http.route": "/x"}
        assert here() == {"user": "u1", "feature": "search"}


def test_an_exception_passes_through_and_leaves_no_label() -> None:
    with pytest.raises(KeyError, match="mine"), label(user="u1"):
        raise KeyError("mine")
    assert here() == {}


def test_one_object_serves_recursion_and_many_threads() -> None:
    shared = label(feature="search")
    with shared, shared:
        with shared:
            assert here() == {"feature": "search"}
        assert here() == {"feature": "search"}
    assert here() == {}

    barrier = threading.Barrier(4, timeout=LIMIT_S)

    def work(number: int) -> list[dict[str, str]]:
        with shared, label(user=number):
            barrier.wait()
            inside = here()
            barrier.wait()
        return [inside, here()]

    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(work, range(4)))
    assert seen == [[{"feature": "search", "user": str(number)}, {}] for number in range(4)]


def test_a_thread_begins_without_labels_and_takes_them_along_in_a_context() -> None:
    with label(user="u1"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(contextvars.Context().run, here).result() == {}
        assert pool.submit(contextvars.copy_context().run, here).result() == {"user": "u1"}


def test_tasks_inherit_and_do_not_disturb_each_other() -> None:
    async def work(number: int, barrier: asyncio.Barrier) -> dict[str, str]:
        async with label(user=number):
            await barrier.wait()
            assert (await asyncio.to_thread(here))["user"] == str(number)
            await barrier.wait()
            return here()

    async def main() -> list[dict[str, str]]:
        barrier = asyncio.Barrier(3)
        with label(app="chat"):
            async with asyncio.timeout(LIMIT_S):
                return await asyncio.gather(*(work(number, barrier) for number in range(3)))

    assert asyncio.run(main()) == [{"app": "chat", "user": str(number)} for number in range(3)]


def test_scopes_that_are_left_out_of_turn_take_only_their_own_label_away() -> None:
    first, second, third = label(a=1), label(b=2), label(c=3)
    for scope in (first, second, third):
        scope.__enter__()
    second.__exit__(None, None, None)
    assert here() == {"a": "1", "c": "3"}
    first.__exit__(None, None, None)
    assert here() == {"c": "3"}
    first.__exit__(None, None, None)  # once too often
    assert here() == {"c": "3"}
    third.__exit__(None, None, None)
    third.__exit__(None, None, None)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=40))
def test_whatever_the_order_the_open_scopes_are_those_that_hold(steps: list[tuple[bool, int]]) -> None:
    """Against the plainest model there is: a list of what is open."""
    scopes = [label(**{f"k{number}": number, "last": number}) for number in range(4)]
    open_numbers: list[int] = []
    with ExitStack() as stack:
        for scope in scopes * 40:
            stack.callback(scope.__exit__, None, None, None)
        for enter, number in steps:
            if enter:
                scopes[number].__enter__()
                open_numbers.append(number)
            else:
                scopes[number].__exit__(None, None, None)
                if number in open_numbers:
                    del open_numbers[len(open_numbers) - 1 - open_numbers[::-1].index(number)]
            expected: dict[str, str] = {}
            for n in open_numbers:
                expected |= {f"k{n}": str(n), "last": str(n)}
            assert here() == expected


def test_leaving_in_another_context_is_no_error_and_changes_nothing_there() -> None:
    scope = label(user="u1")
    other = contextvars.copy_context()
    other.run(scope.__enter__)
    scope.__exit__(None, None, None)
    assert other.run(here) == {"user": "u1"}


def test_async_exit_stacks_and_generators_closed_by_the_collector() -> None:
    async def numbers() -> AsyncIterator[int]:
        with label(inner="yes"):
            yield 1
            yield 2

    async def main() -> dict[str, str]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(label(user="u1"))
            async for _ in numbers():
                break  # closed later, by the event loop, in a context of its own
            return here()

    assert asyncio.run(main())["user"] == "u1"


# --- decorators ---------------------------------------------------------------------------------------------------------


def test_every_kind_of_function_keeps_its_kind_and_its_name() -> None:
    def plain() -> dict[str, str]:
        """Words."""
        return here()

    async def coroutine() -> dict[str, str]:
        return here()

    def generator() -> Iterator[dict[str, str]]:
        yield here()

    async def async_generator() -> AsyncIterator[dict[str, str]]:
        yield here()

    decorate = label(feature="search")
    plain_, coroutine_, generator_, async_generator_ = map(decorate, (plain, coroutine, generator, async_generator))
    assert (plain_.__name__, plain_.__doc__) == ("plain", "Words.")
    assert inspect.iscoroutinefunction(coroutine_)
    assert inspect.isgeneratorfunction(generator_)
    assert inspect.isasyncgenfunction(async_generator_)

    async def collect() -> list[Any]:
        return [item async for item in async_generator_()]

    results = [plain_(), asyncio.run(coroutine_()), *generator_(), *asyncio.run(collect())]
    assert results == [{"feature": "search"}] * 4


def test_a_decorated_function_may_call_itself() -> None:
    @label(feature="search")
    def countdown(number: int) -> list[dict[str, str]]:
        return [here(), *(countdown(number - 1) if number else [])]

    assert countdown(3) == [{"feature": "search"}] * 4


def test_a_generator_has_its_labels_while_it_runs_and_its_reader_has_not() -> None:
    closed = []

    @label(side="generator")
    def echo() -> Generator[Any, Any, str]:
        try:
            got = yield here()
            while got != "stop":
                try:
                    got = yield (got, here())
                except ValueError as error:
                    got = yield (str(error), here())
        finally:
            closed.append(here())
        return "done"

    with label(side="reader"):
        generator = echo()
        assert next(generator) == {"side": "generator"}
        assert here() == {"side": "reader"}
        assert generator.send("a") == ("a", {"side": "generator"})
        assert generator.throw(ValueError("b")) == ("b", {"side": "generator"})
        with pytest.raises(StopIteration, match="done"):
            generator.send("stop")
        other = echo()
        next(other)
        other.close()
        assert here() == {"side": "reader"}
    assert closed == [{"side": "generator"}] * 2


def test_an_async_generator_too() -> None:
    closed = []

    @label(side="generator")
    async def echo() -> Any:
        try:
            got = yield here()
            while True:
                try:
                    got = yield (got, here())
                except ValueError as error:
                    got = yield (str(error), here())
                if got == "stop":
                    return
        finally:
            await asyncio.sleep(0)
            closed.append(here())

    async def main() -> None:
        generator = echo()
        assert await anext(generator) == {"side": "generator"}
        assert here() == {}
        assert await generator.asend("a") == ("a", {"side": "generator"})
        assert await generator.athrow(ValueError("b")) == ("b", {"side": "generator"})
        with pytest.raises(StopAsyncIteration):
            await generator.asend("stop")
        other = echo()
        await anext(other)
        await other.aclose()

    asyncio.run(main())
    assert closed == [{"side": "generator"}] * 2


@pytest.mark.parametrize("wrong", [int, "text", None])
def test_what_is_no_function_is_not_decorated(wrong: Any) -> None:
    with pytest.raises(TypeError, match="decorates functions"):
        label(a=1)(wrong)


# --- what they may hold -------------------------------------------------------------------------------------------------


class Mute:
    def __str__(self) -> str:
        raise RuntimeError("secret words")


def test_values_become_text_and_nothing_is_no_label() -> None:
    with label(number=7, yes=True, nothing=None, empty=""):
        assert here() == {"number": "7", "yes": "True"}


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.binary()), max_size=8))
def test_whatever_is_passed_a_label_is_short_and_printable(given_labels: dict[str, Any]) -> None:
    with label(given_labels):
        for name, value in here().items():
            assert 0 < len(name) <= MAX_KEY_CHARS
            assert 0 < len(value) <= MAX_VALUE_CHARS
            for text in (name, value):
                assert not set(text) & set("\x00\x1b\n\r\t\x7f\x85\u2028\u2029\u202e")
                text.encode()  # no lone surrogates


def test_faults_are_told_once_and_without_the_label(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ecoimpact"):
        for _ in range(3):
            assert clean({"a": Mute(), "b": "secret" * 100})["b"].endswith("…")
            assert len(capped({f"k{number}": "v" for number in range(MAX_LABELS + 5)})) == MAX_LABELS
    assert len(caplog.records) == 3
    assert "secret" not in caplog.text


def test_a_mapping_is_wanted() -> None:
    with pytest.raises(TypeError):
        label(["user"])  # type: ignore[arg-type]


# --- settings -----------------------------------------------------------------------------------------------------------


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=MAX_KEY_CHARS),
        st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=MAX_VALUE_CHARS),
        max_size=8,
    )
)
def test_the_text_form_keeps_every_label(some: dict[str, str]) -> None:
    if all(clean({name: value}) == {name: value} for name, value in some.items()):
        assert config.parse_labels_text(config.format_labels(some), "ECOIMPACT_LABELS") == some


@pytest.mark.parametrize("text", ["app", "app=", "=chat", "app=chat,team", "app=a%0Ab"])
def test_a_wrong_text_is_an_error_at_once(text: str) -> None:
    with pytest.raises(ValueError, match="ECOIMPACT_LABELS"):
        config.parse_labels_text(text, "ECOIMPACT_LABELS")


@pytest.mark.parametrize(
    "wrong", [{"a" * 65: "v"}, {"a": "v" * 257}, {"a": "two\nlines"}, {f"k{n}": "v" for n in range(33)}, ["a"], {1: "v"}]
)
def test_configured_labels_that_would_be_cut_are_errors(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"label|map"):
        ecoimpact.instrument("openai", labels=wrong)


def test_hashing_needs_a_secret_and_never_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="ECOIMPACT_HASH_KEY"):
        ecoimpact.instrument("openai", hash_labels=["user"])
    monkeypatch.setenv("ECOIMPACT_HASH_KEY", "short-secret")
    with pytest.raises(ValueError, match="at least 16") as caught:
        ecoimpact.instrument("openai", hash_labels=["user"])
    assert "short-secret" not in str(caught.value)
    assert "0123456789abcdef" not in repr(config.Settings(hash_key=b"0123456789abcdef"))


def test_the_hash_is_hmac_sha_256() -> None:
    """RFC 4231, test case 2, with its key and data."""
    assert hashed("what do ya want for nothing?", b"Jefe") == "5bdcc146bf60754e6a042426089575c7"

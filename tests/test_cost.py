"""Prices: those of genai-prices, for every kind of token, on the day of the request; unknown is never zero."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from genai_prices import Usage as Tokens
from genai_prices import calc_price, data_snapshot
from genai_prices.types import StartDateConstraint
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoimpact import cost, estimate, price_library
from ecoimpact.cost import cost_usd, price_version
from ecoimpact.types import Usage

DAY = datetime(2026, 11, 20, 12, tzinfo=UTC)
COUNTS = st.integers(min_value=0, max_value=2_000_000)
MODELS = [
    (provider.id, model.id)
    for provider in data_snapshot.get_snapshot().providers
    if provider.id in ("openai", "anthropic", "mistral", "google", "deepseek", "perplexity", "groq", "x-ai", "aws")
    for model in provider.models
]


def asked(
    provider: str, model: str, tokens: dict[str, int], at: datetime = DAY, context: dict[str, str] | None = None
) -> float:
    """The same price, by the library's own front door."""
    price = calc_price(Tokens(**tokens), model, provider_id=provider, genai_request_timestamp=at, price_context=context)
    return float(price.total_price)


def test_published_prices() -> None:
    """USD for a million tokens, from the providers' price pages."""
    million = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    assert cost_usd("openai", ("gpt-4o-mini",), million, started_at=DAY.timestamp()) == pytest.approx(0.15 + 0.60)
    cached = Usage(input_tokens=1_000_000, output_tokens=0, cached_input_tokens=1_000_000)
    assert cost_usd("openai", ("gpt-4o-mini",), cached, started_at=DAY.timestamp()) == pytest.approx(0.075)
    written = Usage(input_tokens=1_000_000, output_tokens=0, cache_write_tokens=1_000_000)
    assert cost_usd("anthropic", ("claude-haiku-4-5",), written, started_at=DAY.timestamp()) == pytest.approx(1.25)
    for_an_hour = Usage(
        input_tokens=1_000_000,
        output_tokens=0,
        cache_write_tokens=1_000_000,
        priced_apart=(("cache_write_1h_tokens", 1_000_000),),
    )
    assert cost_usd("anthropic", ("claude-haiku-4-5",), for_an_hour, started_at=DAY.timestamp()) == pytest.approx(2.0)


@given(model=st.sampled_from(MODELS), counts=st.tuples(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS))
@settings(deadline=None)
def test_every_kind_of_token_costs_what_the_library_says(model: tuple[str, str], counts: tuple[int, ...]) -> None:
    provider, name = model
    plain, cached, written, spoken, thought = counts
    usage = Usage(
        input_tokens=plain + cached + written,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        output_tokens=spoken + thought,
        reasoning_tokens=thought,
    )
    parts = {"cache_read_tokens": cached, "cache_write_tokens": written, "output_reasoning_tokens": thought}
    tokens = {"input_tokens": plain + cached + written, "output_tokens": spoken + thought}
    try:
        expected = asked(provider, name, tokens | {kind: count for kind, count in parts.items() if count})
    except (LookupError, ValueError):
        assert cost_usd(provider, (name,), usage, started_at=DAY.timestamp()) is None
        return
    known_as = next((k for k, v in cost._PRICE_IDS.items() if v == provider), provider)
    found = cost_usd(known_as, (name,), usage, started_at=DAY.timestamp())
    if found is None:
        assert expected == 0  # no price for tokens at all
    else:
        assert found == pytest.approx(expected, rel=1e-12, abs=0)


def test_reasoning_is_priced_once() -> None:
    thought = Usage(input_tokens=100, output_tokens=1_000, reasoning_tokens=900)
    spoken = Usage(input_tokens=100, output_tokens=1_000)
    assert cost_usd("openai", ("gpt-4o-mini",), thought) == cost_usd("openai", ("gpt-4o-mini",), spoken)


def test_a_service_tier_has_its_own_price() -> None:
    flex = Usage(input_tokens=1_000, output_tokens=1_000, service_tier="priority")
    expected = asked(
        "openai", "gpt-4o", {"input_tokens": 1_000, "output_tokens": 1_000}, context={"service_tier": "priority"}
    )
    ordinary = cost_usd("openai", ("gpt-4o",), Usage(input_tokens=1_000, output_tokens=1_000), started_at=DAY.timestamp())
    assert cost_usd("openai", ("gpt-4o",), flex, started_at=DAY.timestamp()) == pytest.approx(expected)
    assert ordinary is not None
    assert expected > ordinary


def _changes() -> Iterator[tuple[str, str, date]]:
    """Models whose price is another one since some day."""
    for provider in data_snapshot.get_snapshot().providers:
        for model in provider.models if provider.id not in cost._PRICE_IDS.values() else ():
            if isinstance(model.prices, list) and isinstance(model.prices[-1].constraint, StartDateConstraint):
                yield provider.id, model.id, model.prices[-1].constraint.start_date


def test_the_price_is_that_of_the_day() -> None:
    """Some prices changed: the day of the request decides, not the day of asking."""
    provider, model, start = next(_changes())
    usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    for year in (start.year - 1, start.year + 1):
        moment = datetime(year, 12, 31, tzinfo=UTC)
        expected = asked(provider, model, {"input_tokens": 1_000_000, "output_tokens": 1_000_000}, at=moment)
        assert cost_usd(provider, (model,), usage, started_at=moment.timestamp()) == pytest.approx(expected)


@pytest.mark.parametrize(
    "usage",
    [
        Usage(),
        Usage(output_tokens=5),
        Usage(input_tokens=5),
        Usage(input_tokens=-1, output_tokens=5),
        Usage(input_tokens=5, output_tokens=2.5),
        Usage(input_tokens=True, output_tokens=5),
        Usage(input_tokens=5, output_tokens=5, cached_input_tokens=6),
        Usage(input_tokens=5, output_tokens=5, cached_input_tokens="many"),
    ],
)
def test_counts_that_are_none_have_no_price(usage: Usage) -> None:
    assert cost_usd("openai", ("gpt-4o-mini",), usage) is None


def test_who_and_what_nobody_knows_has_no_price() -> None:
    usage = Usage(input_tokens=5, output_tokens=5)
    assert cost_usd("ollama", ("llama3",), usage) is None
    assert cost_usd("openai", ("no-such-model", None), usage) is None
    assert cost_usd(None, ("gpt-4o-mini",), usage) is None
    assert cost_usd("openai", ("tts-1",), usage) is None  # billed by the character
    assert cost_usd("openai", (None, "gpt-4o-mini"), usage) is not None


def test_a_model_without_figures_may_have_a_price(monkeypatch: pytest.MonkeyPatch) -> None:
    impacts = estimate("gpt-4o-mini", output_tokens=10, input_tokens=10, provider="openai")
    assert impacts.cost == pytest.approx(10 * 0.15e-6 + 10 * 0.60e-6)
    unknown = estimate("gpt-5-image", output_tokens=10, input_tokens=10, provider="openai")
    assert unknown.has_errors
    assert unknown.cost is not None
    assert estimate("gpt-4o-mini", output_tokens=10, provider="openai").cost is None


def test_without_the_extra_nothing_has_a_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    monkeypatch.setattr(price_library, "_imported", [])
    assert estimate("gpt-4o-mini", output_tokens=10, input_tokens=10, provider="openai").cost is None
    assert price_version() is None


def test_a_library_that_fails_costs_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise AttributeError("changed")

    monkeypatch.setattr(data_snapshot, "get_snapshot", broken)
    assert cost_usd("openai", ("gpt-4o-mini",), Usage(input_tokens=5, output_tokens=5)) is None
    assert price_version() is None


def test_the_price_table_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    name = price_version()
    assert name is not None
    assert name.startswith("genai-prices ")
    updated = data_snapshot.DataSnapshot(
        providers=data_snapshot.get_snapshot().providers, from_auto_update=True, timestamp=datetime(2026, 11, 20)
    )
    monkeypatch.setattr(data_snapshot, "_custom_snapshot", updated)
    assert price_version() == "genai-prices of 2026-11-20"


def test_a_fork_in_the_middle_of_the_import_does_not_lock_the_child() -> None:
    code = """
import os, sys, threading
from importlib.machinery import PathFinder
from ecoimpact import cost
from ecoimpact.types import Usage
entered, go_on = threading.Event(), threading.Event()
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "genai_prices.data":
            spec = PathFinder.find_spec(name, path, target)
            execute = spec.loader.exec_module
            spec.loader.exec_module = lambda module: (entered.set(), go_on.wait(60), execute(module))
            return spec
sys.meta_path.insert(0, Slow())
usage = Usage(input_tokens=1000, output_tokens=1000)
thread = threading.Thread(target=cost.cost_usd, args=("openai", ("gpt-4o-mini",), usage))
thread.start()
assert entered.wait(60)
child = os.fork()  # waits for the import, but not for ever
if child == 0:
    os._exit(0 if cost.cost_usd("openai", ("gpt-4o-mini",), usage) is None else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
go_on.set()
thread.join()
assert cost.cost_usd("openai", ("gpt-4o-mini",), usage)
child = os.fork()
if child == 0:
    os._exit(0 if cost.cost_usd("openai", ("gpt-4o-mini",), usage) else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    subprocess.run(command, check=True, timeout=120)


def test_no_thread_of_ours_loads_an_http_library(tmp_path: Path) -> None:
    """SDKs look for such a library among the loaded modules: one that is half loaded there would break them."""
    program = """
import sys, ecoimpact
ecoimpact.instrument(log_dir=sys.argv[1])
before = {name for name in sys.modules if name.startswith("http")}
assert "httpx2" in before or "httpx" in before
from ecoimpact.price_library import price_library
assert price_library() is not None
loaded = {name for name in sys.modules if name.startswith("http")} - before
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "log")], check=True, timeout=60)


def test_once_the_library_is_there_a_price_loads_nothing_more() -> None:
    """What is loaded later is outside of the lock that a fork waits for: it would lock the child for ever."""
    program = """
import sys
from ecoimpact.price_library import price_library
assert price_library() is not None
from ecoimpact.cost import cost_usd
from ecoimpact.types import Usage
before = set(sys.modules)
for provider, model in (("openai", "gpt-4o"), ("anthropic", "claude-haiku-4-5"), ("google_genai", "gemini-2.5-flash")):
    usage = Usage(1000, 500, 100, 50, cache_write_tokens=10, service_tier="priority", priced_apart=(("web_searches", 1),))
    assert cost_usd(provider, (model,), usage) is not None, model
assert cost_usd("openai", ("no-such-model",), usage) is None
loaded = {name for name in set(sys.modules) - before if name.startswith(("genai_prices", "pydantic"))}
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)

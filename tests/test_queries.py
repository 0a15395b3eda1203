"""What the log adds up to: every dimension, filter and edge, against plain sums over the records."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_logs import START, assert_sums, made, time_of, write

from ecoimpact.records.buckets import DAY, END_OF_TIME, HOUR, MONTH, first_day, moment_of, month_of_day, stretches
from ecoimpact.records.index import Index
from ecoimpact.records.queries import (
    EMPTY,
    Report,
    Totals,
    Where,
    forecast,
    label_keys,
    parse_moment,
    recent,
    report,
    total,
)
from ecoimpact.types import Range

MODELS = ("gpt-4o-mini", "gpt-4o", "claude-opus-4")
ZONES = ("USA", "FRA", None)


def varied(number: int) -> dict[str, Any]:
    """A record that differs from its neighbours in every dimension; some know little."""
    labels = [{"feature": "search"}, {"feature": "chat", "user": f"u{number % 5}"}, {}, {"user": "u1"}][number % 4]
    changes: dict[str, Any] = {"labels": labels, "model": MODELS[number % 3], "zone": ZONES[number % 3]}
    changes |= {"provider": ("openai", "anthropic")[number % 2], "endpoint": ("responses", "messages")[number % 5 == 0]}
    record = made(number * 5, **changes)
    if number % 7 == 0:
        unknown = [name for name in record if name.endswith(("_min", "_central", "_max"))]
        record |= dict.fromkeys([*unknown, "cost_usd", "output_tokens", "latency_s"])
        record |= {"status": "error", "errors": ["unknown-model"], "data_version": "2026-10-01"}
    if number % 3 == 0:
        record |= {"warnings": ["model-arch-not-released", "output-tokens-estimated"], "tokens_estimated": True}
    return record


RECORDS = [varied(number) for number in range(400)]  # 83 days, from the last hours of January on


@pytest.fixture(scope="module", name="index")
def _index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    log_dir = tmp_path_factory.mktemp("log")
    for place in range(4):
        write(log_dir, f"s{place}", RECORDS[place::4], folder=f"2026-02-0{place % 2 + 1}")
    with Index(log_dir) as index:
        index.refresh()
        yield index


def at(record: dict[str, Any]) -> datetime:
    moment = time_of(record)
    assert moment is not None
    return moment


def of_label(key: str) -> Callable[[dict[str, Any]], str]:
    return lambda record: record["labels"].get(key, "(none)")


KEYS: dict[str, Callable[[dict[str, Any]], str]] = {
    "model": lambda record: record["model"],
    "provider": lambda record: record["provider"],
    "endpoint": lambda record: record["endpoint"],
    "zone": lambda record: record["zone"] or "(unknown)",
    "methodology": lambda record: record["methodology"],
    "hour": lambda record: record["time"][:13],
    "day": lambda record: record["time"][:10],
    "month": lambda record: record["time"][:7],
    "label:feature": of_label("feature"),
    "label:user": of_label("user"),
}


def assert_report(found: Report, by: str, records: list[dict[str, Any]]) -> None:
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(KEYS[by](record), []).append(record)
    assert sorted(group.key for group in found.groups) == sorted(groups)
    for group in found.groups:
        assert_sums(group.totals, groups[group.key])
    assert_sums(found.total, records)
    assert found.by == by


# --- reports ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", KEYS)
def test_a_report_has_the_sums_of_the_records(index: Index, by: str) -> None:
    found = report(index, by)
    assert_report(found, by, RECORDS)
    assert found.since is found.until is None
    assert found.first == START
    assert found.last == START + timedelta(hours=399 * 5)
    assert found.editions == ("ecologits-2025-09, data 2026-10-01", "ecologits-2025-09, data 2026-11-22")
    assert found.error_codes == {"unknown-model": 58}
    assert found.warning_codes == {"model-arch-not-released": 134, "output-tokens-estimated": 134}
    assert found.skipped_lines == 0


FILTERS = [
    {"model": "gpt-4o"},
    {"provider": "anthropic"},
    {"endpoint": "messages"},
    {"model": "gpt-4o", "provider": "openai", "endpoint": "responses"},
    {"model": "nothing like it"},
    {"label": ("feature", "chat")},
    {"label": ("user", "u1"), "model": "gpt-4o-mini"},
    {"label": ("user", "(none)")},
    {"label": ("user", "nobody")},
]


def passes(record: dict[str, Any], asked: dict[str, Any]) -> bool:
    key, value = asked.get("label", (None, None))
    return (key is None or record["labels"].get(key, "(none)") == value) and all(
        record[name] == wanted for name, wanted in asked.items() if name != "label"
    )


@pytest.mark.parametrize("asked", FILTERS, ids=str)
def test_filters_let_through_what_they_say(index: Index, asked: dict[str, Any]) -> None:
    records = [record for record in RECORDS if passes(record, asked)]
    for by in KEYS:
        if "label" in asked and (by == "hour" or (by.startswith("label:") and by != f"label:{asked['label'][0]}")):
            with pytest.raises(ValueError, match=r"labels are counted (by day|one by one)"):
                report(index, by, Where(**asked))
        else:
            assert_report(report(index, by, Where(**asked)), by, records)
    assert total(index, Where(**asked)) == report(index, "model", Where(**asked)).total


def test_codes_are_those_of_the_filtered_requests(index: Index) -> None:
    found = report(index, "model", Where(provider="anthropic"))
    assert found.error_codes == {"unknown-model": sum("unknown-model" in r["errors"] for r in RECORDS[1::2])}
    assert report(index, "model", Where(label=("user", "u1"))).error_codes == {}


@settings(max_examples=150, deadline=None)
@given(
    ends=st.tuples(*[st.one_of(st.none(), st.integers(-200, 90 * 24 * 60))] * 2),
    by=st.sampled_from([*KEYS]),
    offset=st.integers(-12, 14),
)
def test_a_period_is_whole_hours_or_with_labels_whole_days(
    index: Index, ends: tuple[int | None, int | None], by: str, offset: int
) -> None:
    zone = timezone(timedelta(hours=offset))
    since, until = (None if m is None else (START + timedelta(minutes=m)).astimezone(zone) for m in ends)
    grain = timedelta(days=1) if by.startswith("label:") else timedelta(hours=1)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    first = None if since is None else epoch + (since - epoch) // grain * grain
    last = None if until is None else epoch + -((epoch - until) // grain) * grain
    found = report(index, by, Where(since=since, until=until))
    assert (found.since, found.until) == (first, last)
    inside = [r for r in RECORDS if (first is None or at(r) >= first) and (last is None or at(r) < last)]
    assert_report(found, by, inside)
    if inside:
        assert (found.first, found.last) == (at(inside[0]), at(inside[-1]))
    else:
        assert found.total == EMPTY
        assert found.first is found.last is None


@given(st.integers(-5, END_OF_TIME + 5), st.integers(-5, 24 * 1200), st.sampled_from([HOUR, DAY, MONTH]))
def test_stretches_cover_a_period_once_in_as_few_buckets_as_fit(since: int, length: int, largest: int) -> None:
    def hour(level: int, bucket: int) -> int:
        return bucket if level == HOUR else 24 * (bucket if level == DAY else first_day(bucket))

    parts = stretches(since, since + length, largest=largest)
    covered = [(hour(level, first), hour(level, end)) for level, first, end in parts]
    assert all(one[1] == other[0] for one, other in itertools.pairwise(covered))
    start, stop = max(since, 0), min(since + length, END_OF_TIME)
    assert (covered[0][0], covered[-1][1]) == (start, stop) if covered else start >= stop
    if largest == MONTH:
        assert sum(end - first for level, first, end in parts if level == DAY) <= 60
        assert sum(end - first for level, first, end in parts if level == HOUR) <= 46


@given(st.integers(0, END_OF_TIME - 1))
def test_months_hold_their_days(hour: int) -> None:
    month = month_of_day(hour // 24)
    assert first_day(month) <= hour // 24 < first_day(month + 1)
    assert (moment_of(hour).year, moment_of(hour).month) == (month // 12, month % 12 + 1)


def test_groups_stand_in_the_order_of_time_or_of_energy(index: Index) -> None:
    days = [group.key for group in report(index, "day").groups]
    assert days == sorted(days)
    energies = [group.totals.energy for group in report(index, "model").groups]
    centrals = [0.0 if energy is None else energy.central for energy in energies]
    assert centrals == sorted(centrals, reverse=True)


def test_missing_figures_are_none_and_never_zero(tmp_path: Path) -> None:
    nothing = dict.fromkeys(
        ["output_tokens", "latency_s", "cost_usd", *(n for n in made() if n.endswith(("_min", "_central", "_max")))]
    )
    free = {"cost_usd": 0.0, "energy_kwh_min": 0.0, "energy_kwh_max": 0.0, "latency_s": 0.0}
    write(tmp_path, "a", [made(0, **nothing, model="silent"), made(1, **nothing | free, model="free")])
    with Index(tmp_path) as index:
        index.refresh()
        groups = {group.key: group.totals for group in report(index).groups}
        silent, free_ = groups["silent"], groups["free"]
        assert (silent.requests, silent.unestimated, silent.unpriced, silent.tokens_unknown, silent.timed) == (
            1,
            1,
            1,
            1,
            0,
        )
        assert silent.energy is silent.gwp is silent.adpe is silent.pe is silent.wcf is None
        assert silent.cost_usd is silent.mean_latency_s is None
        assert (free_.cost_usd, free_.energy, free_.gwp, free_.mean_latency_s) == (0.0, Range(0, 0), None, 0.0)
        assert (free_.unestimated, free_.unpriced, free_.timed) == (0, 0, 1)
        both = report(index).total
        assert (both.cost_usd, both.energy, both.mean_latency_s) == (0.0, Range(0, 0), 0.0)


def test_the_name_of_the_request_serves_where_no_model_was_found(tmp_path: Path) -> None:
    write(tmp_path, "a", [made(0, model=None, request_model="own"), made(0, model=None, request_model=None)])
    with Index(tmp_path) as index:
        index.refresh()
        assert {group.key for group in report(index).groups} == {"own", "(unknown)"}


def test_an_empty_log_gives_an_empty_report(tmp_path: Path) -> None:
    with Index(tmp_path) as index:
        for found in (report(index), report(index, "hour")):
            assert (found.groups, found.total, found.first, found.editions) == ((), EMPTY, None, ())
        index.refresh()
        assert report(index, "day").total == EMPTY
        assert (recent(index), label_keys(index), forecast(index, now=START)) == ([], {}, None)
        with pytest.raises(ValueError, match="no record in this log has any"):
            report(index, "label:user")


@pytest.mark.parametrize("by", ["modle", "", "label:", "label", "date", "cost; DROP TABLE rollup"])
def test_an_unknown_dimension_is_an_error_that_names_the_known(index: Index, by: str) -> None:
    with pytest.raises(ValueError, match="it can be by model, provider") as error:
        report(index, by)
    assert ("did you mean 'model'" in str(error.value)) == (by == "modle")


def test_an_unknown_label_is_an_error_that_names_the_known(index: Index) -> None:
    for ask in (lambda: report(index, "label:team"), lambda: total(index, Where(label=("team", "x")))):
        with pytest.raises(ValueError, match="there is no label 'team': those in this log are 'feature', 'user'"):
            ask()


def test_hostile_names_are_only_names(tmp_path: Path) -> None:
    evil = "'; DROP TABLE rollup; --"
    write(tmp_path, "a", [made(0, model=evil, labels={evil: evil})])
    with Index(tmp_path) as index:
        index.refresh()
        for by, where in (("model", Where(model=evil)), (f"label:{evil}", Where()), ("day", Where(label=(evil, evil)))):
            assert report(index, by, where).total.requests == 1


def test_a_time_without_a_zone_is_an_error() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Where(since=datetime(2026, 1, 1))


# --- totals, recent records, labels ---------------------------------------------------------------------------------------


def test_totals_add_up(index: Index) -> None:
    days = [group.totals for group in report(index, "day").groups]
    assert_sums(sum(days, EMPTY), RECORDS)
    assert EMPTY + EMPTY == EMPTY
    whole = total(index)
    assert whole + EMPTY == EMPTY + whole == whole
    with pytest.raises(TypeError):
        whole + 1


def test_totals_can_be_scaled() -> None:
    twice = Totals(requests=3, timed=2, mean_latency_s=1.5, energy=Range(1, 2), cost_usd=0.5) * 2
    assert twice == Totals(requests=6, timed=4, mean_latency_s=1.5, energy=Range(2, 4), cost_usd=1.0)


def test_recent_records_are_as_in_the_log_newest_first(index: Index) -> None:
    assert recent(index, 10) == RECORDS[:-11:-1]
    assert len(recent(index, 10_000)) == len(RECORDS)
    assert recent(index, 0) == recent(index, -1) == []


def test_labels_are_listed_with_the_number_of_their_values(index: Index) -> None:
    values = {record["labels"]["user"] for record in RECORDS if "user" in record["labels"]}
    assert label_keys(index) == {"feature": 2, "user": len(values)}


# --- forecasts ------------------------------------------------------------------------------------------------------------


def _month(tmp_path: Path, days: dict[int, int]) -> Index:
    """An index of as many requests a day of November 2026 as given, each of 2 kWh and one dollar."""
    each = {"energy_kwh_min": 2.0, "energy_kwh_max": 2.0, "cost_usd": 1.0}
    records = [
        made(0, time=f"2026-11-{day:02}T{hour % 24:02}:00:00.000000Z", labels={"app": "a"}, **each)
        for day, number in days.items()
        for hour in range(number)
    ]
    write(tmp_path, "a", records)
    index = Index(tmp_path)
    index.refresh()
    return index


def test_a_forecast_is_what_is_so_far_and_the_mean_of_the_days_seen(tmp_path: Path) -> None:
    with _month(tmp_path, {5: 2, 6: 4, 7: 6, 8: 1}) as index:
        for where in (Where(), Where(model="gpt-4o-mini"), Where(label=("app", "a"))):
            found = forecast(index, where, now=datetime(2026, 11, 8, 12, tzinfo=UTC))
            assert found is not None
            assert (found.month, found.days_seen, found.days_left) == ("2026-11", 3, 22.5)
            assert (found.so_far.requests, found.so_far.cost_usd) == (13, 13.0)
            assert found.expected.requests == 13 + 90
            assert found.expected.cost_usd == pytest.approx(13 + 4 * 22.5)
            assert found.expected.energy == pytest.approx(2 * (13 + 90))
        assert forecast(index, Where(model="another"), now=datetime(2026, 11, 8, tzinfo=UTC)) is None


def test_a_forecast_looks_back_28_days_and_over_the_turn_of_the_month(tmp_path: Path) -> None:
    with _month(tmp_path, {1: 20, **dict.fromkeys(range(10, 31), 2)}) as index:
        found = forecast(index, now=datetime(2026, 12, 1, 6, tzinfo=timezone(timedelta(hours=1))))
        assert found is not None
        assert (found.month, found.days_seen, found.so_far) == ("2026-12", 28, EMPTY)
        assert found.days_left == 31 - 5 / 24
        assert found.expected.cost_usd == pytest.approx(2 * 21 / 28 * found.days_left)


def test_there_is_no_forecast_before_a_whole_day_was_seen(tmp_path: Path) -> None:
    write(tmp_path, "a", [made(0, time="2026-11-05T10:00:00.000000Z")])
    with Index(tmp_path) as index:
        index.refresh()
        assert forecast(index, now=datetime(2026, 11, 6, 23, tzinfo=UTC)) is None
        found = forecast(index, now=datetime(2026, 11, 7, tzinfo=UTC))
        assert found is not None
        assert (found.days_seen, found.expected.requests) == (1, 1)


# --- points in time -------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 12, 22, 13, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2026-11-30", "2026-11-30T00:00", "2026-12-01T00:00"),
        ("2026-11-30T10:30", "2026-11-30T10:30", "2026-11-30T10:30"),
        ("2026-11-30T10:30Z", "2026-11-30T10:30", "2026-11-30T10:30"),
        ("2026-11-30T10:30+01:00", "2026-11-30T09:30", "2026-11-30T09:30"),
        (" 7d ", "2026-12-15T13:05", "2026-12-15T13:05"),
        ("24h", "2026-12-21T13:05", "2026-12-21T13:05"),
        ("today", "2026-12-22T00:00", "2026-12-23T00:00"),
        ("Yesterday", "2026-12-21T00:00", "2026-12-22T00:00"),
        ("month", "2026-12-01T00:00", "2027-01-01T00:00"),
    ],
)
def test_moments_are_read_as_people_write_them(text: str, start: str, end: str) -> None:
    for now in (NOW, NOW.astimezone(timezone(timedelta(hours=11)))):
        assert parse_moment(text, now=now) == datetime.fromisoformat(f"{start}+00:00")
        assert parse_moment(text, now=now, end=True) == datetime.fromisoformat(f"{end}+00:00")


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "30.11.2026", "7", "7w", "-7d", "9999-12-31", "999999d"])
def test_what_is_no_moment_is_an_error_that_says_what_is(text: str) -> None:
    with pytest.raises(ValueError, match="use a date such as 2026-11-01"):
        parse_moment(text, now=NOW, end=True)

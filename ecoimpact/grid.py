"""Electricity that varies by hour: how much carbon a kWh of a zone carries at the time of a request.

From a file of your own, or asked of a public API. Rules of this file: ``gwp_kgco2eq_per_kwh`` never waits and never raises,
and what it does not know is ``None``; only ``load`` waits, with a bound, and the runtime calls it on its background thread
alone; no lock and no connection outlives a request, so that a fork finds nothing held; what is kept and how often an API is
asked is bounded; odd answers are left out, never guessed at.
"""

from __future__ import annotations

import csv
import json
import math
import os
import time
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

HOUR_S: Final = 3600.0
MAX_GCO2EQ_PER_KWH: Final = 5_000.0
"""No grid emits more; a larger figure is of another unit."""

TIMEOUT_S: Final = 2.0
MAX_BYTES: Final = 1_000_000
MAX_SLOTS: Final = 20_000
MAX_ASKED_PER_MINUTE: Final = 20
PAUSE_AFTER_FAILURE_S: Final = 60.0
PAUSE_WITHOUT_FIGURE_S: Final = 600.0


@runtime_checkable
class GridIntensity(Protocol):
    """Tells the carbon of a kWh by zone and time.

    ``name`` stands in explanations as the source. One that has to fetch its figures has a method ``load(zone, time_s)``
    too, which may wait: it is called on the background thread, before the record of a request is made.
    """

    name: str

    def gwp_kgco2eq_per_kwh(self, zone: str, time_s: float) -> float | None:
        """The figure of a zone (as ``ecoimpact zones`` writes it) at a Unix time, or ``None``. It does not wait."""
        ...


class HourlyFile:
    """Figures of a CSV file with the columns ``time``, ``zone`` and ``gco2eq_per_kwh``; others are not looked at.

    A time is ISO 8601, in UTC where it names no offset, and holds until the next one of its zone, for an hour at most.

    Raises:
        ValueError: no such file, a column is missing, or a row makes no sense; the message names the line.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.name = f"hourly figures of {self.path.name}"
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                series = _series(csv.DictReader(file), self.path)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{self.path} cannot be read: {type(error).__name__}") from None
        if not series:
            raise ValueError(f"{self.path} has no rows")
        self._series = {zone: sorted(figures.items()) for zone, figures in series.items()}

    @property
    def zones(self) -> tuple[str, ...]:
        """The zones of the file."""
        return tuple(sorted(self._series))

    def gwp_kgco2eq_per_kwh(self, zone: str, time_s: float) -> float | None:
        figures = self._series.get(zone, [])
        place = bisect_right(figures, (time_s, math.inf)) - 1
        if place < 0 or not time_s - figures[place][0] < HOUR_S:
            return None
        return figures[place][1]


def _series(table: csv.DictReader[str], path: Path) -> dict[str, dict[float, float]]:
    missing = {"time", "zone", "gco2eq_per_kwh"} - set(table.fieldnames or ())
    if missing:
        raise ValueError(f"{path} has no column {', '.join(sorted(missing))}")
    series: dict[str, dict[float, float]] = {}
    for row in table:
        where = f"{path}, line {table.line_num}"
        begins_s = _unix(row["time"])
        if begins_s is None:
            raise ValueError(f"{where}: a time is like 2026-11-22T13:00Z, not {row['time']!r}")
        try:
            figure = _kg(float(row["gco2eq_per_kwh"]))
        except (TypeError, ValueError):
            figure = None
        if figure is None:
            raise ValueError(f"{where}: gco2eq_per_kwh is from 0 to {MAX_GCO2EQ_PER_KWH:g}, not {row['gco2eq_per_kwh']!r}")
        zone = (row["zone"] or "").strip().upper()
        if not zone:
            raise ValueError(f"{where}: a zone is like FRA or US-CA, not {row['zone']!r}")
        series.setdefault(zone, {})[begins_s] = figure
    return series


def _unix(text: Any) -> float | None:
    """A time as Unix seconds; ``None`` for what is none.

    >>> _unix("1970-01-01T01:00+01:00"), _unix("1970-01-01T00:30"), _unix("soon"), _unix(None)
    (0.0, 1800.0, None, None)
    """
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (AttributeError, ValueError, OverflowError):
        return None


def _kg(grams: Any) -> float | None:
    """A plausible figure in kgCO2eq from one in gCO2eq; ``None`` for what is none."""
    if isinstance(grams, bool) or not isinstance(grams, int | float) or not 0 <= grams <= MAX_GCO2EQ_PER_KWH:
        return None
    return grams / 1000


# --- asked of an API ----------------------------------------------------------------------------------------------------


class Query(NamedTuple):
    """What to ask: an address, its parameters, and headers."""

    url: str
    params: Mapping[str, str]
    headers: Mapping[str, str]


class _Asked(ABC):
    """A public API, and what it answered so far. Needs httpx, of the extra ``grid``."""

    name: str
    slot_s = HOUR_S
    """How long a figure holds."""

    def __init__(self) -> None:
        if find_spec("httpx") is None:
            raise ValueError(f'{self.name} needs httpx: pip install "ecoimpact[grid]"')
        self._known: dict[tuple[str, float], float] = {}
        self._ask_again_s: dict[tuple[str, float], float] = {}
        self._pause_until_s = -math.inf
        self._asked_s: deque[float] = deque(maxlen=MAX_ASKED_PER_MINUTE)
        self._clock = time.monotonic

    @abstractmethod
    def query(self, zone: str, time_s: float) -> Query | None:
        """What to ask for the figure of a zone at a time; ``None`` for a zone that the API does not cover."""

    @abstractmethod
    def figures(self, answer: Any) -> Iterator[tuple[Any, Any]]:
        """The times and figures (gCO2eq/kWh) of an answer, whatever they are. It may raise on odd answers."""

    def gwp_kgco2eq_per_kwh(self, zone: str, time_s: float) -> float | None:
        return self._known.get((zone, time_s - time_s % self.slot_s))

    def load(self, zone: str, time_s: float) -> None:
        """Ask for the figure of a zone at a time, unless it is known, was asked for lately, or the API needs a rest."""
        slot = (zone, time_s - time_s % self.slot_s)
        now_s = self._clock()
        if slot in self._known or now_s < max(self._pause_until_s, self._ask_again_s.get(slot, -math.inf)):
            return
        if len(self._asked_s) == MAX_ASKED_PER_MINUTE and now_s - self._asked_s[0] < 60:
            return
        query = self.query(zone, time_s)
        if query is None:
            return
        self._asked_s.append(now_s)
        self._make_room()
        self._ask_again_s[slot] = now_s + PAUSE_WITHOUT_FIGURE_S
        try:
            found = dict(self._plausible(self.figures(_get(query))))
        except Exception as error:  # noqa: BLE001 - somebody else's server may do anything
            if not _is_about_the_zone(error):
                self._pause_until_s = self._clock() + PAUSE_AFTER_FAILURE_S
            return
        self._known.update(((zone, begins_s), figure) for begins_s, figure in found.items())

    def _plausible(self, figures: Iterator[tuple[Any, Any]]) -> Iterator[tuple[float, float]]:
        for begins, grams in figures:
            begins_s, figure = _unix(begins), _kg(grams)
            if begins_s is not None and figure is not None:
                yield begins_s - begins_s % self.slot_s, figure

    def _make_room(self) -> None:
        if len(self._known) > MAX_SLOTS:
            self._known = {}
        if len(self._ask_again_s) > MAX_SLOTS:
            self._ask_again_s = {}


def _get(query: Query) -> Any:
    import httpx

    ends_s = time.monotonic() + 2 * TIMEOUT_S
    body = bytearray()
    with httpx.stream("GET", query.url, params=query.params, headers=query.headers, timeout=TIMEOUT_S) as response:
        response.raise_for_status()
        for part in response.iter_bytes():
            body += part
            if len(body) > MAX_BYTES or time.monotonic() > ends_s:
                raise ValueError("the answer is too long")
    return json.loads(body)


def _is_about_the_zone(error: Exception) -> bool:
    """Whether other zones may still be asked for: the API answered, and it was this request that it did not like."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status in (400, 404)


class UkCarbonIntensity(_Asked):
    """The Carbon Intensity API of Great Britain's grid operator, for the zone ``GBR``: every half hour, without a key.

    The figure is what was measured, or the forecast of a half hour for which that is not out yet.
    """

    name = "UK Carbon Intensity API, https://carbonintensity.org.uk"
    slot_s = HOUR_S / 2

    def __init__(self, *, base_url: str = "https://api.carbonintensity.org.uk") -> None:
        super().__init__()
        self._base_url = base_url.rstrip("/")

    def query(self, zone: str, time_s: float) -> Query | None:
        if zone != "GBR":
            return None
        begins_s = time_s - time_s % self.slot_s
        first, last = (f"{datetime.fromtimestamp(s, UTC):%Y-%m-%dT%H:%MZ}" for s in (begins_s, begins_s + self.slot_s))
        return Query(f"{self._base_url}/intensity/{first}/{last}", {}, {"Accept": "application/json"})

    def figures(self, answer: Any) -> Iterator[tuple[Any, Any]]:
        for item in answer["data"]:
            measured, forecast = (item["intensity"].get(kind) for kind in ("actual", "forecast"))
            yield item["from"], forecast if measured is None else measured


class ElectricityMaps(_Asked):
    """The API of Electricity Maps: consumption, with the whole life of the power plants, by hour. Needs a key.

    The last day is asked for as a whole, which the free plan covers; an hour before that needs a plan that holds the past.
    ``zones`` maps zones of this package to theirs, where they differ by more than the spelling, such as
    ``{"US-VA": "US-MIDA-PJM"}``.

    Raises:
        ValueError: no key, neither here nor in ``ELECTRICITY_MAPS_API_KEY``; or httpx is missing.
    """

    name = "Electricity Maps, https://www.electricitymaps.com"

    def __init__(
        self,
        api_key: str | None = None,
        *,
        zones: Mapping[str, str] | None = None,
        base_url: str = "https://api.electricitymaps.com",
    ) -> None:
        super().__init__()
        self._api_key = api_key or os.environ.get(KEY_VARIABLE, "")
        if not self._api_key:
            raise ValueError(f"{self.name} needs a key: set {KEY_VARIABLE}")
        if not self._api_key.isascii() or not self._api_key.isprintable():
            raise ValueError(f"{KEY_VARIABLE} holds no key")  # never shown
        self._zones = dict(zones or {})
        self._base_url = base_url.rstrip("/")

    def __repr__(self) -> str:
        return "ElectricityMaps()"

    def query(self, zone: str, time_s: float) -> Query | None:
        theirs = self._zones.get(zone) or _electricity_maps_zone(zone)
        if theirs is None:
            return None
        headers = {"auth-token": self._api_key}
        if time.time() - time_s < 23 * HOUR_S:
            return Query(f"{self._base_url}/v3/carbon-intensity/history", {"zone": theirs}, headers)
        hour = f"{datetime.fromtimestamp(time_s - time_s % HOUR_S, UTC):%Y-%m-%dT%H:%M:%SZ}"
        return Query(f"{self._base_url}/v3/carbon-intensity/past", {"zone": theirs, "datetime": hour}, headers)

    def figures(self, answer: Any) -> Iterator[tuple[Any, Any]]:
        for item in answer.get("history", [answer]):
            yield item["datetime"], item["carbonIntensity"]


KEY_VARIABLE: Final = "ELECTRICITY_MAPS_API_KEY"

# ISO 3166-1: alpha-3 and alpha-2 of countries that have one zone there.
_CODES: Final = (
    "AGO:AO ALB:AL ARE:AE ARG:AR ARM:AM AUT:AT AZE:AZ BEL:BE BGD:BD BGR:BG BHR:BH BIH:BA BLR:BY BOL:BO CHE:CH "
    "CHL:CL CHN:CN CIV:CI COL:CO CRI:CR CYP:CY CZE:CZ DEU:DE DOM:DO DZA:DZ ECU:EC EGY:EG ESP:ES EST:EE FIN:FI "
    "FRA:FR GBR:GB GEO:GE GHA:GH GRC:GR GTM:GT HKG:HK HND:HN HRV:HR HUN:HU IDN:ID IRL:IE IRN:IR IRQ:IQ ISL:IS "
    "ISR:IL JAM:JM JOR:JO KAZ:KZ KEN:KE KHM:KH KOR:KR KWT:KW LBN:LB LKA:LK LTU:LT LUX:LU LVA:LV MAR:MA MDA:MD "
    "MEX:MX MKD:MK MLT:MT MMR:MM MNE:ME MNG:MN NGA:NG NIC:NI NLD:NL NZL:NZ OMN:OM PAK:PK PAN:PA PER:PE POL:PL "
    "PRI:PR PRT:PT PRY:PY QAT:QA ROU:RO RUS:RU SAU:SA SEN:SN SGP:SG SLV:SV SRB:RS SVK:SK SVN:SI THA:TH TTO:TT "
    "TUN:TN TUR:TR TWN:TW TZA:TZ UKR:UA URY:UY USA:US UZB:UZ VEN:VE VNM:VN ZAF:ZA ZMB:ZM ZWE:ZW"
)
_ALPHA_2: Final = dict(pair.split(":") for pair in _CODES.split())


def _electricity_maps_zone(zone: str) -> str | None:
    """Their name of a zone: two letters for a country; provinces of Canada and Nordic bidding zones are written alike.

    >>> [_electricity_maps_zone(zone) for zone in ("FRA", "CA-QC", "SE-SE3", "US-VA", "WOR")]
    ['FR', 'CA-QC', 'SE-SE3', None, None]
    """
    return zone if zone.startswith(("CA-", "SE-", "NO-")) else _ALPHA_2.get(zone)


NAMES: Final[Mapping[str, Callable[[], GridIntensity]]] = {
    "electricity-maps": ElectricityMaps,
    "uk-carbon-intensity": UkCarbonIntensity,
}
"""What settings of text may name; any other text that ends in ``.csv`` is the path of an :class:`HourlyFile`."""


def named(text: str) -> GridIntensity:
    """The source of hourly figures that a setting names.

    Raises:
        ValueError: an unknown name (near ones are listed), a file that cannot be read, or what the source needs is missing.
    """
    source = NAMES.get(text.strip().lower())
    if source is not None:
        return source()
    if text.lower().endswith(".csv"):
        return HourlyFile(Path(text).expanduser())
    near = get_close_matches(text.lower(), NAMES, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(NAMES)}, or the path of a .csv file"
    raise ValueError(f"unknown grid {text!r}; {hint}")

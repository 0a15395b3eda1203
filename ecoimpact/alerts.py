"""Alerts: told once for each budget, period and threshold, whatever number of processes write the log.

Rules that hold in this file: it runs on a background thread, never on a request's path; nothing raises. Who is first to
make the marker of an alert, an empty file in ``<log_dir>/.alerts``, is the one who tells it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from ecoimpact.budgets import Budget, Spending, spending
from ecoimpact.types import Range

logger = logging.getLogger("ecoimpact")

FOLDER: Final = ".alerts"
WEBHOOK_TIMEOUT_S: Final = 5.0
PAUSE_S: Final = 0.002

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True, slots=True)
class Alert:
    """A budget that came to ``percent`` of its limit: ``used_min`` to ``used_max``, in ``unit``.

    ``scope`` is the value of the label that the budget is counted ``per``. ``uncounted`` requests of the period have no
    price, or no figures, and are not in the sum.
    """

    budget: str
    scope: str | None
    percent: float
    share: float
    used: float
    used_min: float
    used_max: float
    limit: float
    unit: str
    period: str
    began: datetime | None
    requests: int
    uncounted: int

    def __str__(self) -> str:
        who = f"{self.budget} ({self.scope})" if self.scope is not None else self.budget
        used = f"{self.used:.4g}"
        if self.used_min != self.used_max:
            used += f" ({self.used_min:.4g} to {self.used_max:.4g})"
        since = f"since {self.began:%Y-%m-%d}" if self.began is not None else "in total"
        text = f"Budget {who}: {self.share:.0%} of {self.limit:g} {self.unit} used {since}: {used} {self.unit}"
        return text + (f"; {self.uncounted} of {self.requests} requests could not be counted" if self.uncounted else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as a webhook gets it; ``text`` is the sentence for people, where chat services look for it."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        began = self.began.isoformat() if self.began is not None else None
        return {"text": str(self), **fields, "began": began}


class Watch:
    """Looks at the budgets of a log and tells the alerts.

    Raises:
        ValueError: a webhook without httpx, or whose variable is not set.
    """

    def __init__(self, log_dir: str | os.PathLike[str], budgets: Sequence[Budget]) -> None:
        self.log_dir = Path(log_dir).absolute()
        self._budgets = tuple(budgets)
        self._webhooks = {budget.name: _address(budget) for budget in budgets if budget.webhook is not None}
        self._warned: set[tuple[str, str]] = set()

    def check(self, now: datetime | None = None) -> list[Alert]:
        """Count what is new in the log, and tell what came to a threshold since. Returns the alerts told."""
        from ecoimpact.records.index import Index

        if not self.log_dir.is_dir():  # nothing could be written
            return []
        with Index(self.log_dir) as index:
            index.refresh(wait_s=1.0, pause=_yield)
            states = spending(index, self._budgets, now=now if now is not None else datetime.now(UTC))
        told = [self._tell(state) for state in states]
        return [alert for alert in told if alert is not None]

    def _tell(self, state: Spending) -> Alert | None:
        """The highest threshold that was reached is told; lower ones that were passed with it are not told any more."""
        reached = [percent for percent in state.budget.alert_at if state.share * 100 >= percent]
        fresh = [(percent, marker) for percent in reached if (marker := self._mark(state, percent)) is not None]
        if state.used is None or not fresh or fresh[-1][0] != reached[-1]:
            return None
        percent, marker = fresh[-1]
        alert = _alert(state, state.used, percent)
        callback = state.budget.on_alert
        address = self._webhooks.get(state.budget.name)
        # What failed is tried again with the next look, the callback and the webhook together.
        delivered = (callback is None or self._attempt(state, "on_alert", lambda: callback(alert))) and (
            address is None or self._attempt(state, "webhook", lambda: _post(address, alert))
        )
        if not delivered:
            with contextlib.suppress(OSError):
                marker.unlink()
            return None
        if callback is None and address is None:
            logger.warning("ecoimpact: %s", alert)
        return alert

    def _mark(self, state: Spending, percent: float) -> Path | None:
        """The marker, if it is ours: nobody told this alert before."""
        marker = self.log_dir / FOLDER / _marker_name(state, percent)
        try:
            with contextlib.suppress(FileExistsError):
                marker.parent.mkdir(mode=0o700)
            os.close(os.open(marker, _CREATE, 0o600))
        except FileExistsError:
            return None
        except OSError as error:
            self._warn_once(state.budget.name, f"no alert can be marked in {marker.parent}: {type(error).__name__}")
            return None
        return marker

    def _attempt(self, state: Spending, what: str, deliver: Any) -> bool:
        try:
            deliver()
        except Exception as error:  # noqa: BLE001 - the host's callback, or somebody else's server
            self._warn_once(state.budget.name, f"its {what} failed with {type(error).__name__}; it is tried again")
            return False
        return True

    def _warn_once(self, name: str, what: str) -> None:
        if (name, what) not in self._warned:
            self._warned.add((name, what))
            with contextlib.suppress(Exception):  # a logging handler of the host may raise
                logger.warning("ecoimpact: budget %r: %s", name, what)


def _alert(state: Spending, used: Range, percent: float) -> Alert:
    budget = state.budget
    return Alert(
        budget=budget.name,
        scope=state.scope,
        percent=percent,
        share=state.share,
        used=used.central,
        used_min=used.min,
        used_max=used.max,
        limit=budget.limit,
        unit=budget.unit.symbol,
        period=budget.period,
        began=state.began,
        requests=state.requests,
        uncounted=state.uncounted,
    )


def _marker_name(state: Spending, percent: float) -> str:
    """Says when and at what; who it is about is only in the hash. Another limit is another budget."""
    budget = state.budget
    identity = (budget.name, budget.unit.symbol, budget.limit, budget.period, budget.label, budget.per, state.scope)
    digest = hashlib.sha256(repr((*identity, budget.bound)).encode("utf-8", "surrogatepass")).hexdigest()[:24]
    began = f"{state.began:%Y-%m-%d}" if state.began is not None else "total"
    return f"{began}-{digest}-{percent:g}"


def _address(budget: Budget) -> str:
    webhook = budget.webhook or ""
    if find_spec("httpx") is None:
        raise ValueError(f'budget {budget.name!r}: a webhook needs httpx: pip install "ecoimpact[webhook]"')
    if not webhook.startswith("env:"):
        return webhook
    variable = webhook.removeprefix("env:")
    address = os.environ.get(variable, "")
    if not address.startswith(("https://", "http://")):
        raise ValueError(f"budget {budget.name!r}: the variable {variable!r} holds no address for its webhook")
    return address


def _post(address: str, alert: Alert) -> None:
    import httpx

    httpx.post(address, json=alert.to_dict(), timeout=WEBHOOK_TIMEOUT_S).raise_for_status()


def _yield() -> None:
    """Let the host's threads go first."""
    time.sleep(PAUSE_S)

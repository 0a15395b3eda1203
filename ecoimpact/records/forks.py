"""A forked child starts with fresh locks, queues and files: what the parent's threads held stays the parent's."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """Something with state that must not be shared with a forked child."""

    def renew(self) -> None:
        """Forget what the parent held. Runs in the child's at-fork hook: it takes no lock, writes no log, never raises."""
        ...


_members: WeakSet[Renewable] = WeakSet()


def renew_in_child(member: Renewable) -> None:
    """Have ``member.renew()`` called in every process forked from now on, for as long as the member lives."""
    _members.add(member)


def _renew_all() -> None:
    for member in list(_members):
        member.renew()


if hasattr(os, "register_at_fork"):  # absent on Windows, which has no fork
    os.register_at_fork(after_in_child=_renew_all)

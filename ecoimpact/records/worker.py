"""A bounded queue with one background thread behind it; and the same without a thread, for who must not wait for one.

Rules that hold in this file:

- ``put`` may run anywhere, in ``__del__`` in the middle of any other line and in signal handlers too. So it never waits for
  a lock: it appends to a deque and, where the thread sleeps, opens a gate. Even the thread is started by the low-level
  call, because ``threading.Thread.start`` takes a lock that the interrupted line may hold.
- Items are taken and delivered under one lock in the order in which they were put, so that a marker put into the queue
  is reached only when all before it is delivered.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from _thread import start_new_thread
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from ecoimpact.records.forks import renew_in_child

T = TypeVar("T")

BATCH_SIZE = 1_000
_NEVER = sys.maxsize


class _Marker(threading.Event):
    """Set when everything that was put before it has been delivered."""


class Worker(Generic[T]):
    """Delivers what is ``put`` in batches, on a daemon thread that is started by the first item.

    ``deliver`` gets lists of at most ``BATCH_SIZE`` items and must not raise. ``on_full`` is called on the putting thread
    for each item that found no room; the newest is the one that goes. Threads that put at the same instant may exceed
    ``capacity`` by one item each. The threads of ``followers``, which get what this one delivers, start together with its
    own: at the end of a process, when the first item may reach them, it is too late to start any.
    """

    def __init__(
        self,
        deliver: Callable[[list[T]], None],
        *,
        capacity: int,
        linger_s: float,
        on_full: Callable[[], None],
        followers: Sequence[Worker[Any]] = (),
    ) -> None:
        self._deliver = deliver
        self._capacity = capacity
        self._linger_s = linger_s
        self._on_full = on_full
        self._followers = followers
        self._stopping = False
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        self._queue: deque[T | _Marker] = deque()
        self._gate = threading.Lock()  # open (released) when there is something to wake up for
        self._gate.acquire()
        self._wake_at = 0  # the length of the queue from which a put opens the gate
        self._hurry = False
        self._running = False
        self._ident: int | None = None
        self._starting = threading.Lock()
        self._delivering = threading.Lock()

    def put(self, item: T) -> None:
        """Queue ``item``. Never blocks, never raises."""
        waiting = len(self._queue)
        if waiting >= self._capacity:
            self._on_full()
            return
        self._queue.append(item)
        if waiting >= self._wake_at:
            self._wake()

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was put before is delivered; whether that happened within ``timeout_s``."""
        if self._ident == threading.get_ident():
            return False  # a sink that flushes would wait for itself
        if not self._running and not self._queue:
            return True
        marker = _Marker()
        self._queue.append(marker)
        self._hurry = True
        if not self._wake():
            self._drain()  # no thread can be had: the caller who waits does the work
        if marker.wait(max(timeout_s, 0.0)):
            return True
        with contextlib.suppress(ValueError, IndexError):  # reached meanwhile, or the queue moved under the search
            self._queue.remove(marker)
        return False

    def stop(self) -> list[T]:
        """End the thread after what it is doing now; gives back what is still queued."""
        self._stopping = True
        left: list[T] = []
        with contextlib.suppress(IndexError):
            while True:
                item = self._queue.popleft()
                if isinstance(item, _Marker):
                    item.set()
                else:
                    left.append(item)
        self._open_gate()
        return left

    def deliver_at_once(self) -> None:
        """From now on the thread gathers no batches: the process is about to end."""
        self._linger_s = 0.0

    def _wake(self) -> bool:
        """Whether there is a thread (now) that will look at the queue."""
        if not self._running and not self._start():
            return False
        self._open_gate()
        return True

    def _open_gate(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is open already
            self._gate.release()

    def _start(self) -> bool:
        if not self._starting.acquire(blocking=False):
            return True  # another thread, or the line that this one interrupted, is at it
        try:
            if not self._running:
                start_new_thread(self._run, (self._gate,))
                self._running = True
                for follower in self._followers:
                    follower._start()
        except RuntimeError:  # no more threads, or the interpreter is going down: what is queued waits for a flush
            return False
        finally:
            self._starting.release()
        return True

    def _run(self, gate: threading.Lock) -> None:
        self._ident = threading.get_ident()
        while gate is self._gate:  # else this is a fork made by a sink, and the child has a queue of its own
            self._wake_at = 0
            if not self._queue and not self._stopping:
                gate.acquire()
            self._wake_at = self._capacity // 2
            if not self._hurry and not self._stopping:
                gate.acquire(timeout=self._linger_s)
            self._wake_at = _NEVER
            self._hurry = False
            self._drain()
            if self._stopping:
                self._running = False
                self._ident = None
                return

    def _drain(self) -> None:
        with self._delivering:
            while self._queue:
                batch: list[T] = []
                marker = self._take(batch)
                if batch:
                    self._deliver(batch)
                del batch  # who waits for the marker may look whether anything is still held
                if marker is not None:
                    marker.set()

    def _take(self, batch: list[T]) -> _Marker | None:
        """Move items into ``batch`` up to the next marker, which is given back."""
        with contextlib.suppress(IndexError):  # emptied by stop()
            while len(batch) < BATCH_SIZE:
                item = self._queue.popleft()
                if isinstance(item, _Marker):
                    return item
                batch.append(item)
        return None


class Inline(Generic[T]):
    """A :class:`Worker` without a thread: ``put`` returns when its item is delivered. For processes that may be frozen or
    ended at any moment, such as serverless functions and children that leave by ``os._exit``.

    A put that interrupts a delivery in its own thread (a finaliser, a signal handler) leaves its item to that delivery.
    """

    def __init__(self, deliver: Callable[[list[T]], None], *, capacity: int, on_full: Callable[[], None]) -> None:
        self._deliver = deliver
        self._capacity = capacity
        self._on_full = on_full
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        self._queue: deque[T] = deque()
        self._lock = threading.RLock()  # entered again by a put that interrupts its own thread, which then sees _busy
        self._busy = False

    def put(self, item: T) -> None:
        """Deliver ``item``, after those that other threads are delivering. Never raises."""
        if len(self._queue) >= self._capacity:  # only a storm of interruptions gets here
            self._on_full()
            return
        self._queue.append(item)
        self._drain()

    def flush(self, timeout_s: float) -> bool:
        """Wait for the deliveries of other threads; whether they were done within ``timeout_s``."""
        if not self._lock.acquire(timeout=max(timeout_s, 0.0)):
            return False
        try:
            if self._busy:
                return False  # a sink that flushes would wait for itself
        finally:
            self._lock.release()
        self._drain()
        return True

    def stop(self) -> list[T]:
        """What is still queued: nothing, but for what a delivery is at right now."""
        left, self._queue = self._queue, deque()
        return list(left)

    def deliver_at_once(self) -> None:
        """It does so already."""

    def _drain(self) -> None:
        while self._queue:
            with self._lock:
                if self._busy:
                    return
                self._busy = True
                try:
                    batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_SIZE))]
                    if batch:
                        self._deliver(batch)
                finally:
                    self._busy = False

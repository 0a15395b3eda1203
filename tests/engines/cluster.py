"""A Spark cluster on loopback: a master and workers, each a process of its own that a test may kill.

Rules: nothing listens anywhere but on 127.0.0.1, every port is a free one, and what was started ends with ``close``. A
worker leads a session of its own, which its executor and the Python processes of its tasks belong to.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

import pyspark

START_S: Final = 300
"""A guard, for a busy machine: what does not come within it never comes."""

MEMORY_MB: Final = 512
"""Of an executor; Spark asks for 450 at least."""

JVM: Final = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
"""For processes that live for seconds and share a core or two."""

ENVIRONMENT: Final = {
    **os.environ,
    "SPARK_LOCAL_IP": "127.0.0.1",
    "SPARK_DAEMON_MEMORY": "192m",
    "SPARK_DAEMON_JAVA_OPTS": JVM,
}
_CLASSES: Final = "org.apache.spark.deploy"


class Daemon:
    """A process of Spark's whose lines say what has come to pass."""

    def __init__(self, log: Path, *arguments: str) -> None:
        spark_home = Path(pyspark.__file__).parent
        self._process = subprocess.Popen(
            [str(spark_home / "bin" / "spark-class"), *arguments],
            env={**ENVIRONMENT, "SPARK_HOME": str(spark_home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            errors="replace",
        )
        self.session: Final = self._process.pid
        self._log = log
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._log.open("w", encoding="utf-8") as log:
            for line in self._process.stdout:
                log.write(line)
                log.flush()
                self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, pattern: str) -> str:
        """The first group of the first line from now on that matches."""
        try:
            while (line := self._lines.get(timeout=START_S)) is not None:
                if found := re.search(pattern, line):
                    return found.group(1)
        except Empty:
            pass
        raise RuntimeError(f"{pattern!r} never came:\n{self._log.read_text('utf-8')[-4000:]}")

    def kill(self) -> None:
        """End the whole session at once."""
        kill_session(self.session)
        self._process.wait()
        self._reading.join(START_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


def kill_session(session: int) -> None:
    """SIGKILL every process of a session; its leader first, so that it starts no other."""
    pids = sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    for pid in (session, *pids):
        with suppress(ProcessLookupError, PermissionError):  # one that ended meanwhile, or somebody else's
            if os.getsid(pid) == session:
                os.kill(pid, signal.SIGKILL)


class Cluster:
    """A standalone master and its workers, of one core each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started = 0
        self.workers: dict[int, Daemon] = {}
        self._master = Daemon(
            folder / "master.log", f"{_CLASSES}.master.Master", "--host", "127.0.0.1", "--port", "0", "--webui-port", "0"
        )
        try:
            self.url = self._master.wait_for(r"Starting Spark master at (spark://127\.0\.0\.1:\d+)")
        except BaseException:
            self.close()
            raise

    def add_workers(self, count: int) -> None:
        """Start some, and wait until the master has them."""
        for worker in [self._start_worker() for _ in range(count)]:
            worker.wait_for(r"(Successfully registered with master)")

    def _start_worker(self) -> Daemon:
        self._started += 1
        work = self._folder / f"worker-{self._started}"
        worker = Daemon(
            self._folder / f"worker-{self._started}.log",
            f"{_CLASSES}.worker.Worker",
            *("--host", "127.0.0.1", "--port", "0", "--webui-port", "0"),
            *("--cores", "1", "--memory", f"{MEMORY_MB}m", "--work-dir", str(work)),
            self.url,
        )
        self.workers[worker.session] = worker
        return worker

    def kill_worker(self, session: int) -> None:
        """Kill a worker with its executor and its tasks."""
        self.workers.pop(session).kill()

    def close(self) -> None:
        for session in list(self.workers):
            self.kill_worker(session)
        self._master.kill()


class Gate:
    """Where tasks say which session they run in, and wait until they are let on: a listener on loopback."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: Final[int] = self._listener.getsockname()[1]
        self._arrivals: SimpleQueue[tuple[int, socket.socket]] = SimpleQueue()
        self._tasks: list[socket.socket] = []
        self._moving = threading.Lock()
        self._is_open = False
        self.passed_open: list[int] = []
        """The sessions of the tasks that came when the gate stood open."""
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                task, _ = self._listener.accept()
            except OSError:
                return  # closed
            self._tasks.append(task)
            with task.makefile() as lines:
                told = lines.readline()
            if not told:  # killed on the way
                continue
            session = int(told)
            with self._moving:
                if self._is_open:
                    self.passed_open.append(session)
                    task.close()
                else:
                    self._arrivals.put((session, task))

    def arrival(self) -> tuple[int, socket.socket]:
        """The next task that waits: its session, and its connection, which lets it on when it is closed."""
        return self._arrivals.get(timeout=START_S)

    def open(self) -> None:
        """Let everybody on, now and later."""
        with self._moving:
            self._is_open = True
            while not self._arrivals.empty():
                self._arrivals.get()[1].close()

    def close(self) -> None:
        self.open()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(START_S)
        for task in self._tasks:
            task.close()


def gated(port: int) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """A function for ``mapInArrow`` whose tasks wait at the gate on a port, then pass all batches on."""

    def run(batches: Iterator[Any]) -> Iterator[Any]:
        import os
        import socket

        with socket.create_connection(("127.0.0.1", port)) as gate:
            gate.sendall(f"{os.getsid(0)}\n".encode())
            gate.recv(1)
        yield from batches

    return run

"""No process loses its records: whole programs under ``ecoimpact run``, in the hosts that Python programs live in.

What the pipeline itself promises is in ``test_records.py``. Nothing here sleeps: tests wait for lines, ports, results and
ends of processes, with limits that only a broken build reaches.
"""

from __future__ import annotations

import contextlib
import http.client
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ecoimpact.cli.embedded_provider import EmbeddedProvider
from ecoimpact.records.reader import read_records

LIMIT_S = 60.0
RUN = [sys.executable, "-m", "ecoimpact.cli", "run"]

# Batches are gathered for longer than any test takes: what is in the log got there because a process ended well.
NEVER_BY_ITSELF = """
from ecoimpact.records.pipeline import Pipeline
Pipeline.__init__.__kwdefaults__["flush_interval_s"] = 3600.0
"""
CLIENT = """
import os, signal, sys, threading
import openai
clients = {}
def call():
    pid = os.getpid()  # a connection must not be shared with a forked child
    clients[pid] = clients.get(pid) or openai.OpenAI()
    clients[pid].chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello!"}])
"""
HEAD = NEVER_BY_ITSELF + CLIENT


class Host:
    """Programs in a directory of their own, that end with the test together with all that they started."""

    def __init__(self, folder: Path, provider: EmbeddedProvider) -> None:
        self.folder = folder
        self.log_dir = folder / "impact-log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "OPENAI_API_KEY": "none",
            "OPENAI_BASE_URL": provider.openai_base_url,
        }
        self._programs: list[subprocess.Popen[str]] = []

    def write(self, name: str, source: str, head: str = HEAD) -> str:
        (self.folder / name).write_text(head + textwrap.dedent(source))
        return name

    def start(self, *command: str, run: bool = True) -> subprocess.Popen[str]:
        """Start a program, in a process group of its own; its output lands in files."""
        number = len(self._programs)
        with (self.folder / f"out{number}.txt").open("w") as out, (self.folder / f"err{number}.txt").open("w") as err:
            program = subprocess.Popen(
                [*(RUN if run else [sys.executable]), *command],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                text=True,
                start_new_session=True,
            )
        self._programs.append(program)
        return program

    def run(
        self, source: str, *, expect: int = 0, run: bool = True, head: str = HEAD, options: tuple[str, ...] = ()
    ) -> str:
        """Run a program to its end; what it printed."""
        number = len(self._programs)
        program = self.start(*options, self.write(f"app{number}.py", source, head), run=run)
        code = program.wait(LIMIT_S)
        err = (self.folder / f"err{number}.txt").read_text()
        assert code == expect, err
        assert err == "", err
        return (self.folder / f"out{number}.txt").read_text()

    def ready(self, pattern: str) -> str:
        """Wait until one of the programs has said something; what the pattern's group matched."""
        deadline = time.monotonic() + LIMIT_S
        while not (found := re.search(pattern, self.output())):
            assert time.monotonic() < deadline, self.output()
            assert all(program.poll() is None for program in self._programs), self.output()
            time.sleep(0.01)
        return found[1]

    def output(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.txt")))

    def stop(self, program: subprocess.Popen[str]) -> int:
        program.terminate()
        return program.wait(LIMIT_S)

    def close(self) -> None:
        for program in self._programs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            program.wait()

    def records(self) -> list[dict[str, Any]]:
        if not self.log_dir.exists():
            return []
        reader = read_records(self.log_dir)
        found = list(reader)
        assert reader.skipped == 0
        assert len({record["id"] for record in found}) == len(found)
        return found

    def pids(self) -> set[int]:
        """Which processes have written."""
        return {int(path.name.split("-")[1]) for path in self.log_dir.glob("*/*.jsonl")}


@pytest.fixture(scope="module")
def provider() -> Iterator[EmbeddedProvider]:
    with EmbeddedProvider(speed=math.inf) as provider:
        yield provider


@pytest.fixture
def host(tmp_path: Path, provider: EmbeddedProvider) -> Iterator[Host]:
    host = Host(tmp_path, provider)
    yield host
    host.close()


# --- ends of processes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "code", "more"),
    [
        ("", 0, 0),
        ("sys.exit(3)", 3, 0),
        ("1 / 0", 1, 0),
        ("import ecoimpact; ecoimpact.flush(60); call(); signal.raise_signal(signal.SIGINT)", -signal.SIGINT, 1),
        ("signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); signal.raise_signal(signal.SIGTERM)", 5, 0),
        ("import atexit; atexit.register(call)", 0, 1),
        ("import atexit, ecoimpact; atexit.register(lambda: (call(), ecoimpact.flush(60), os._exit(6)))", 6, 1),
    ],
)
def test_a_program_that_ends_by_itself_keeps_all(host: Host, end: str, code: int, more: int) -> None:
    program = host.start(host.write("app.py", f"for _ in range(3): call()\n{end}"))
    assert program.wait(LIMIT_S) == code, host.output()
    assert len(host.records()) == 3 + more


@pytest.mark.parametrize(
    "end",
    [
        "os._exit(9)",
        "signal.raise_signal(signal.SIGTERM)",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "os.abort()",
    ],
)
def test_a_program_that_is_ended_keeps_what_was_flushed(host: Host, end: str) -> None:
    source = f"import ecoimpact\nfor _ in range(5): call()\nassert ecoimpact.flush(60)\ncall()\n{end}"
    assert host.start(host.write("app.py", source)).wait(LIMIT_S) != 0
    assert len(host.records()) == 5


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_log_that_is_written_at_once_loses_nothing_in_jobs_that_are_forked_and_ended(host: Host, end: str) -> None:
    host.environment["ECOIMPACT_LOG_MODE"] = "sync"
    host.run(
        f"""
        call()
        for _ in range(2):
            job = os.fork()
            if job == 0:
                call()
                {end}
            os.waitpid(job, 0)
        """,
        options=("python", "-W", "ignore:This process:DeprecationWarning"),
    )
    assert len(host.records()) == 3
    assert len(host.pids()) == 3


def test_a_kill_loses_nothing_that_is_older_than_the_interval(host: Host) -> None:
    # An exporter gets a record after it is in the log; nobody flushes.
    source = """
    import ecoimpact
    number, written = 0, threading.Event()
    def count(record):
        global number
        number += 1
        if number == 5: written.set()
    ecoimpact.instrument(exporters=[count])
    for _ in range(5): call()
    assert written.wait(60)
    for _ in range(3): call()
    os.kill(os.getpid(), signal.SIGKILL)
    """
    program = host.start(host.write("app.py", textwrap.dedent(source), CLIENT))
    assert program.wait(LIMIT_S) == -signal.SIGKILL, host.output()
    assert 5 <= len(host.records()) <= 8


def test_threads_that_run_on_at_the_end(host: Host) -> None:
    # The main thread ends first. Python waits for the first thread; the other ones are cut off wherever they are.
    host.run(
        """
        def many(number, begun):
            for _ in range(number):
                call()
                begun.set()
        events = [threading.Event() for _ in range(3)]
        for number, event in zip((20, 10**9, 10**9), events):
            threading.Thread(target=many, args=(number, event), daemon=number > 20).start()
        for event in events: event.wait()
        """
    )
    assert len(host.records()) >= 20 + 2


def test_eight_processes_at_once_keep_every_record(host: Host) -> None:
    host.write("app.py", "for _ in range(25): call()")
    program = host.start("sh", "-c", "for n in 1 2 3 4 5 6 7 8; do python app.py & done; wait")
    assert program.wait(LIMIT_S) == 0
    assert host.output() == ""
    assert len(host.records()) == 8 * 25
    assert len(host.pids()) == 8


# --- asyncio ------------------------------------------------------------------------------------------------------------


def test_asyncio(host: Host) -> None:
    # Finished, in a task that was cancelled, and still read when the loop is closed: each request is one record.
    program = host.write(
        "app.py",
        textwrap.dedent("""
        import asyncio
        question = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}
        async def streamed(client, begun):
            async for chunk in await client.chat.completions.create(stream=True, **question):
                begun.set()
                await asyncio.Event().wait()
        async def main():
            client = openai.AsyncOpenAI()
            await asyncio.gather(*(client.chat.completions.create(**question) for _ in range(10)))
            begun = [asyncio.Event() for _ in range(3)]
            tasks = [asyncio.create_task(streamed(client, event)) for event in begun]
            for event in begun: await event.wait()
            tasks[0].cancel()
            try:
                await tasks[0]
            except asyncio.CancelledError:
                pass
        asyncio.run(main())
        """),
    )
    assert host.start(program).wait(LIMIT_S) == 0
    assert "ecoimpact" not in host.output()  # the HTTP library does complain of the closed loop
    statuses = Counter(record["status"] for record in host.records())
    assert statuses == {"ok": 10, "abandoned": 3}


# --- children -----------------------------------------------------------------------------------------------------------

FAMILIES = {
    "multiprocessing": """
        children = [context.Process(target=work, args=(n,)) for n in range(2)]
        for child in children: child.start()
        for child in children: child.join()
        assert [child.exitcode for child in children] == [0, 0]
        """,
    "pool": """
        with context.Pool(2) as pool:
            pool.map(work, range(2), chunksize=1)
            pool.close()
            pool.join()
        """,
    "executor": """
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            list(executor.map(work, range(2)))
        """,
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_keep_all(host: Host, method: str, family: str) -> None:
    source = f"""
    import multiprocessing
    def work(number):
        for _ in range(2): call()
    if __name__ == "__main__":
        context = multiprocessing.get_context("{method}")
        call()
        {textwrap.indent(textwrap.dedent(FAMILIES[family]), "        ").strip()}
    """
    host.run(source, options=("python", "-W", "ignore:This process:DeprecationWarning"))
    assert len(host.records()) == 1 + 2 * 2


def test_children_of_billiard_keep_all(host: Host) -> None:
    host.run(
        """
        import billiard
        call()
        child = billiard.get_context("fork").Process(target=call)
        child.start(); child.join()
        assert child.exitcode == 0
        """,
        options=("python", "-W", "ignore:This process:DeprecationWarning"),
    )
    assert len(host.records()) == 2


def test_a_raw_fork_keeps_what_it_flushed_or_what_it_had_at_a_normal_end(host: Host) -> None:
    host.run(
        """
        import ecoimpact
        call()
        for leave in (lambda: ecoimpact.flush(60) and os._exit(0), lambda: sys.exit(0)):
            child = os.fork()
            if child == 0:
                call()
                leave()
            assert os.waitpid(child, 0)[1] == 0
        """,
        options=("python", "-W", "ignore:This process:DeprecationWarning"),
    )
    assert len(host.records()) == 3
    assert len(host.pids()) == 3


# --- gevent -------------------------------------------------------------------------------------------------------------

PATCH = "from gevent import monkey; monkey.patch_all()\n"
GREENLETS = """
import gevent
gevent.joinall([gevent.spawn(call) for _ in range(20)], raise_error=True)
import ecoimpact
assert ecoimpact.flush(60)
gevent.joinall([gevent.spawn(call) for _ in range(5)], raise_error=True)
"""


@pytest.mark.parametrize(
    ("head", "run"),
    [
        (PATCH + HEAD, True),
        (PATCH + "import ecoimpact; ecoimpact.instrument(log_dir='impact-log')\n" + HEAD, False),
        ("import ecoimpact; ecoimpact.instrument(log_dir='impact-log')\n" + PATCH + CLIENT, False),
    ],
    ids=["run", "before ecoimpact", "after ecoimpact"],
)
def test_gevent(host: Host, head: str, run: bool) -> None:
    host.run(GREENLETS, head=head, run=run)
    assert len(host.records()) == 25


# --- web servers --------------------------------------------------------------------------------------------------------


def ask_many(port: str, number: int) -> set[int]:
    """Send requests, four at a time; which processes answered."""

    def ask(_: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=LIMIT_S)
        try:
            connection.request("GET", "/")
            return int(connection.getresponse().read())
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        return set(threads.map(ask, range(number)))


WSGI = """
def app(environ, start_response):
    call()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


@pytest.mark.parametrize(
    "options",
    [
        ("gunicorn", "--worker-class", "sync"),
        ("-m", "gunicorn", "--worker-class", "gthread", "--threads", "4"),
        ("gunicorn", "--worker-class", "sync", "--preload"),
        ("gunicorn", "--worker-class", "gevent"),
    ],
    ids=lambda options: " ".join(options[-2:]),
)
def test_gunicorn(host: Host, options: tuple[str, ...]) -> None:
    host.write("web.py", WSGI)
    server = host.start(*options, "--workers", "2", "--bind", "127.0.0.1:0", "--no-control-socket", "web:app")
    pids = ask_many(host.ready(r"Listening at: http://127\.0\.0\.1:(\d+)"), 12)
    assert host.stop(server) == 0, host.output()
    assert len(host.records()) == 12
    assert host.pids() == pids


ASGI = """
import ecoimpact
client = openai.AsyncOpenAI()

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                ecoimpact.flush()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello!"}])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""


@pytest.mark.parametrize(
    "options",
    [("uvicorn",), ("-m", "uvicorn"), ("uvicorn", "--workers", "2")],
    ids=" ".join,
)
def test_uvicorn_with_a_flush_at_its_end(host: Host, options: tuple[str, ...]) -> None:
    # uvicorn ends by the signal that stopped it, so that nothing runs at its exit: the application flushes.
    host.write("web.py", ASGI)
    server = host.start(*options, "--port", "0", "web:app")
    port = host.ready(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")
    host.ready("(Application startup complete)")
    pids = ask_many(port, 12)
    assert host.stop(server) in (0, -signal.SIGTERM), host.output()
    assert len(host.records()) == 12
    assert host.pids() == pids


# --- celery -------------------------------------------------------------------------------------------------------------

TASKS = """
from celery import Celery

app = Celery("tasks", broker="filesystem://", backend="file://" + os.path.abspath("results"))
folders = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"}
app.conf.broker_transport_options = {**folders, "polling_interval": 0.05}
app.conf.update(worker_hijack_root_logger=False, worker_prefetch_multiplier=1)

@app.task
def ask():
    call()
    return os.getpid()
"""
ASK = """
import os, sys, time
from tasks import ask
results = [ask.delay() for _ in range(int(sys.argv[1]))]
print(*[result.get(timeout=50, interval=0.02) for result in results])
"""


def celery(host: Host, *options: str) -> subprocess.Popen[str]:
    for folder in ("queue", "control", "results"):
        (host.folder / folder).mkdir()
    host.write("tasks.py", TASKS)
    quiet = ("--without-mingle", "--without-gossip", "--without-heartbeat")
    return host.start("python", "-W", "ignore", "-m", "celery", "-A", "tasks", "worker", *quiet, *options)


def ask_celery(host: Host, number: int) -> list[int]:
    """Have tasks done; the processes that did them."""
    asking = host.start(host.write("asking.py", ASK, head=""), str(number), run=False)
    assert asking.wait(LIMIT_S) == 0, host.output()
    return [int(pid) for pid in host.output().split("\n")[-2].split()]


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_celery(host: Host, pool: str) -> None:
    worker = celery(host, "--pool", pool, "--concurrency", "2")
    pids = ask_celery(host, 6)
    assert host.stop(worker) == 0, host.output()
    assert len(host.records()) == 6
    assert host.pids() == set(pids)
    assert (worker.pid in pids) == (pool != "prefork")


def test_a_process_that_celery_replaces_keeps_all(host: Host) -> None:
    celery(host, "--pool", "prefork", "--concurrency", "1", "--max-tasks-per-child", "1")
    (pid,) = ask_celery(host, 1)
    deadline = time.monotonic() + LIMIT_S
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(host.records()) == 1
    assert host.pids() == {pid}


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

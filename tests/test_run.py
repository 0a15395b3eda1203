"""``ecoimpact run``: the program is the same as without, but for the records that it leaves."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ecoimpact.cli import run
from ecoimpact.cli.app import app
from ecoimpact.cli.embedded_provider import EmbeddedProvider
from ecoimpact.providers import all_providers
from ecoimpact.records.reader import read_records

LIMIT_S = 60
UNDER_RUN = [sys.executable, "-m", "ecoimpact.cli", "run"]
CALL = """
import openai
openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello!"}])
"""

Start = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def provider() -> Iterator[EmbeddedProvider]:
    with EmbeddedProvider(speed=math.inf) as provider:
        yield provider


@pytest.fixture
def environment(provider: EmbeddedProvider) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    scripts = os.pathsep.join([str(Path(sys.executable).parent), clean["PATH"]])
    return {**clean, "PATH": scripts, "OPENAI_API_KEY": "none", "OPENAI_BASE_URL": provider.openai_base_url}


@pytest.fixture(name="start")
def _start(tmp_path: Path, environment: dict[str, str]) -> Start:
    def start(*command: object, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(part) for part in command],
            env={**environment, **variables},
            cwd=tmp_path,
            input="from stdin\n",
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    return start


def write(path: Path, source: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source))
    return path


def records(log_dir: Path) -> list[dict[str, Any]]:
    reader = read_records(log_dir)
    found = list(reader)
    assert reader.skipped == 0
    return found


# --- the program is the same --------------------------------------------------------------------------------------------

VIEW = """
import json, os, sys
print(json.dumps({
    "name": __name__, "file": __file__, "argv": sys.argv, "path": sys.path, "environ": dict(os.environ), "cwd": os.getcwd(),
    "modules": sorted(sys.modules), "flags": str(sys.flags), "executable": sys.executable, "stdin": sys.stdin.read(),
    "main": sorted(vars(sys.modules["__main__"])),
}))
"""


@pytest.mark.parametrize(
    ("bare", "under"),
    [
        ([sys.executable, "view.py"], ["view.py"]),
        ([sys.executable, "./sub/view.py"], ["./sub/view.py"]),
        ([sys.executable, "-m", "sub.view"], ["-m", "sub.view"]),
        ([sys.executable, "-msub.view"], ["-msub.view"]),
        ([sys.executable, "folder"], ["folder"]),
        ([sys.executable, "plain"], ["plain"]),
        (["python", "-X", "utf8", "view.py"], ["python", "-X", "utf8", "view.py"]),
        (["./executable"], ["./executable"]),
    ],
    ids=lambda command: " ".join(map(os.path.basename, command)),
)
@pytest.mark.parametrize("python_path", [None, "lib:other", "lib:"])
def test_a_program_sees_what_it_would_see_without(
    start: Start, tmp_path: Path, bare: list[str], under: list[str], python_path: str | None
) -> None:
    for name in ("view.py", "sub/view.py", "folder/__main__.py", "plain"):
        write(tmp_path / name, VIEW)
    write(tmp_path / "executable", f"#!{sys.executable}\n{VIEW}").chmod(0o755)
    (tmp_path / "lib").mkdir()
    variables = {} if python_path is None else {"PYTHONPATH": python_path}
    arguments = ["--log", "its own", "-m", "--", "-x", "", "--help"]
    expected = start(*bare, *arguments, **variables)
    seen = start(*UNDER_RUN, "--zone", "fra", *under, *arguments, **variables)
    assert (seen.returncode, seen.stderr) == (expected.returncode, expected.stderr) == (0, "")
    view, before = json.loads(seen.stdout), json.loads(expected.stdout)
    environ = view["environ"]
    assert environ.pop("ECOIMPACT_LOG") == str(tmp_path / "impact-log")
    assert environ.pop("ECOIMPACT_ZONE") == "FRA"
    assert environ.pop("ECOIMPACT_RUN")
    hook, _, rest = environ.pop("PYTHONPATH").partition(os.pathsep)
    assert (hook, rest) == (run.HOOK, before["environ"].pop("PYTHONPATH", ""))
    assert view == before
    assert not (tmp_path / "impact-log").exists()


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("raise SystemExit(3)", 3),
        ("raise SystemExit('no')", 1),
        ("1 / 0", 1),
        ("import os; os._exit(7)", 7),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("raise KeyboardInterrupt", -signal.SIGINT),
        ("import signal; signal.raise_signal(signal.SIGINT)", -signal.SIGINT),
    ],
)
def test_a_program_ends_as_it_would_without(start: Start, tmp_path: Path, source: str, code: int) -> None:
    script = write(tmp_path / "end.py", source)
    expected = start(sys.executable, script)
    seen = start(*UNDER_RUN, script)
    assert seen.returncode == expected.returncode == code
    assert seen.stderr == expected.stderr


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 5)])
def test_signals_reach_the_program_itself(
    tmp_path: Path, environment: dict[str, str], sent: signal.Signals, code: int
) -> None:
    script = write(
        tmp_path / "wait.py",
        """
        import os, threading
        try:
            print(os.getpid(), flush=True)  # the signal may come at once
            threading.Event().wait()
        except KeyboardInterrupt:
            raise SystemExit(5)
        """,
    )
    command = [*UNDER_RUN, str(script)]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            assert int(program.stdout.readline()) == program.pid
            program.send_signal(sent)
            assert program.wait(LIMIT_S) == code
        finally:
            program.kill()


def test_a_command_has_its_pipes_broken_as_in_a_shell(start: Start) -> None:
    done = start(*UNDER_RUN, "sh", "-c", "yes | head -n 1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "y\n", "")


def test_where_no_process_can_be_replaced_the_exit_code_comes_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "CAN_EXEC", False)
    script = write(tmp_path / "end.py", "raise SystemExit(3)")
    assert CliRunner().invoke(app, ["run", str(script)]).exit_code == 3

    class Interrupted:
        waited = 0

        def wait(self) -> int:
            self.waited += 1
            if self.waited < 3:
                raise KeyboardInterrupt
            return 130

    assert run._wait_for(Interrupted()) == 130  # type: ignore[arg-type]


# --- and its calls are recorded -----------------------------------------------------------------------------------------


def test_the_calls_of_a_program_are_recorded_with_the_settings(start: Start, tmp_path: Path) -> None:
    script = write(tmp_path / "app.py", CALL + "import os; os.chdir('/')\n" + CALL)
    options = ["--log", "my log", "--label", "team=R,D = 100%", "--label", "app=é", "--zone", "FRA"]
    done = start(*UNDER_RUN, *options, "--methodology", "ecologits-0.11", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    written = records(tmp_path / "my log")
    assert len(written) == 2
    for record in written:
        assert record["labels"] == {"team": "R,D = 100%", "app": "é"}
        assert (record["zone"], record["methodology"]) == ("FRA", "ecologits-0.11")
        assert record["output_tokens"] > 0


def test_a_record_is_like_one_of_a_program_that_instruments_itself(start: Start, tmp_path: Path) -> None:
    own = write(tmp_path / "own.py", "import ecoimpact; ecoimpact.instrument(log_dir='own')\n" + CALL)
    assert start(sys.executable, own).returncode == 0
    assert start(*UNDER_RUN, "--log", "under", write(tmp_path / "app.py", CALL)).returncode == 0
    (expected,), (seen,) = records(tmp_path / "own"), records(tmp_path / "under")
    assert list(seen) == list(expected)
    # The time that the answer took changes the figures, whoever watches.
    same = {"provider", "endpoint", "model", "output_tokens", "zone", "methodology", "data_version", "status", "labels"}
    assert {name: seen[name] for name in same} == {name: expected[name] for name in same}


def test_settings_of_the_surroundings_hold_where_no_option_is_given(start: Start, tmp_path: Path) -> None:
    script = write(tmp_path / "app.py", CALL)
    write(tmp_path / "pyproject.toml", '[tool.ecoimpact]\nlog_dir = "from-file"\nzone = "FRA"\nlabels = {a = "file"}\n')
    assert start(*UNDER_RUN, script).returncode == 0
    assert start(*UNDER_RUN, "--label", "b=option", script, ECOIMPACT_LABELS="a=variable,c=3").returncode == 0
    written = records(tmp_path / "from-file")
    assert [record["labels"] for record in written] == [{"a": "file"}, {"a": "variable", "b": "option", "c": "3"}]
    assert {record["zone"] for record in written} == {"FRA"}
    assert start(*UNDER_RUN, script, ECOIMPACT_LOG="from-variable").returncode == 0
    assert len(records(tmp_path / "from-variable")) == 1


def test_what_a_program_names_itself_comes_before_the_options(start: Start, tmp_path: Path) -> None:
    own = "import ecoimpact; ecoimpact.instrument(labels={'app': 'own'})\n"
    for number, source in enumerate((own + CALL, "import openai\n" + own + CALL)):
        script = write(tmp_path / "app.py", source)
        assert start(*UNDER_RUN, "--log", f"log{number}", "--zone", "FRA", "--label", "x=1", script).returncode == 0
        (record,) = records(tmp_path / f"log{number}")
        assert record["labels"]["app"] == "own"
        assert record["zone"] == "FRA"


CHILDREN = {
    "subprocess": "import subprocess, sys; subprocess.run([sys.executable, 'call.py'], check=True)",
    "shell": "import os; os.system('python call.py & python call.py & wait')",
    "exec": "import os, sys; os.execv(sys.executable, [sys.executable, 'call.py'])",
    "another run": f"import subprocess; subprocess.run({UNDER_RUN} + ['--label', 'inner=1', 'call.py'], check=True)",
}


@pytest.mark.parametrize("kind", CHILDREN)
def test_the_calls_of_child_processes_are_recorded(start: Start, tmp_path: Path, kind: str) -> None:
    write(tmp_path / "call.py", CALL + "import os; assert os.environ['PYTHONPATH'].count('autoload') == 1")
    parent = write(tmp_path / "app.py", CHILDREN[kind])
    done = start(*UNDER_RUN, "--label", "outer=1", parent)
    assert (done.returncode, done.stderr) == (0, "")
    written = records(tmp_path / "impact-log")
    assert len(written) == (2 if kind == "shell" else 1)
    inner = {"inner": "1"} if kind == "another run" else {}
    assert {json.dumps(record["labels"]) for record in written} == {json.dumps({"outer": "1", **inner})}


# --- the hook -----------------------------------------------------------------------------------------------------------


def test_nothing_of_ours_is_loaded_before_an_sdk_is(start: Start, tmp_path: Path) -> None:
    script = write(
        tmp_path / "app.py",
        """
        import sys, importlib.util
        ours = lambda: sorted(name for name in sys.modules if name.partition(".")[0] in ("ecoimpact", "wrapt"))
        assert not ours(), ours()
        assert importlib.util.find_spec("nothing_of_this_name") is None
        assert not ours()
        import openai
        assert "ecoimpact.runtime" in sys.modules
        from ecoimpact import runtime
        assert runtime.status()["providers"]["openai"]["patched"]
        """,
    )
    done = start(*UNDER_RUN, "python", "-W", "error", script)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_provider_is_waited_for(start: Start, tmp_path: Path) -> None:
    script = write(tmp_path / "app.py", "import os; print(os.environ['ECOIMPACT_RUN'])")
    done = start(*UNDER_RUN, script)
    assert set(done.stdout.strip().split(",")) == {provider.package for provider in all_providers().values()}


@pytest.mark.parametrize(
    "source",
    [
        "import importlib.util; assert importlib.util.find_spec('openai').name == 'openai'",
        "import importlib; importlib.import_module('openai')",
        "from openai.resources.chat import completions",
        "from threading import Thread\n"
        "threads = [Thread(target=__import__, args=(name,)) for name in ('openai', 'anthropic')]\n"
        "for t in threads: t.start()\nfor t in threads: t.join()",
        "import anthropic",
    ],
)
def test_however_an_sdk_is_imported_its_calls_are_recorded(start: Start, tmp_path: Path, source: str) -> None:
    done = start(*UNDER_RUN, write(tmp_path / "app.py", f"{source}\n{CALL}"))
    assert (done.returncode, done.stderr) == (0, "")
    assert len(records(tmp_path / "impact-log")) == 1


def test_the_hidden_sitecustomize_runs_as_it_would_without(start: Start, tmp_path: Path) -> None:
    write(
        tmp_path / "lib" / "sitecustomize.py",
        "import sys; print(__name__, __file__, __spec__.name); sys.custom = sys.path[:]",
    )
    script = write(
        tmp_path / "app.py", "import sys, sitecustomize; print(sitecustomize.__file__, sys.custom == sys.path[1:])"
    )
    expected = start(sys.executable, script, PYTHONPATH="lib")
    seen = start(*UNDER_RUN, script, PYTHONPATH="lib")
    assert expected.stdout.endswith("True\n")
    # The command is a Python program as well, and has run it once before.
    assert seen.stdout == expected.stdout.splitlines(keepends=True)[0] + expected.stdout
    assert seen.stderr == ""


@pytest.mark.parametrize("source", ["1 / 0", "import nothing_of_this_name", "raise SystemExit(4)", "raise ImportError"])
def test_a_hidden_sitecustomize_that_fails_does_so_as_it_would_without(start: Start, tmp_path: Path, source: str) -> None:
    hidden, script = write(tmp_path / "lib" / "sitecustomize.py", source), write(tmp_path / "app.py", "print('on')")
    hooked = {"ECOIMPACT_RUN": "openai", "ECOIMPACT_LOG": "log"}
    expected = start(sys.executable, script, PYTHONPATH=str(hidden.parent))
    seen = start(sys.executable, script, PYTHONPATH=os.pathsep.join([run.HOOK, str(hidden.parent)]), **hooked)
    assert (seen.returncode, seen.stdout) == (expected.returncode, expected.stdout)
    assert seen.stderr.splitlines()[-1:] == expected.stderr.splitlines()[-1:]


def test_a_python_without_ecoimpact_goes_on_and_says_it_once(start: Start, tmp_path: Path) -> None:
    write(tmp_path / "lib" / "openai.py", "")
    write(tmp_path / "lib" / "anthropic.py", "")
    write(tmp_path / "lib" / "ecoimpact.py", "raise ModuleNotFoundError(\"No module named 'ecoimpact'\")")
    script = write(tmp_path / "app.py", "import openai, anthropic; print('on')")
    path = os.pathsep.join([run.HOOK, "lib"])
    done = start(sys.executable, script, PYTHONPATH=path, ECOIMPACT_RUN="openai,anthropic")
    assert (done.returncode, done.stdout) == (0, "on\n")
    assert done.stderr.count("\n") == 1
    assert "has no ecoimpact" in done.stderr
    quiet = start(sys.executable, "-c", "print('on')", PYTHONPATH=path, ECOIMPACT_RUN="openai,anthropic")
    assert (quiet.stdout, quiet.stderr) == ("on\n", "")


def test_settings_that_are_wrong_where_the_program_runs_cost_one_line(start: Start, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "pyproject.toml", '[tool.ecoimpact]\nzoen = "FRA"\n')
    script = write(tmp_path / "app.py", "import os; os.chdir('elsewhere')\n" + CALL + "print('on')\n" + CALL)
    done = start(*UNDER_RUN, script)
    assert (done.returncode, done.stdout) == (0, "on\n")
    assert done.stderr.count("\n") == 1
    assert "did you mean 'zone'" in done.stderr


def test_a_program_without_stderr_is_not_harmed(start: Start, tmp_path: Path) -> None:
    script = write(tmp_path / "app.py", CALL + "print('on')")
    for closed in ("2>&-", "2>/dev/full"):
        command = f"exec python app.py {closed}"
        hooked = {"PYTHONPATH": run.HOOK, "ECOIMPACT_RUN": "openai", "ECOIMPACT_ZONE": "wrong"}
        assert start("sh", "-c", command, **hooked).stdout == "on\n", script


# --- wrong usage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing argument"),
        (["-m"], "ecoimpact run -m uvicorn app:app"),
        (["-m", "jsn.tool"], "no module 'jsn.tool'. Near: json"),
        (["serve.py"], "no script 'serve.py'. Near: server.py"),
        (["sub/serve.py"], "no script 'sub/serve.py'."),
        (["./srever"], "no script and no command './srever'"),
        (["pyhton3"], "no script and no command 'pyhton3'. Near: python3"),
        (["json.tool"], "ecoimpact run -m json.tool"),
        (["--lable", "a=b", "server.py"], "--label"),
        (["-W", "error", "server.py"], "Known: --log, --label"),
        (["--label", "chatbot", "server.py"], "'chatbot' is not NAME=VALUE"),
        (["--label", "app=", "server.py"], "'app=' is not NAME=VALUE"),
        (["--label", "app=" + "x" * 300, "server.py"], "256"),
        (["--zone", "FRX", "server.py"], "FRA (France)"),
        (["--methodology", "ecologit", "server.py"], "'ecologits'"),
        (["--log", "server.py", "server.py"], "server.py is no directory"),
        (["./noexec"], "cannot be run"),
        (["--log"], "requires an argument"),
        (["--zone", "FRA", "--"], "Missing argument"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    write(tmp_path / "server.py", "")
    write(tmp_path / "noexec", "neither a script nor a program").chmod(0o755)
    result = CliRunner().invoke(app, ["run", *arguments], env={"COLUMNS": "500"})
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


@pytest.mark.parametrize(
    "settings", [{"ECOIMPACT_ZONE": "FRX"}, {"ECOIMPACT_METHODOLOGY": "x"}, {"ECOIMPACT_LABELS": "chatbot"}]
)
def test_wrong_settings_around_it_are_wrong_usage_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    script = write(tmp_path / "server.py", "")
    result = CliRunner().invoke(app, ["run", str(script)], env=settings)
    assert result.exit_code == 2
    assert "settings" in result.stderr

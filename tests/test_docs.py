"""Every example of the documentation runs, and every command is documented.

A block is left out only for a reason that it states: ```python skip="needs a GPU server".
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from ecoimpact.cli.app import app
from ecoimpact.cli.embedded_provider import EmbeddedProvider

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]

# Runs the blocks of one file in one namespace, under the lines that they have in the document.
RUNNER = """
import json, pathlib, sys
namespace = {"__name__": "__main__"}
for name, line, code in json.loads(pathlib.Path(sys.argv[1]).read_text("utf-8")):
    exec(compile("\\n" * line + code, name, "exec"), namespace)
"""


class Block(NamedTuple):
    language: str
    line: int
    code: str


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a document that are to run."""
    found, fence = [], None
    lines: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if fence is None:
            opening = re.fullmatch(r"\s*```(\w*)\s*(.*)", line)
            if opening:
                language, info = opening.groups()
                reason = re.fullmatch(r'skip="[^"]{8,}"', info)
                assert reason or not info, f"{path.name}:{number}: the only thing to say after the language is skip=..."
                fence = Block("" if reason else language, number, "")
        elif line.strip() == "```":
            found.append(fence._replace(code="\n".join(lines) + "\n"))
            fence, lines = None, []
        else:
            lines.append(line)
    assert fence is None, f"{path.name}: a block without end"
    return found


def commands(path: Path) -> list[tuple[int, str]]:
    """The ``ecoimpact`` lines of a document's shell blocks, with their line numbers."""
    found = []
    for block in blocks(path):
        if block.language in ("console", "sh", "bash"):
            code = block.code.replace("\\\n", " ")
            for offset, line in enumerate(code.splitlines(), start=1):
                command = line.removeprefix("$ ")
                if command.startswith("ecoimpact "):
                    found.append((block.line + offset, command))
    return found


@pytest.fixture(scope="module")
def provider() -> Iterator[EmbeddedProvider]:
    with EmbeddedProvider(speed=math.inf) as provider:
        yield provider


@pytest.fixture
def environment(provider: EmbeddedProvider, tmp_path: Path) -> dict[str, str]:
    """A fresh user: an empty home, no keys, no settings, and the SDKs led to the embedded provider."""
    home = tmp_path / "home"
    home.mkdir()
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(home),
        "COLUMNS": "80",
        "NO_PROXY": "127.0.0.1",
        "OPENAI_API_KEY": "none",
        "OPENAI_BASE_URL": provider.openai_base_url,
        "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": provider.base_url,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_python_blocks_run(path: Path, environment: dict[str, str], folder: Path, tmp_path: Path) -> None:
    python = [(str(path), block.line, block.code) for block in blocks(path) if block.language in ("python", "py")]
    if not python:
        return
    (tmp_path / "blocks.json").write_text(json.dumps(python), encoding="utf-8")
    command = [sys.executable, "-W", "error", "-c", RUNNER, str(tmp_path / "blocks.json")]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_commands_run(path: Path, environment: dict[str, str], folder: Path) -> None:
    for line, documented in commands(path):
        # The demo takes as long as real answers would; here it need not.
        command = documented if "--fast" in documented else documented.replace("ecoimpact demo", "ecoimpact demo --fast")
        done = subprocess.run(
            ["sh", "-c", command], env=environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{path.name}:{line}: {documented}\n{done.stdout}{done.stderr}"
        assert done.stdout, f"{path.name}:{line}: {documented} prints nothing"


def test_every_command_and_option_is_documented() -> None:
    documented = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    sections = {part.partition("\n")[0].strip(): part for part in documented.split("\n## ")}
    every_command = dict(_commands(typer.main.get_command(app)))
    for name, command in every_command.items():
        section = sections.get(f"ecoimpact {name}", "")
        assert section, f"docs/cli.md has no section for: ecoimpact {name}"
        options = {opt for param in command.params for opt in param.opts if opt.startswith("--")} - {"--help"}
        rows = set(re.findall(r"^\| `(--[\w-]+)` \|", section, flags=re.MULTILINE))
        assert options == rows, f"docs/cli.md, ecoimpact {name}"
    assert set(sections) - {f"ecoimpact {name}" for name in every_command} == {"# The command line"}


def _commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), f"{path.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), flags=re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{path.name}: {target}"


def test_the_harness_sees_what_it_should(tmp_path: Path) -> None:
    document = tmp_path / "example.md"
    document.write_text(
        '# A\n\n```python\nx = 1\n```\n```python skip="needs a GPU server"\n1/0\n```\n'
        "```console\n$ ecoimpact a \\\n    b\nanswer\n$ other\n```\n"
    )
    assert blocks(document)[0] == Block("python", 3, "x = 1\n")
    assert [block.language for block in blocks(document)] == ["python", "", "console"]
    assert commands(document) == [(10, "ecoimpact a      b")]
    document.write_text("```python no-run\n```\n")
    with pytest.raises(AssertionError, match="only thing"):
        blocks(document)

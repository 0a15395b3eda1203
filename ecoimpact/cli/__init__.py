"""The ``ecoimpact`` command. It needs the extra ``cli`` (typer and rich), which nothing else in the package does."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command line; without the extra, say what to install and exit with 2."""
    missing = [name for name in ("typer", "rich") if find_spec(name) is None]
    if missing:
        print(f'the ecoimpact command needs {" and ".join(missing)}: pip install "ecoimpact[cli]"', file=sys.stderr)
        sys.exit(2)
    from ecoimpact.cli.app import app

    app()

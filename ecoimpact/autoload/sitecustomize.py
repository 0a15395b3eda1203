"""Python runs this at its start in every process below ``ecoimpact run``, in place of a ``sitecustomize`` of the machine.

Rules: any Python 3 can run it, one without ecoimpact too; it costs next to nothing before the program imports the SDK of a
provider, and changes nothing that a program sees: programs that patch the standard library first, as gevent's do, still
can. It never raises. The ``sitecustomize`` that it hides runs as it would have without.
"""

import os
import sys


class _FirstImport:
    """Finds no module. It waits for the first import of one of ``names``, and then calls ``ecoimpact.instrument()``.

    It stays in ``sys.meta_path`` afterwards: taking it out could make an import in another thread skip its neighbour.
    """

    def __init__(self, names: "tuple[str, ...]") -> None:
        self.names = names

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:  # noqa: ARG002 - Python's own
        if name not in self.names:
            return None
        self.names = ()
        _instrument()
        from importlib.util import find_spec

        return find_spec(name)  # again from the start: what was put in just now may wait for this very module


def _instrument() -> None:
    try:
        import ecoimpact

        ecoimpact.instrument()
    except ImportError as error:
        _say("the calls of this program are not recorded: " + sys.executable + " has no ecoimpact (" + str(error) + ")")
    except Exception as error:  # noqa: BLE001 - the program must not suffer
        _say("the calls of this program are not recorded: " + str(error))


def _say(message: str) -> None:
    from contextlib import suppress

    with suppress(Exception):  # there may be no such stream, or nobody at its other end
        sys.stderr.write("ecoimpact: " + message + "\n")


def _step_aside() -> None:
    """Leave the place to the ``sitecustomize`` that comes next, or to the error that Python expects where there is none."""
    # ruff: noqa: PTH100, PTH120 - pathlib would have to be loaded first
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder) != here]
    del sys.modules[__name__]
    __import__(__name__)


if __name__ == "sitecustomize":
    watched = tuple(filter(None, os.environ.get("ECOIMPACT_RUN", "").split(",")))
    if watched:
        sys.meta_path.insert(0, _FirstImport(watched))  # type: ignore[arg-type] # its types would have to be loaded first
    _step_aside()

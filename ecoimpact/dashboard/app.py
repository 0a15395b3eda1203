"""The application: which address gives what. All of it is GET."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ecoimpact.budgets import Budget
from ecoimpact.dashboard import again, downloads, guard, requests, spent
from ecoimpact.dashboard.asked import Asked, Refused, asked, number_of, whole
from ecoimpact.dashboard.live import Live, TooLong
from ecoimpact.dashboard.overview import overview
from ecoimpact.records import queries
from ecoimpact.records.index import Index
from ecoimpact.records.queries import Where

STATIC: Final = Path(str(files("ecoimpact.dashboard").joinpath("static")))

Report = Callable[[Index, str, Where], str]
"""A report by a dimension of a part of the log, as text; ``ecoimpact report`` makes them."""
View = Callable[[Index, Asked, datetime], Any]

REPORT_TYPES: Final = {"csv": "text/csv; charset=utf-8", "html": "text/html; charset=utf-8"}


def create_app(
    log_dir: Path,
    *,
    budgets: Iterable[Budget] = (),
    reports: Mapping[str, Report] | None = None,
    hosts: Iterable[str] = guard.LOOPBACK,
    addresses: bool = False,
    token: str | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    live: Live | None = None,
) -> Starlette:
    """The dashboard of a log as an ASGI application.

    Args:
        log_dir: the directory of the log.
        budgets: budgets to show.
        reports: how a report is made, by format (``csv``, ``html``).
        hosts: names in the ``Host`` header that are answered.
        addresses: whether any numeric address is such a name.
        token: what whoever asks has to show; none is needed on loopback.
        clock: the time, with a time zone.
        live: the index, where somebody else has it.

    Raises:
        FileNotFoundError: there is no such directory.
    """
    site = _Site(live if live is not None else Live(log_dir), tuple(budgets), reports or {}, clock)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        site.live.start()
        try:
            yield
        finally:
            site.live.stop()

    routes = [
        Route("/", lambda _: FileResponse(STATIC / "index.html", media_type="text/html"), name="page"),
        Route("/plotly.min.js", _plotly),
        Mount("/static", StaticFiles(directory=STATIC)),
        *(Route(f"/api/{name}", site.view(name, view)) for name, view in site.views().items()),
        Route("/api/models", site.others),
        Route("/api/requests", site.listed),
        Route("/api/request", site.explained),
        Route("/download/records.{format}", site.records),
        Route("/download/report.{format}", site.report),
    ]
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(guard.Guard, hosts=hosts, addresses=addresses, token=token)],
        exception_handlers={Refused: _refused, TooLong: _too_long, downloads.Busy: _busy},
    )


class _Site:
    """What the answers are made from."""

    def __init__(
        self, live: Live, budgets: tuple[Budget, ...], reports: Mapping[str, Report], clock: Callable[[], datetime]
    ) -> None:
        self.live = live
        self._budgets = budgets
        self._reports = reports
        self._clock = clock

    def views(self) -> dict[str, View]:
        return {
            "overview": lambda index, asked, now: {"log": index.log_dir.name, **overview(index, asked, now=now)},
            "budgets": lambda index, _, now: {"budgets": spent.budgets(index, self._budgets, now=now)},
            "methodologies": lambda index, asked, _: {
                "methodologies": again.by_methodology(queries.combinations(index, asked.where))
            },
        }

    def view(self, name: str, view: View) -> Callable[[Request], Response]:
        """An answer that is made once for each state of the index: whoever has it is told so."""

        def answer(request: Request) -> Response:
            now = self._clock()
            wanted = asked(request.query_params, now=now)
            # Whatever depends on the time of day is as of the last minute.
            state = f"{self.live.version()} {now:%Y%m%d%H%M} {name} {wanted}"
            tag = f'"{hashlib.sha256(state.encode("utf-8", "replace")).hexdigest()[:32]}"'
            if request.headers.get("if-none-match") == tag:
                return Response(status_code=304, headers={"ETag": tag})
            return _json(self._told(lambda index: view(index, wanted, now)), {"ETag": tag})

        return answer

    def others(self, request: Request) -> Response:
        """What other models would have taken for the same tokens."""
        model = request.query_params.get("other_model")
        wanted = asked(request.query_params, now=self._clock())
        found = self._told(lambda index: queries.combinations(index, wanted.where))
        models = again.largest_models(found)
        return _json({"models": again.by_model(found, list(dict.fromkeys([*([model] if model else []), *models])))})

    def listed(self, request: Request) -> Response:
        wanted = asked(request.query_params, now=self._clock())
        number = number_of(request.query_params, "number", 50, requests.MAX_LISTED)
        return _json({"requests": self._told(lambda index: requests.listed(index, whole(wanted), number))})

    def explained(self, request: Request) -> Response:
        record = self._told(lambda index: requests.found(index, request.query_params.get("id", "")))
        return _json(again.explained(record))

    def records(self, request: Request) -> Response:
        format_ = request.path_params["format"]
        if format_ not in downloads.TYPES:
            return PlainTextResponse("Not found", 404)
        wanted = asked(request.query_params, now=self._clock())
        file = _checked(lambda: downloads.records_file(self.live, wanted, format_))
        headers = {"Content-Disposition": f'attachment; filename="ecoimpact-records.{format_}"'}
        return StreamingResponse(downloads.pieces(file), media_type=downloads.TYPES[format_], headers=headers)

    def report(self, request: Request) -> Response:
        format_ = request.path_params["format"]
        if format_ not in self._reports or format_ not in REPORT_TYPES:
            return PlainTextResponse("Not found", 404)
        wanted = asked(request.query_params, now=self._clock())
        text = self._told(lambda index: self._reports[format_](index, wanted.by, wanted.where))
        headers = {"Content-Disposition": f'attachment; filename="ecoimpact-report.{format_}"'}
        return Response(text.encode("utf-8", "replace"), media_type=REPORT_TYPES[format_], headers=headers)

    def _told(self, work: Callable[[Index], Any]) -> Any:
        return _checked(lambda: self.live.ask(work))


def _checked(work: Callable[[], Any]) -> Any:
    """A question that the index cannot answer is the asker's to put otherwise."""
    try:
        return work()
    except Refused:
        raise
    except ValueError as error:
        raise Refused(str(error)) from None


def _json(value: Any, headers: Mapping[str, str] | None = None) -> Response:
    body = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Response(body, media_type="application/json", headers=dict(headers or {}))


def _plotly(_: Request) -> Response:
    path = plotly_script()
    if path is None:
        return PlainTextResponse('The chart needs plotly: pip install "ecoimpact[dashboard]"', 404)
    return FileResponse(path, media_type="text/javascript", headers={"Cache-Control": "private, max-age=3600"})


@cache
def plotly_script() -> Path | None:
    """The script in the installed package, which need not be imported for it."""
    from importlib.util import find_spec

    spec = find_spec("plotly")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / "package_data" / "plotly.min.js"
        if path.is_file():
            return path
    return None


def _refused(_: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), 400)


def _too_long(_: Request, __: Exception) -> Response:
    return PlainTextResponse("This took too long: choose a shorter period.", 503)


def _busy(_: Request, __: Exception) -> Response:
    return PlainTextResponse("Enough is being downloaded: try again in a while.", 503, {"Retry-After": "10"})

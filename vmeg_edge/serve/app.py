"""The routes: the page with its parts, what it polls, and what machines read."""

from __future__ import annotations

import json
from importlib import resources

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from vmeg_edge.serve import metrics
from vmeg_edge.serve.guard import Guard
from vmeg_edge.serve.view import LiveView, counts

_PARTS = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/trace.js": ("trace.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


def app_of(view: LiveView, *, token: str | None, cookie: str, hosts: frozenset[str] | None) -> ASGIApp:
    """The guarded application. Its handlers run on the server's own thread, pictures are encoded there too."""
    registry = metrics.registry_of(view)

    async def live(request: Request) -> Response:
        return JSONResponse(view.look(_number(request, "seen"), _number(request, "since")))

    async def status(_: Request) -> Response:
        now = view.now()
        result = None if now.result is None else now.result.to_json()
        return Response(json.dumps({**counts(now), "result": result}, default=str), media_type="application/json")

    async def health(_: Request) -> Response:
        now = view.now()
        said = {"signal": now.signal, "reason": now.signal_reason}
        return JSONResponse(said, status_code=503 if now.signal == "none" else 200)

    async def prometheus(_: Request) -> Response:
        return Response(metrics.text(registry), headers={"Content-Type": metrics.CONTENT_TYPE})

    routes = [
        Route("/live.json", live),
        Route("/status.json", status),
        Route("/healthz", health),
        Route("/metrics", prometheus),
        *(_part(path, name, kind) for path, (name, kind) in _PARTS.items()),
    ]
    return Guard(Starlette(routes=routes), token=token, cookie=cookie, hosts=hosts)


def _part(path: str, name: str, kind: str) -> Route:
    body = (resources.files("vmeg_edge.serve") / name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(body, media_type=kind)

    return Route(path, answer)


def _number(request: Request, name: str) -> int:
    """A number in the query; what is none counts as 0, so that everything is sent."""
    text = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0

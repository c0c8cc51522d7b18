"""The web server: on a thread of its own, and gone when closed."""

from __future__ import annotations

import os
import socket
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

from vmeg_edge.errors import UsageError
from vmeg_edge.serve.address import is_loopback, listen, shown
from vmeg_edge.serve.view import LiveView

if TYPE_CHECKING:
    from uvicorn import Server as Uvicorn

TOKEN_VARIABLE = "VMEG_EDGE_SERVE_TOKEN"  # noqa: S105  the variable's name, not a token

_START_WITHIN_S = 10.0
_STOP_WITHIN_S = 3.0
_MOST_CONNECTIONS = 64


class Server:
    """A page that is being served. Use it as a context, or `close` it.

    ``url`` is what to open; it carries the token only where that was made here and nobody else knows it. ``address`` is
    the same without it. ``needs_token`` says whether one is asked for.
    """

    def __init__(self, uvicorn: Uvicorn, listening: socket.socket, host: str, token: str | None, shows: bool) -> None:
        """Start answering. `serve` is the way in."""
        self.port = int(listening.getsockname()[1])
        self.address = f"http://{shown(host)}:{self.port}/"
        self.url = f"{self.address}?token={token}" if token is not None and shows else self.address
        self.needs_token = token is not None
        self._uvicorn = uvicorn
        self._listening = listening
        self._thread = threading.Thread(target=self._run, name="serve", daemon=True)
        self._thread.start()
        due_s = time.monotonic() + _START_WITHIN_S
        while not uvicorn.started:
            if not self._thread.is_alive() or time.monotonic() > due_s:
                self.close()
                raise UsageError(f"cannot serve at {self.address}: the server did not start; choose another port")
            time.sleep(0.005)

    def close(self) -> None:
        """Stop answering. Requests that are under way get a second to finish."""
        self._uvicorn.should_exit = True
        self._thread.join(_STOP_WITHIN_S)
        if self._thread.is_alive():
            self._uvicorn.force_exit = True
            self._thread.join(_STOP_WITHIN_S)
        self._listening.close()

    def __enter__(self) -> Server:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _run(self) -> None:
        self._uvicorn.run(sockets=[self._listening])


def serve(view: LiveView, host: str = "127.0.0.1", port: int = 0, token: str | None = None) -> Server:
    """Serve ``view`` at ``host`` (a name or an address) and ``port`` (0: any free one)::

        view = LiveView(scorer.manifest.decision, scorer.notices)
        with serve(view, *parse_address("127.0.0.1:8080")) as server:
            print(server.url)

    ``token``, or else the variable ``VMEG_EDGE_SERVE_TOKEN``, is asked of every request. Without one, a loopback
    address asks for none, and any other address gets one made for it. Raises `UsageError`: a port that is in use, a
    host that is none, a token that is too short, or libraries that are not installed.
    """
    try:
        import uvicorn

        from vmeg_edge.serve.app import app_of
        from vmeg_edge.serve.guard import check_token, new_token
    except ImportError as error:
        raise UsageError(
            f'the live page needs {error.name}, which is not installed; pip install "vmeg-edge[serve]"'
        ) from None
    given = token if token is not None else os.environ.get(TOKEN_VARIABLE) or None
    asked = None if given is None else check_token(given)
    listening = listen(host, port)
    try:
        bound = str(listening.getsockname()[0])
        local = is_loopback(bound)
        if asked is None and not local:
            asked = new_token()
        app = app_of(
            view,
            token=asked,
            cookie=f"vmeg_edge_{listening.getsockname()[1]}",
            hosts=frozenset({host.lower()}) if local else None,
        )
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # a terminal view owns the terminal
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
        everywhere = bound in ("0.0.0.0", "::")  # noqa: S104  compared, not bound
        return Server(
            uvicorn.Server(config), listening, socket.gethostname() if everywhere else host, asked, given is None
        )
    except BaseException:
        listening.close()
        raise

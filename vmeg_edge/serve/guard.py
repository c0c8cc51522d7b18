"""Who may look: a token where the address can be reached from elsewhere, a local host name where it cannot."""

from __future__ import annotations

import hmac
import re
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vmeg_edge.errors import UsageError
from vmeg_edge.serve.address import is_loopback

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,256}")


def new_token() -> str:
    """A token that nobody guesses: 256 random bits."""
    return secrets.token_urlsafe(32)


def check_token(token: str) -> str:
    """The token, if it is long enough and fits a URL, a header and a cookie. Raises `UsageError`."""
    if _TOKEN.fullmatch(token) is None:
        raise UsageError(
            "the serve token must be 16 to 256 of the characters A-Z a-z 0-9 . _ ~ -; leave it out to have one made"
        )
    return token


class Guard:
    """Everything in front of the routes: host, token and security headers, for whatever path is asked.

    ``hosts`` are the names by which a loopback address may be asked for, beside ``localhost`` and loopback literals:
    any other is a foreign page that had its own name point here (DNS rebinding). ``None`` where the token alone
    decides.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, cookie: str, hosts: frozenset[str] | None) -> None:
        """Stand before ``app``. ``cookie`` names the cookie that keeps the token."""
        self._app = app
        self._token = token
        self._cookie = cookie
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 421 for a foreign host name, 401 without the token, and pass on everything else."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        query = parse_qs(scope["query_string"].decode("latin-1"))
        by_query = self._fits((query.get("token") or [""])[-1])

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    out[name] = value
                if by_query:
                    out.append("Set-Cookie", f"{self._cookie}={self._token}; HttpOnly; SameSite=Strict; Path=/")
            await send(message)

        answer: ASGIApp = self._app
        if not self._local(headers.get("host", "")):
            answer = PlainTextResponse("Open this page as http://127.0.0.1 or http://localhost with its port.\n", 421)
        elif self._token is not None and not (by_query or self._fits(_bearer(headers)) or self._kept(headers)):
            answer = PlainTextResponse(
                "This page needs its token: open the address that vmeg-edge printed, or send "
                "'Authorization: Bearer TOKEN'.\n",
                401,
                {"WWW-Authenticate": "Bearer"},
            )
        await answer(scope, receive, with_headers)

    def _local(self, host: str) -> bool:
        if self._hosts is None:
            return True
        name = re.sub(r":[0-9]*$", "", host).strip("[]").lower().rstrip(".")
        return name == "localhost" or name in self._hosts or is_loopback(name)

    def _fits(self, given: str) -> bool:
        return self._token is not None and hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())

    def _kept(self, headers: Headers) -> bool:
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return False
        return cookie is not None and self._fits(cookie.value)


def _bearer(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""

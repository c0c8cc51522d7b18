"""Stream addresses for people: what may stand in a name, a message or a log."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from vmeg_edge.sources.filesource import printable

_SCHEME = re.compile(r"(rtsp|rtsps|rtmp|http|https|udp|tcp|srt|igtl):/", re.IGNORECASE)


def is_stream_address(text: str) -> bool:
    """Whether ``text`` begins as a stream's address does, whole or not. It may hold a secret, so never show it."""
    return _SCHEME.match(text) is not None


def without_secrets(url: str) -> str:
    """Scheme, host, port and path; no user, password or query, nor a path's part that sets a value."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "stream"
    host = f"[{host}]" if ":" in host else host
    # Some cameras take their password there: /user=admin&password=secret&channel=1
    path = re.sub(r"[^/]*=[^/]*", "...", parts.path)
    return printable(f"{parts.scheme}://{host}{port}{path}")

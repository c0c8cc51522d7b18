"""HOST:PORT as a user writes it, and the socket that listens there."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket

from vmeg_edge.errors import UsageError

_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:/?#\[\]@]+)):(?P<port>[0-9]{1,5})")
_EXAMPLE = "write it as HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080"


def parse_address(text: str) -> tuple[str, int]:
    """``"127.0.0.1:8080"`` as host and port; port 0 stands for any free one. Raises `UsageError`."""
    found = _ADDRESS.fullmatch(text.strip())
    if found is None:
        hint = "; for every address of this machine, write 0.0.0.0:PORT" if text.strip().startswith(":") else ""
        raise UsageError(f"{text!r} is not an address to serve at; {_EXAMPLE}{hint}")
    port = int(found["port"])
    if port > 65_535:
        raise UsageError(f"port {port} is out of range; choose 1 to 65535, or 0 for any free one")
    return found["v6"] or found["host"], port


def is_loopback(host: str) -> bool:
    """Whether a literal address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at ``host``, a name or an address. Raises `UsageError` with the mend."""
    if not 0 <= port <= 65_535:
        raise UsageError(f"port {port} is out of range; choose 1 to 65535, or 0 for any free one")
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise UsageError(f"cannot serve at {host!r}: no such host; {_EXAMPLE}") from None
    try:
        return socket.create_server((str(where[0]), port), family=family, backlog=64)
    except OSError as error:
        raise UsageError(f"cannot serve at {shown(host)}:{port}: {_mend(error)}") from None


def shown(host: str) -> str:
    """A host as it stands in a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _mend(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; choose another, or 0 for any free one"
    if error.errno == errno.EACCES:
        return "this port needs privileges; choose one above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address; choose 127.0.0.1, or 0.0.0.0 for all that it has"
    return f"{error.strerror or error}; choose another address"

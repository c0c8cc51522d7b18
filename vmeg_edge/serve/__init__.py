"""A live stream in a browser, and for Prometheus: `LiveView` is the sink, `serve` puts it at an address.

It needs the extra ``serve``, which is imported only by `serve`.
"""

from vmeg_edge.serve.address import parse_address
from vmeg_edge.serve.server import TOKEN_VARIABLE, Server, serve
from vmeg_edge.serve.view import LiveView

__all__ = ["TOKEN_VARIABLE", "LiveView", "Server", "parse_address", "serve"]

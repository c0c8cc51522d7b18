"""Matplotlib, with its cache of fonts inside ours: left to itself it makes folders in the user's home directory."""

from __future__ import annotations

import os
from contextlib import suppress

from vmeg_edge.backends.cache import cache_folder
from vmeg_edge.silence import variables

_FOLDER = "MPLCONFIGDIR"  # https://matplotlib.org/stable/faq/environment_variables_faq.html

with suppress(OSError):  # Matplotlib then does with a temporary folder
    cache_folder().mkdir(parents=True, exist_ok=True, mode=0o700)  # as `EngineCache` makes it

with variables({_FOLDER: os.environ.get(_FOLDER) or str(cache_folder() / "matplotlib")}):
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

__all__ = ["Figure", "MaxNLocator", "mpl"]

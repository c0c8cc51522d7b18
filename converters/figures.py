"""Matplotlib, with its cache of fonts inside ours: left to itself it makes folders in the user's home directory."""

from __future__ import annotations

import os

from vmeg_edge.backends.cache import cache_folder
from vmeg_edge.silence import variables

_FOLDER = "MPLCONFIGDIR"  # https://matplotlib.org/stable/install/environment_variables_faq.html

with variables({_FOLDER: os.environ.get(_FOLDER) or str(cache_folder() / "matplotlib")}):
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

__all__ = ["Figure", "MaxNLocator", "mpl"]

"""``python -m vmeg_edge`` is ``vmeg-edge``."""

from vmeg_edge.cli import main

main()

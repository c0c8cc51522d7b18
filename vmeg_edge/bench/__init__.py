"""Measured figures: percentiles that say when too few samples stand behind them."""

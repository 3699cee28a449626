"""Metrics: from events into the index, and out of it."""

"""Fixtures for every test."""

pytest_plugins = ["support.serving", "support.postgresql"]

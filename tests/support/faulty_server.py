"""`python -m server`, whose keepers start the faulty trainer; a program, so that a test may kill it."""

import functools
import logging
import sys
from pathlib import Path

import server.app
from server.runs.dispatcher import Launch
from server.runs.launchers.local import launch
from server.settings import Settings

_TRAINER = Path(__file__).with_name("faulty_trainer.py")


def faulty_launch() -> Launch:
    """Real keepers whose trainer is the real one with the faults that its run has."""
    return functools.partial(launch, trainer=[sys.executable, str(_TRAINER)])


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    server.app.serve(Settings.read(), launch=faulty_launch())

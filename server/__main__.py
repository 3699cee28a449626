"""`python -m server`: serve with what the environment says."""

import logging

from server.app import serve
from server.settings import Settings
from xoron_core.contract.errors import XoronError


def main() -> None:
    """Serve, or say in one line why not."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        serve(Settings.read())
    except XoronError as error:
        raise SystemExit(f"xoron: {error}") from error


if __name__ == "__main__":
    main()

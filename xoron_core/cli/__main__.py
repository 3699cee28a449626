"""`python -m xoron_core.cli`."""

from xoron_core.cli import main

if __name__ == "__main__":
    main()

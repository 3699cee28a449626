"""`python -m xoron_core.training RUN_DIR ATTEMPT`, as the keeper starts it."""

import sys

from xoron_core.training.process import main

sys.exit(main(sys.argv[1:]))

"""The contract between trainer, keeper, server, client and page: file names, formats, states, names.

Everything here runs without torch. Trainer and server never call each other; they read and write the files that
this package defines, and each file has one writer. A change here is a commit of its own, together with the golden
schemas (`make schemas`) and `docs/architecture.md`.
"""

CONTRACT_VERSION = 1

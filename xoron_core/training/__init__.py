"""The trainer: the loop, what happens around it, and the process that runs it."""

"""The parts of the keeper: processes, output, escalation, and what an end means. Nothing here imports torch."""

"""Runs: what starts them, keeps them, answers for them."""

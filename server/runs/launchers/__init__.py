"""Ways to start a keeper."""

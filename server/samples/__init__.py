"""What models made."""

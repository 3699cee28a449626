"""What can be resumed from."""

"""Encoders of pictures and clips, and projectors into the language model."""

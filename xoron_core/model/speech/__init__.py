"""Speech: encoders, synthesis, alignment."""

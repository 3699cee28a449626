"""The GPUs of this machine: what they are, who has leased them, what is wrong with them."""

"""The heavy half of every modality: what a step of it computes. The trainer knows only `base.Modality`."""

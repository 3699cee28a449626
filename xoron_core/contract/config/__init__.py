"""The one configuration of a run, section by section."""

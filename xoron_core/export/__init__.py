"""Models in the Hugging Face layout, as folders and on its hub. Importing this loads nothing heavy."""


def register() -> None:
    """Make transformers' `AutoConfig` and `AutoModelForCausalLM` know exported folders; it takes seconds, once."""
    from xoron_core.export.causal_lm import register_classes

    register_classes()

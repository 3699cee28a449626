"""The frozen autoencoder: its weights from the shipped corpus or from a folder."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from xoron_core.contract.errors import ConfigError
from xoron_core.contract.sources import demo_corpus
from xoron_core.model.xoron import XoronMultimodalModel


def load_autoencoder(model: XoronMultimodalModel, name: str) -> None:
    """Load weights and latent statistics and freeze them.

    Raises: ConfigError when there are none at that place, or they are of another architecture.
    """
    folder = demo_corpus() / "autoencoder" if name == "demo" else Path(name).expanduser()
    path = folder / "model.safetensors"
    try:
        weights = load_file(path)
        model.autoencoder.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ConfigError.of(
            "model.autoencoder", f"{path} cannot be used ({error}); give 'demo' or a folder with its like", name
        ) from error
    model.autoencoder.requires_grad_(requires_grad=False)
    model.autoencoder.eval()

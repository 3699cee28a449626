"""The whole model: the components that a configuration's modalities need, behind one entry.

Shapes: B batch, L prompt tokens, D width of the language model, C latent channels, H×W latent pixels.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from xoron_core.contract.config.model import XoronConfig
from xoron_core.model.autoencoder import Autoencoder, AutoencoderConfig
from xoron_core.model.image_generator import ImageGenerator
from xoron_core.model.initialise import init_module
from xoron_core.model.language_model import LanguageModel
from xoron_core.model.layers.moe import MoE

COMPONENTS = frozenset({"llm", "generator", "autoencoder"})

Task = Callable[..., Any]
"""What a modality runs on the model: called with the model first."""


class XoronMultimodalModel(nn.Module):
    """Language model, generators, encoders. A component that was not asked for does not exist: reading it raises.

    Everything that a step runs goes through `model(task, …)`: a sharded model gathers its weights when the root is
    called, and refuses a component that is called before.
    """

    llm: LanguageModel
    generator: ImageGenerator
    autoencoder: Autoencoder
    """Frozen: neither trained nor switched to training mode."""
    tokenizer: Any
    """Set by whoever builds the model; the reference's step functions read it."""

    def __init__(
        self,
        config: XoronConfig,
        components: frozenset[str],
        *,
        vocab_size: int,
        autoencoder_config: AutoencoderConfig | None = None,
    ) -> None:
        """Build `components`, a subset of COMPONENTS, for a tokenizer of `vocab_size` ids.

        Raises ValueError for an unknown component, or a generator without the components it works with.
        """
        super().__init__()
        if components - COMPONENTS:
            unknown = ", ".join(sorted(components - COMPONENTS))
            raise ValueError(f"unknown components {unknown}; there are {', '.join(sorted(COMPONENTS))}")
        if "generator" in components and not {"llm", "autoencoder"} <= components:
            raise ValueError(f"generator needs llm and autoencoder, got {', '.join(sorted(components))}; add them")
        self.config = config
        self.components = components
        self.tasks: dict[str, Task] = {}
        self.tokenizer = None
        if "llm" in components:
            self.llm = LanguageModel(config.language, vocab_size)
        if "autoencoder" in components:
            self.autoencoder = Autoencoder(autoencoder_config).requires_grad_(requires_grad=False).eval()
        if "generator" in components:
            channels = self.autoencoder.config.latent_channels
            self.generator = ImageGenerator(config.image_generator, config.language.hidden_size, channels)

    def __getattr__(self, name: str) -> Any:
        """Only reached where the ordinary look-up fails: say which component is missing."""
        if name in COMPONENTS and name not in self._modules:
            built = ", ".join(sorted(self.components)) or "none"
            raise AttributeError(f"the model was built without {name!r} (components: {built}); add it to components")
        return super().__getattr__(name)

    def register_task(self, name: str, task: Task) -> None:
        """Make `model(name, …)` run `task(model, …)`. Raises ValueError for a name that is taken."""
        if name in self.tasks:
            raise ValueError(f"task {name!r} is registered already; choose another name")
        self.tasks[name] = task

    def forward(self, task: str, *args: Any, **kwargs: Any) -> Any:
        """Run a registered task. Raises KeyError that names the tasks there are."""
        if task not in self.tasks:
            raise KeyError(f"no task {task!r}; registered: {', '.join(sorted(self.tasks)) or 'none'}")
        return self.tasks[task](self, *args, **kwargs)

    def train(self, mode: bool = True) -> "XoronMultimodalModel":
        """Training mode for all but the frozen autoencoder."""
        super().train(mode)
        if "autoencoder" in self.components:
            self.autoencoder.eval()
        return self

    def init_weights(self, generator: torch.Generator) -> None:
        """Set every parameter and buffer, also after a construction on the meta device and `to_empty`.

        One seed gives one model; a component's weights do not depend on which others are built. Load the
        autoencoder's trained weights afterwards.
        """
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        for index, name in enumerate(sorted(COMPONENTS)):
            if name in self.components:
                own = torch.Generator(device=generator.device).manual_seed(seed + index)
                std = self.config.language.initializer_range if name == "llm" else None
                init_module(self._modules_of(name), own, std)

    def gradient_checkpointing_enable(self, enabled: bool = True) -> None:
        """Recompute activations in the backward pass of every trained component, or stop doing so."""
        if "llm" in self.components:
            self.llm.gradient_checkpointing_enable(enabled)
        if "generator" in self.components:
            self.generator.gradient_checkpointing_enable(enabled)

    @torch.no_grad()
    def encode_images(self, images_B3HW: Tensor, noise_BCHW: Tensor | None = None) -> Tensor:
        """Pictures in [-1, 1] → latents of unit variance, detached; `noise_BCHW` draws from the posterior, None takes
        its mean."""
        return self.autoencoder.encode_scaled(images_B3HW, noise_BCHW)

    @torch.no_grad()
    def decode_images(self, latents_BCHW: Tensor) -> Tensor:
        """Latents of unit variance → pictures, clamped to [-1, 1]."""
        return self.autoencoder.decode_scaled(latents_BCHW).clamp(-1, 1)

    def encode_text(self, prompt_ids_BL: Tensor, prompt_mask_BL: Tensor) -> Tensor:
        """The language model's states of prompts padded on the right, [B, L, D]; gradients flow into it.

        `prompt_mask_BL` is True where there is a token; states elsewhere mean nothing.
        """
        document_ids_BL = prompt_mask_BL.long() - 1
        return self.llm(prompt_ids_BL, document_ids_BT=document_ids_BL).hidden_states_BTD  # type: ignore[no-any-return]

    def moe_layers(self) -> dict[str, MoE]:
        """Every layer of experts as `<component>.<layer>`, in order."""
        found: dict[str, MoE] = {}
        for component in sorted(self.components):
            modules = (module for module in self._modules_of(component).modules())
            blocks = (module for module in modules if isinstance(module, nn.ModuleList))
            for block_list in blocks:
                for index, block in enumerate(block_list):
                    for module in block.children():
                        if isinstance(module, MoE):
                            found[f"{component}.{index}"] = module
        return found

    def update_router_biases(self) -> None:
        """After an optimizer step; with several ranks, sum every `moe.router.load_E` over them first."""
        for moe in self.moe_layers().values():
            moe.router.update_bias()

    def moe_metrics(self) -> dict[str, Tensor]:
        """`moe/<component>.<layer>/load_max` and `/entropy` of the last completed step, on the device."""
        return {
            f"moe/{layer}/{name}": value
            for layer, moe in self.moe_layers().items()
            for name, value in moe.router.metrics().items()
        }

    def num_parameters(self) -> dict[str, int]:
        """Parameters of each component that is built."""
        return {
            name: sum(parameter.numel() for parameter in self._modules_of(name).parameters())
            for name in sorted(self.components)
        }

    def _modules_of(self, component: str) -> nn.Module:
        """A component that is known to be built."""
        module = self._modules[component]
        assert module is not None
        return module

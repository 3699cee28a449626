"""The whole model: the components that a configuration's modalities need, behind one entry.

Shapes: B batch, T frames of a clip, F = B·T frames of all, L prompt tokens, D width of the language model, C latent
channels, H×W latent pixels.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn

from xoron_core.contract.config.model import XoronConfig
from xoron_core.contract.errors import ConfigError
from xoron_core.model.autoencoder import Autoencoder, AutoencoderConfig
from xoron_core.model.components import COMPONENTS, Sizes
from xoron_core.model.fusion import FusedMedia, Fusion
from xoron_core.model.image_generator import ImageGenerator
from xoron_core.model.initialise import init_module
from xoron_core.model.language_model import LanguageModel
from xoron_core.model.layers.checkpointing import Checkpointed
from xoron_core.model.layers.moe import MoE
from xoron_core.model.media import MediaTokens, insert_media
from xoron_core.model.placement import Device, place_components
from xoron_core.model.prompts import padded_prompts, prompt_ids
from xoron_core.model.speech.audio_decoder import AudioDecoder
from xoron_core.model.speech.audio_encoder import AudioEncoder
from xoron_core.model.speech.audio_projector import AudioProjector
from xoron_core.model.speech.ctc import CtcHead
from xoron_core.model.speech.mel import compute_mel_spectrogram
from xoron_core.model.speech.speaker_encoder import SpeakerEncoder
from xoron_core.model.speech.waveform_decoder import WaveformDecoder
from xoron_core.model.video_generator import VideoGenerator
from xoron_core.model.vision.compressor import ImageCompressor
from xoron_core.model.vision.encoder import VisionEncoder
from xoron_core.model.vision.projectors import Projector
from xoron_core.model.vision.video_encoder import VideoEncoder

Task = Callable[..., Any]
"""What a modality runs on the model: called with the model first."""


class XoronMultimodalModel(nn.Module):
    """Language model, encoders, generators. A component that was not asked for does not exist: reading it raises (but
    for `waveform_decoder`).

    Everything that a step runs goes through `model(task, …)`: a sharded model gathers its weights when the root is
    called, and refuses a component that is called before.
    """

    llm: LanguageModel
    fusion: Fusion
    vision_encoder: VisionEncoder
    image_compressor: ImageCompressor
    image_projector: Projector
    video_encoder: VideoEncoder
    video_projector: Projector
    audio_encoder: AudioEncoder
    audio_projector: AudioProjector
    ctc_head: CtcHead
    speaker_encoder: SpeakerEncoder
    audio_decoder: AudioDecoder
    waveform_decoder: WaveformDecoder | None
    """None where it was not asked for: speech synthesis then ends with the spectrogram."""
    generator: ImageGenerator
    video_generator: VideoGenerator
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
        device_map: Mapping[str, Device] | None = None,
    ) -> None:
        """Build `components`, a subset of COMPONENTS, for a tokenizer of `vocab_size` ids.

        `device_map`: where each component goes; see `place`. Raises ValueError for an unknown component, or one without
        the components it works with.
        """
        super().__init__()
        _check(components)
        self.config = config
        self.components = components
        self.tasks: dict[str, Task] = {}
        self.tokenizer = None
        self._moe_layers: dict[str, MoE] | None = None
        sizes = Sizes(config, vocab_size, autoencoder_config or AutoencoderConfig())
        for name, component in COMPONENTS.items():
            if name in components:
                self.add_module(name, component.build(sizes))
        if "waveform_decoder" not in components:
            self.register_module("waveform_decoder", None)
        if "autoencoder" in components:
            self.autoencoder.requires_grad_(requires_grad=False).eval()
        if device_map is not None:
            self.place(device_map)

    def __getattr__(self, name: str) -> Any:
        """Only reached where the ordinary look-up fails: say which component is missing."""
        if name in COMPONENTS and name not in self._modules:
            built = ", ".join(sorted(self.components)) or "none"
            raise AttributeError(f"the model was built without {name!r} (components: {built}); add it to components")
        return super().__getattr__(name)

    def place(self, device_map: Mapping[str, Device]) -> None:
        """Spread the components over devices, before an optimizer is built: see `place_components`.

        Inputs may then lie anywhere, and what is made of them lies where they do; batches travel least on the language
        model's device, which is that of the first parameter.
        """
        place_components(dict(self.named_children()), device_map)

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
        for name in sorted(self.components):
            own = torch.Generator(device=generator.device).manual_seed(seed + crc32(name.encode()))
            std = self.config.language.initializer_range if name == "llm" else None
            init_module(self._modules_of(name), own, std)

    def gradient_checkpointing_enable(
        self, enabled: bool = True, components: Collection[str] | None = None
    ) -> tuple[str, ...]:
        """Recompute activations in the backward pass of the stacks of layers in these components (None: in all), or
        stop doing so; the components that have such stacks. Others stay as they are.

        Raises: ConfigError for a component that is not built, or has no stack of layers.
        """
        stacks = {
            name: [module for module in component.modules() if isinstance(module, Checkpointed)]
            for name, component in self.named_children()
        }
        able = tuple(name for name, found in stacks.items() if found)
        if components is not None and (others := sorted(set(components) - set(able))):
            raise ConfigError.of(
                "training.checkpointed_components",
                f"{', '.join(others)} has no stack of layers here; take it out, or name some of {', '.join(able)}",
                list(components),
            )
        chosen = tuple(name for name in able if components is None or name in components)
        for name in chosen:
            for stack in stacks[name]:
                stack.gradient_checkpointing_enable(enabled)
        return chosen

    def compile_layers(self, components: Collection[str] | None = None, backend: str = "inductor") -> None:
        """Compile the layers of these components (None: of all) for training, each kind of layer once, at its first
        use. `backend` is torch's name of what does it."""
        for name in self.components if components is None else self.components.intersection(components):
            for module in self._modules_of(name).modules():
                if isinstance(module, Checkpointed):
                    module.compile_layers(backend)

    @torch.no_grad()
    def encode_images(self, images_B3HW: Tensor, noise_BCHW: Tensor | None = None) -> Tensor:
        """Pictures in [-1, 1] → latents of unit variance, detached; `noise_BCHW` draws from the posterior, None takes
        its mean."""
        return self.autoencoder.encode_scaled(images_B3HW, noise_BCHW)

    @torch.no_grad()
    def decode_images(self, latents_BCHW: Tensor) -> Tensor:
        """Latents of unit variance → pictures, clamped to [-1, 1]."""
        return self.autoencoder.decode_scaled(latents_BCHW).clamp(-1, 1)

    def encode_videos(self, videos_BT3HW: Tensor, noise_BTCHW: Tensor | None = None) -> Tensor:
        """Clips in [-1, 1] → latents [B, T, C, H, W], each frame as `encode_images` does it."""
        noise_FCHW = None if noise_BTCHW is None else noise_BTCHW.flatten(0, 1)
        latents_FCHW = self.encode_images(videos_BT3HW.flatten(0, 1), noise_FCHW)
        return latents_FCHW.view(*videos_BT3HW.shape[:2], *latents_FCHW.shape[1:])

    def decode_videos(self, latents_BTCHW: Tensor) -> Tensor:
        """Latents of clips → frames [B, T, 3, H, W], each as `decode_images` does it."""
        frames_F3HW = self.decode_images(latents_BTCHW.flatten(0, 1))
        return frames_F3HW.view(*latents_BTCHW.shape[:2], *frames_F3HW.shape[1:])

    def tokenize_prompts(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids of prompts [B, L], padded on the right, and where there are some (True), on the language model's device.

        Raises: ValueError where nobody has set `tokenizer`.
        """
        if self.tokenizer is None:
            raise ValueError("the model has no tokenizer to read prompts with; set model.tokenizer")
        ids_BL, mask_BL = padded_prompts([prompt_ids(self.tokenizer, text) for text in prompts], self.tokenizer.pad_id)
        device = self.llm.model.embed_tokens.weight.device
        return ids_BL.to(device), mask_BL.to(device)

    def encode_text(self, prompts: Tensor | Sequence[str], prompt_mask_BL: Tensor | None = None) -> Tensor:
        """The language model's states of prompts, [B, L, D]; gradients flow into it.

        `prompts`: texts, or their ids [B, L] padded on the right with `prompt_mask_BL`, which is True where there is a
        token (None: everywhere). States elsewhere mean nothing: give a generator the mask of prompts that differ in
        length, which `tokenize_prompts` makes of texts.
        """
        if not isinstance(prompts, Tensor):
            prompts, prompt_mask_BL = self.tokenize_prompts(prompts)
        document_ids_BL = None if prompt_mask_BL is None else prompt_mask_BL.long() - 1
        return self.llm(prompts, document_ids_BT=document_ids_BL).hidden_states_BTD  # type: ignore[no-any-return]

    @staticmethod
    def compute_mel_spectrogram(waveform_BT: Tensor) -> Tensor:
        """Waveforms → normalised log-mels [B, F, 80], 62.5 frames a second: see `speech.mel`."""
        return compute_mel_spectrogram(waveform_BT)

    def embed(self, input_ids_BT: Tensor, placeholder_id: int, media: MediaTokens) -> tuple[Tensor, FusedMedia]:
        """Embedded tokens [B, T, D] with the media's embeddings in the placeholders' places, and the media again for
        the decoder's layers to attend to."""
        embedded_BTD = self.llm.model.embed_tokens(input_ids_BT)
        inserted_BTD = insert_media(embedded_BTD, input_ids_BT == placeholder_id, media)
        return inserted_BTD, FusedMedia(self.fusion, media.tokens_BMD, media.mask_BM)

    def moe_layers(self) -> dict[str, MoE]:
        """Every layer of experts as `<component>.<layer>`, in order."""
        if self._moe_layers is None:  # every step asks, and there are thousands of modules
            self._moe_layers = self._find_moe_layers()
        return self._moe_layers

    def _find_moe_layers(self) -> dict[str, MoE]:
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
        """`moe/<component>.<layer>/load_max` and `/entropy` of the last completed step, on one device."""
        device = next(self.parameters()).device
        return {
            f"moe/{layer}/{name}": value.to(device)
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


def _check(components: frozenset[str]) -> None:
    unknown = components - set(COMPONENTS)
    if unknown:
        raise ValueError(f"unknown components {', '.join(sorted(unknown))}; there are {', '.join(sorted(COMPONENTS))}")
    for name in sorted(components):
        if missing := COMPONENTS[name].needs - components:
            raise ValueError(f"{name} needs {', '.join(sorted(missing))}; add what is missing to components")

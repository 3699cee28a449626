"""Image understanding: a picture and a question in the prompt, the answer by cross-entropy.

Shapes: B pictures, S side in pixels, M embeddings of a picture, D width of the language model.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from xoron_core.contract.modalities.image_understanding import ImageUnderstandingConfig
from xoron_core.data.media import read_picture
from xoron_core.data.records import Record, SampleOrigin
from xoron_core.modalities.base import Artifact
from xoron_core.modalities.media_questions import MediaQuestions
from xoron_core.modalities.media_text import MediaTextSample
from xoron_core.modalities.picture_files import picture_artifact
from xoron_core.model.media import MediaTokens
from xoron_core.model.xoron import XoronMultimodalModel


class ImageUnderstanding(MediaQuestions):
    """Pictures and questions to answers."""

    name: ClassVar[str] = "image_understanding"
    components: ClassVar[frozenset[str]] = frozenset(
        {"llm", "fusion", "vision_encoder", "image_compressor", "image_projector"}
    )
    tag: ClassVar[str] = "image"

    @property
    def config(self) -> ImageUnderstandingConfig:
        """The section `modalities.image_understanding`."""
        return self.run_config.modalities.image_understanding

    @property
    def num_embeddings(self) -> int:
        """Embeddings that a picture becomes, and placeholders that stand for them."""
        compressor = self.run_config.model.image_compressor
        return self.run_config.model.image_projector.num_outputs(compressor.num_tokens, compressor.grid)

    def prepare(self, record: Record, origin: SampleOrigin) -> MediaTextSample[np.uint8]:
        """The picture [S, S, 3] that the field `image` names, and the fields `question` and `answer`.

        Raises: DataError when the picture cannot be read, a text is missing or the answer is too long.
        """
        turn = self.turn(record, self.num_embeddings)
        pixels = read_picture(record, "image", self.run_config.model.vision_encoder.image_size)
        return MediaTextSample(origin, pixels, turn.prompt_ids, turn.answer_ids)

    def collate_media(self, samples: Sequence[MediaTextSample[Any]]) -> dict[str, Tensor]:
        """`images` [B, 3, S, S] in [-1, 1]."""
        pixels_BSS3 = torch.from_numpy(np.stack([sample.media for sample in samples]))
        return {"images": pixels_BSS3.permute(0, 3, 1, 2).float() / 127.5 - 1.0}

    def encode_media(self, model: XoronMultimodalModel, tensors: Mapping[str, Tensor]) -> MediaTokens:
        """Embeddings [B, M, D] of the pictures, as many of each."""
        patches_BNW = model.vision_encoder(tensors["images"])
        tokens_BMD = model.image_projector(model.image_compressor(patches_BNW))
        return MediaTokens(tokens_BMD, torch.ones(tokens_BMD.shape[:2], dtype=torch.bool, device=tokens_BMD.device))

    def show_media(self, sample: MediaTextSample[Any], caption: str) -> tuple[Artifact, ...]:
        """The picture, as PNG."""
        return (picture_artifact(sample.media, caption),)

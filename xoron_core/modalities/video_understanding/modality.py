"""Video understanding: a clip and a question in the prompt, the answer by cross-entropy.

Shapes: B clips, T frames, F = B·T frames of all clips, S side in pixels, N patches of a frame, P = T·N of a clip,
M embeddings of a clip, W width of the encoder, D of the language model.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from xoron_core.contract.config.moe import MoeConfig
from xoron_core.contract.modalities.video_understanding import VideoUnderstandingConfig
from xoron_core.data.clips import read_clip
from xoron_core.data.records import Record, SampleOrigin
from xoron_core.modalities.base import Artifact
from xoron_core.modalities.clip_files import clip_artifact
from xoron_core.modalities.media_questions import MediaQuestions
from xoron_core.modalities.media_text import MediaTextSample
from xoron_core.model.media import MediaTokens
from xoron_core.model.xoron import XoronMultimodalModel


class VideoUnderstanding(MediaQuestions):
    """Clips and questions to answers."""

    name: ClassVar[str] = "video_understanding"
    components: ClassVar[frozenset[str]] = frozenset(
        {"llm", "fusion", "vision_encoder", "video_encoder", "video_projector"}
    )
    varies_in_length: ClassVar[bool] = False
    tag: ClassVar[str] = "video"

    @property
    def config(self) -> VideoUnderstandingConfig:
        """The section `modalities.video_understanding`."""
        return self.run_config.modalities.video_understanding

    @property
    def experts(self) -> tuple[MoeConfig, ...]:
        """Those of the video encoder, too."""
        return (*super().experts, self.run_config.model.video_encoder.moe)

    @property
    def num_embeddings(self) -> int:
        """Embeddings that a clip becomes, and placeholders that stand for them."""
        rows, columns = grid = self.run_config.model.vision_encoder.grid
        return self.run_config.model.video_projector.num_outputs(self.config.num_frames * rows * columns, grid)

    def prepare(self, record: Record, origin: SampleOrigin) -> MediaTextSample[np.uint8]:
        """Frames [T, S, S, 3] of the clip that the field `video` names, and the fields `question` and `answer`.

        Raises: DataError when the clip cannot be read, a text is missing or the answer is too long.
        """
        turn = self.turn(record, self.num_embeddings)
        size = self.run_config.model.vision_encoder.image_size
        frames = read_clip(record, "video", size, self.config.num_frames)
        return MediaTextSample(origin, frames, turn.prompt_ids, turn.answer_ids)

    def collate_media(self, samples: Sequence[MediaTextSample[Any]]) -> dict[str, Tensor]:
        """`videos` [B, T, 3, S, S] in [-1, 1]."""
        pixels_BTSS3 = torch.from_numpy(np.stack([sample.media for sample in samples]))
        return {"videos": pixels_BTSS3.permute(0, 1, 4, 2, 3).float() / 127.5 - 1.0}

    def encode_media(self, model: XoronMultimodalModel, tensors: Mapping[str, Tensor]) -> MediaTokens:
        """Embeddings [B, M, D] of the clips, as many of each."""
        videos_BT3SS = tensors["videos"]
        patches_FNW = model.vision_encoder(videos_BT3SS.flatten(0, 1))
        tokens_BPW, aux_loss = model.video_encoder(patches_FNW, videos_BT3SS.shape[1])
        tokens_BMD = model.video_projector(tokens_BPW)
        mask_BM = torch.ones(tokens_BMD.shape[:2], dtype=torch.bool, device=tokens_BMD.device)
        return MediaTokens(tokens_BMD, mask_BM, aux_loss)

    def show_media(self, sample: MediaTextSample[Any], caption: str) -> tuple[Artifact, ...]:
        """What was seen of the clip, as an animated webp."""
        return (clip_artifact(sample.media, caption),)

"""The language model's part of a batch in the reference's form, with pictures, clips and sounds among its tokens.

Shapes: B rows, T tokens, M media embeddings of a row, V ids.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from xoron_core.contract.special_tokens import PLACEHOLDER, closing, opening
from xoron_core.modalities.base import Modality
from xoron_core.modalities.media_text import MediaText
from xoron_core.model.fusion import FusedMedia
from xoron_core.model.language_model import LanguageModelOutput
from xoron_core.model.media import MediaTokens, insert_media
from xoron_core.model.speech.mel import HOP
from xoron_core.model.xoron import XoronMultimodalModel
from xoron_core.training.steps import BatchError, blaming, take, tokenizer_of

READERS: Mapping[str, tuple[str, str]] = {
    "images": ("image_understanding", "image"),
    "videos": ("video_understanding", "video"),
    "audio": ("asr", "audio"),
}
"""Key → the modality that reads what it holds, and the tag around its placeholders."""


def read_rows(
    model: XoronMultimodalModel,
    modalities: Mapping[str, Modality[Any, Any]],
    batch: Mapping[str, Any],
    weights_V: Tensor,
) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropy of `labels` given `input_ids`, and the experts' balance loss; scalars.

    `input_ids` and `labels` [B, T], -100 where nothing is learned; `attention_mask` [B, T], 0 where there is padding;
    `images`, `videos`, `audio`: one a row, with as many placeholders between its tags as it has embeddings.
    `weights_V`: the weight of each id as a label.
    Raises: BatchError naming the key that is missing or does not fit.
    """
    input_ids_BT, labels_BT = take(batch, "input_ids", "labels")
    mask_BT = batch.get("attention_mask")
    for key, tensor in (("input_ids", input_ids_BT), ("labels", labels_BT), ("attention_mask", mask_BT)):
        if tensor is not None and (tensor.ndim != 2 or tensor.shape != input_ids_BT.shape):
            expected = "[B, T]" if key == "input_ids" else f"the shape of input_ids, {tuple(input_ids_BT.shape)}"
            raise BatchError(key, f"expected {expected}, got {tuple(tensor.shape)}")
    embedded_BTD = model.llm.model.embed_tokens(input_ids_BT)
    found: list[MediaTokens] = []
    for is_placeholder_BT, media in _media(model, modalities, batch):
        embedded_BTD = insert_media(embedded_BTD, is_placeholder_BT, media)
        found.append(media)
    output: LanguageModelOutput = model.llm(
        inputs_embeds_BTD=embedded_BTD,
        document_ids_BT=None if mask_BT is None else mask_BT.long() - 1,
        media=_fused(model, found),
        labels_BT=labels_BT,
        loss_weights_BT=weights_V[labels_BT.clamp(min=0).to(weights_V.device)],
    )
    assert output.loss_sum is not None
    assert output.weight_sum is not None
    aux_loss = output.aux_loss
    for media in found:
        aux_loss = aux_loss if media.aux_loss is None else aux_loss + media.aux_loss
    return output.loss_sum / output.weight_sum.clamp(min=1e-12), aux_loss


def _media(
    model: XoronMultimodalModel, modalities: Mapping[str, Modality[Any, Any]], batch: Mapping[str, Any]
) -> Iterator[tuple[Tensor, MediaTokens]]:
    """Embeddings of what the rows are about, and where they belong (True), [B, T]."""
    for key, (name, tag) in READERS.items():
        if (given := batch.get(key)) is None:
            continue
        is_placeholder_BT = _placeholders(model, batch["input_ids"], tag)
        if key == "audio" and batch.get("has_asr") and not bool(is_placeholder_BT.any()):
            continue  # the sound is there to be transcribed, and none of the rows is about it
        reader = modalities.get(name)
        if not isinstance(reader, MediaText):
            raise BatchError(key, f"nothing here reads it; enable modalities.{name}, or leave it out")
        if len(given) != len(is_placeholder_BT):
            raise BatchError(key, f"{len(given)} of them for {len(is_placeholder_BT)} rows of input_ids; give one each")
        with blaming(key):
            media = reader.encode_media(model, _tensors(key, given))
        if not torch.equal(is_placeholder_BT.sum(1), media.mask_BM.sum(1)):
            raise BatchError(
                key,
                f"{media.mask_BM.sum(1).tolist()} embeddings for {is_placeholder_BT.sum(1).tolist()} placeholders "
                f"between {opening(tag)} and {closing(tag)} in input_ids; put in one for each",
            )
        yield is_placeholder_BT, media


def _tensors(key: str, given: Tensor) -> dict[str, Tensor]:
    """As the modality's `collate_media` names them."""
    if key != "audio":
        return {key: given}
    num_samples = given.shape[1] if given.ndim == 2 else given.shape[-1] * HOP
    return {"waveforms": given, "num_samples": torch.full((len(given),), num_samples, device=given.device)}


def _placeholders(model: XoronMultimodalModel, input_ids_BT: Tensor, tag: str) -> Tensor:
    """Where there are placeholders between these tags, [B, T]."""
    begin, end, placeholder = map(tokenizer_of(model).token_id, (opening(tag), closing(tag), opening(PLACEHOLDER)))
    depth_BT = (input_ids_BT == begin).cumsum(1) - (input_ids_BT == end).cumsum(1)
    return (input_ids_BT == placeholder) & (depth_BT > 0)


def _fused(model: XoronMultimodalModel, found: list[MediaTokens]) -> FusedMedia | None:
    """All of them side by side, for the decoder's layers to attend to."""
    if not found:
        return None
    return FusedMedia(
        model.fusion,
        torch.cat([media.tokens_BMD for media in found], dim=1),
        torch.cat([media.mask_BM for media in found], dim=1),
    )

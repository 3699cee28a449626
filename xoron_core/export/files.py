"""The small files beside the weights: configuration, generation defaults, tokenizer, model card."""

import json
from pathlib import Path
from typing import Any, Protocol

from tokenizers import Tokenizer as Backend

from xoron_core.contract.files import write_atomic
from xoron_core.contract.special_tokens import BOS, EOS, PAD
from xoron_core.export.description import CONFIG_FILE, ModelDescription

TOKENIZER_FILE = "tokenizer.json"
CARD_FILE = "README.md"


class SavedTokenizer(Protocol):
    """What is needed of a tokenizer."""

    backend: Backend
    bos_id: int
    eos_id: int
    pad_id: int


def special_ids(tokenizer: SavedTokenizer) -> dict[str, int]:
    """Ids of the markers, by transformers' names."""
    return {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}


def write_description(folder: Path, description: ModelDescription) -> None:
    """`config.json`, and `generation_config.json`: sampling at temperature 1, as `LanguageModel.generate` does."""
    _write(folder / CONFIG_FILE, description.to_json())
    _write(folder / "generation_config.json", {**description.special_ids, "do_sample": True, "temperature": 1.0})


def write_tokenizer(folder: Path, tokenizer: SavedTokenizer, max_tokens: int) -> None:
    """`tokenizer.json` and what transformers' `AutoTokenizer` wants beside it; prompts are padded on the left."""
    (folder / TOKENIZER_FILE).write_text(tokenizer.backend.to_str(), encoding="utf-8")
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS,
            "eos_token": EOS,
            "pad_token": PAD,
            "padding_side": "left",
            "clean_up_tokenization_spaces": False,
            "model_max_length": max_tokens,
        },
    )


def write_files(folder: Path, description: ModelDescription, tokenizer: SavedTokenizer, card: str) -> None:
    """All of them, into a folder that exists."""
    write_description(folder, description)
    write_tokenizer(folder, tokenizer, description.config.language.max_position_embeddings)
    (folder / CARD_FILE).write_text(card, encoding="utf-8")


def _write(path: Path, values: dict[str, Any]) -> None:
    write_atomic(path, json.dumps(values, indent=2) + "\n")

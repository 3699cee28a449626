"""Transcripts as they are compared: lower case, without punctuation; and how far apart two of them are."""

import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import jiwer


def normalised(transcript: str) -> str:
    """Words in lower case with one space between them: apostrophes go, other punctuation parts words."""
    folded = unicodedata.normalize("NFC", transcript).lower().replace("'", "").replace("’", "")
    spoken = (" " if unicodedata.category(character).startswith("P") else character for character in folded)
    return " ".join("".join(spoken).split())


def num_ctc_frames(target: bytes) -> int:
    """Frames that CTC needs at least: one a byte, and a blank between two alike."""
    return len(target) + sum(first == second for first, second in pairwise(target))


class ErrorCounts(NamedTuple):
    """Insertions, deletions and substitutions, and how many words or characters there were."""

    num_errors: int
    num_units: int


def word_errors(truths: Sequence[str], answers: Sequence[str]) -> ErrorCounts:
    """Summed over pairs of normalised transcripts; WER is errors / words."""
    return _counts(jiwer.process_words(list(truths), list(answers)))


def character_errors(truths: Sequence[str], answers: Sequence[str]) -> ErrorCounts:
    """Summed over pairs of normalised transcripts, spaces counted; CER is errors / characters."""
    return _counts(jiwer.process_characters(list(truths), list(answers)))


def _counts(output: jiwer.WordOutput | jiwer.CharacterOutput) -> ErrorCounts:
    wrong = output.substitutions + output.deletions
    return ErrorCounts(wrong + output.insertions, wrong + output.hits)

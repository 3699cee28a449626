"""Rows with pictures, clips and sound in every way that data sets write them."""

from typing import Any

import pytest
from support.formatting import formatted, source_of

from xoron_core.contract.errors import DataError
from xoron_core.data.formats import format_record
from xoron_core.data.records import Record

Row = dict[str, Any]

BYTES = {"bytes": b"\x89PNG", "path": "a.png"}
HUMAN, GPT = {"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A cat"}
CAT = {"image": "a.jpg", "question": "What is it?", "answer": "A cat"}
CHOICES = {"image": "a.jpg", "question": "What is it?\nA dog\nA cat", "answer": "A cat"}

VISION: list[tuple[Row, Row]] = [
    (CAT, CAT),
    ({"image": BYTES, "question": "What?", "multiple_choice_answer": "A cat", "answers": [{"answer": "A dog"}]},
     {"image": BYTES, "question": "What?", "answer": "A cat"}),
    ({"img": "a.jpg", "query": "What is it?", "label": ["A cat"]}, CAT),
    ({"image": "a.jpg", "question": "What is it?",
      "answers": [{"answer": "A dog", "id": 0}, {"answer": "A cat", "id": 1}, {"answer": "A cat", "id": 2}]}, CAT),
    ({"file_name": "a.jpg", "prompt": "What is it?", "answers": {"text": ["A cat"], "start": [0]}}, CAT),
    ({"image": "a.jpg", "conversations": [HUMAN, GPT, {"from": "human", "value": "And?"}, GPT]}, CAT),
    ({"images": ["a.jpg", "b.jpg"], "texts": [{"user": "What is it?", "assistant": "A cat", "source": "x"}]}, CAT),
    ({"images": [BYTES], "messages": [
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image", "text": None}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A cat"}]}]}, {**CAT, "image": BYTES}),
    ({"image": "a.jpg", "question": "What is it?", "choices": ["A dog", "A cat"], "answer": 1}, CHOICES),
    ({"image": "a.jpg", "question": "What is it?", "options": ["A dog", "A cat"], "answer": "1"}, CHOICES),
    ({"image": "a.jpg", "question": "How many?", "choices": ["2", "1"], "answer": "1"},
     {"image": "a.jpg", "question": "How many?", "answer": "1"}),
    ({"jpg": b"x", "json": {"q": 1}, "question": "Two?", "answer": True},
     {"image": b"x", "question": "Two?", "answer": "yes"}),
]  # fmt: skip

VIDEO: list[tuple[Row, Row]] = [
    ({"video": "a.mp4", "question": "What?", "answer": "A cat"},
     {"video": "a.mp4", "question": "What?", "answer": "A cat"}),
    ({"video": "a.mp4", "q": "What?", "a": "A cat"}, {"video": "a.mp4", "question": "What?", "answer": "A cat"}),
    ({"mp4": b"x", "conversations": [{"from": "human", "value": "<video>\nWhat?"}, GPT]},
     {"video": b"x", "question": "What?", "answer": "A cat"}),
]  # fmt: skip

CAPTION = {"image": "a.jpg", "caption": "A cat"}

IMAGE_GENERATION: list[tuple[Row, Row]] = [
    (CAPTION, CAPTION),
    *(({"image": "a.jpg", name: "A cat"}, CAPTION) for name in ("text", "description", "label", "prompt")),
    *(({name: "a.jpg", "caption": "A cat"}, CAPTION) for name in ("img", "picture", "file_name")),
    ({"image": BYTES, "captions": ["A cat", "Cat"]}, {"image": BYTES, "caption": "A cat"}),
    ({"image": BYTES, "sentences": {"raw": "A cat"}}, {"image": BYTES, "caption": "A cat"}),
    ({"png": b"x", "txt": "A cat", "__key__": "1"}, {"image": b"x", "caption": "A cat"}),
    ({"png": b"x", "json": {"caption": "A cat"}}, {"image": b"x", "caption": "A cat"}),
]

VIDEO_GENERATION: list[tuple[Row, Row]] = [
    ({"webm": b"x", "txt": "A cat"}, {"video": b"x", "caption": "A cat"}),
    ({"video": "a.mp4", "caption": "A cat", "fps": 24}, {"video": "a.mp4", "caption": "A cat"}),
]

ASR: list[tuple[Row, Row]] = [
    ({"audio": "a.wav", "text": "One"}, {"audio": "a.wav", "text": "One"}),
    ({"file": "/data/a.flac", "audio": {"bytes": b"x", "path": "a.flac"}, "text": "One", "speaker_id": 19, "id": "1"},
     {"audio": {"bytes": b"x", "path": "a.flac"}, "text": "One", "speaker": "19"}),
    ({"client_id": "c", "path": "a.mp3", "sentence": "One", "up_votes": 2},
     {"audio": "a.mp3", "text": "One", "speaker": "c"}),
    ({"audio_filepath": "a.wav", "duration": 1.0, "text": "One"}, {"audio": "a.wav", "text": "One"}),
    ({"file_name": "a.wav", "transcription": "One"}, {"audio": "a.wav", "text": "One"}),
    ({"flac": b"x", "json": {"text": "One", "speaker": "s"}}, {"audio": b"x", "text": "One", "speaker": "s"}),
    ({"audio": "a.wav", "raw_text": "", "normalized_text": "One"}, {"audio": "a.wav", "text": "One"}),
]  # fmt: skip

TTS: list[tuple[Row, Row]] = [
    ({"audio": "a.wav", "text": "No. 1", "normalized_text": "number one"}, {"audio": "a.wav", "text": "number one"}),
    ({"audio": "a.wav", "text_original": "No. 1", "text_normalized": "number one", "speaker": "s"},
     {"audio": "a.wav", "text": "number one", "speaker": "s"}),
    ({"wav": b"x", "txt": "One"}, {"audio": b"x", "text": "One"}),
]  # fmt: skip

TABLE = {
    "vision": VISION,
    "video": VIDEO,
    "image_generation": IMAGE_GENERATION,
    "video_generation": VIDEO_GENERATION,
    "voice_asr": ASR,
    "voice_tts": TTS,
}


@pytest.mark.parametrize(
    ("category", "row", "fields"), [(category, *pair) for category, pairs in TABLE.items() for pair in pairs]
)
def test_a_row_becomes_these_fields(category: str, row: Row, fields: Row) -> None:
    assert formatted(category, row) == fields


@pytest.mark.parametrize(
    ("category", "row", "kind"),
    [
        ("image_generation", {"image": "a.jpg", "label": 5}, "wrong_type"),
        ("image_generation", {"image": "a.jpg", "caption": " "}, "empty"),
        ("image_generation", {"image": 5, "caption": "A cat"}, "wrong_type"),
        ("vision", {"image": None, "question": "What?", "answer": "A cat"}, "empty"),
        ("vision", {"image": {"bytes": None, "path": None}, "question": "What?", "answer": "A cat"}, "wrong_type"),
        ("voice_asr", {"audio": {"array": [0.0], "sampling_rate": 16000}, "text": "One"}, "wrong_type"),
        ("voice_asr", {"audio": "a.wav", "text": ""}, "empty"),
        ("voice_asr", {"flac": b"x", "json": {"words": "One"}}, "wrong_type"),
    ],
)
def test_a_row_without_media_or_words_is_refused(category: str, row: Row, kind: str) -> None:
    with pytest.raises(DataError) as caught:
        formatted(category, row)
    assert caught.value.kind == kind


def test_the_bytes_are_read_from_where_the_row_says() -> None:
    record = Record("rows", 0, {"path": "a.jpg", "txt": "A cat"}, lambda name: f"content of {name}".encode())
    made = format_record(record, source_of("image_generation"), 0)
    assert made.media("image") == b"content of a.jpg"
    assert (made.source, made.index) == ("rows", 0)

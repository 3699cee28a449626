"""Rows with pictures, clips and sound: what they are called, questions, captions, transcripts."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from xoron_core.data.formats.columns import Columns, Form, Names, Need
from xoron_core.data.formats.messages import is_dialogue, read_messages
from xoron_core.data.formats.values import decoded, is_text, said

IMAGES: Final[Names] = (
    "image", "img", "picture", "photo", "images", "jpg", "jpeg", "png", "webp", "image_path", "image_file",
    "target_img", "file_name", "path", "file",
)  # fmt: skip
VIDEOS: Final[Names] = (
    "video", "clip", "videos", "mp4", "webm", "avi", "mov", "mkv", "gif", "webp", "video_path", "video_file",
    "file_name", "path", "file",
)  # fmt: skip
AUDIOS: Final[Names] = (
    "audio", "wav", "flac", "mp3", "ogg", "opus", "m4a", "speech", "recording", "audio_path", "audio_filepath",
    "file_name", "file", "path",
)  # fmt: skip
DIALOGUES: Final[Names] = ("conversations", "messages", "conversation", "texts")
QUESTIONS: Final[Names] = ("question", "query", "prompt", "instruction", "problem", "q")
ANSWERS: Final[Names] = (
    "answer", "multiple_choice_answer", "answers", "label", "response", "output", "direct_answers", "fullanswer",
    "target", "a",
)  # fmt: skip
CHOICES: Final[Names] = ("choices", "options")
CAPTIONS: Final[Names] = (
    "caption", "text", "description", "label", "prompt", "captions", "sentences", "sentence", "title", "alt_text",
    "txt", "instruction", "json.caption", "json.text", "json.prompt",
)  # fmt: skip
TRANSCRIPTS: Final[Names] = (
    "text", "sentence", "transcript", "transcription", "normalized_text", "text_normalized", "raw_text",
    "raw_transcription", "text_original", "original_text", "utterance", "txt", "json.text", "json.sentence",
)  # fmt: skip
SPOKEN: Final[Names] = ("normalized_text", "text_normalized", *TRANSCRIPTS)
"""What is to be spoken: rather with numbers in words."""
SPEAKERS: Final[Names] = ("speaker", "speaker_id", "client_id", "speaker_name", "spk_id", "json.speaker")

MARK = re.compile(r"\s{0,4}<(?:image|video|audio)(?:_\d+)?>\s*")
"""Where other formats put media into a question."""

Fields = Mapping[str, Any]


def is_media(value: Any) -> bool:
    """Whether a value is media: bytes, the name of a file, `{bytes, path}`, or a list that begins with one of these."""
    if isinstance(value, list | tuple):
        return bool(value) and is_media(value[0])
    if isinstance(value, dict):
        return bool(value.get("bytes") or value.get("path"))
    return isinstance(value, str | bytes | bytearray | memoryview) and len(value) > 0


def _first(media: Any) -> Any:
    return media[0] if isinstance(media, list | tuple) else media


def _questions(media_name: str, names: Names) -> tuple[Form[Fields], ...]:
    def asked(columns: Columns, media: Any, question: Any, answer: Any) -> Fields:
        asked, answered = said(question), said(answer)
        listed = decoded(columns.value(CHOICES))
        choices = {
            str(number): said(choice) for number, choice in enumerate(listed if isinstance(listed, list) else ())
        }
        if answered in choices and answered not in choices.values():
            asked, answered = "\n".join([asked, *choices.values()]), choices[answered]
        return {media_name: _first(media), "question": _without_marks(asked), "answer": answered}

    def discussed(columns: Columns, media: Any, dialogue: Any) -> Fields:
        """The first question of a conversation and its answer: a sample has one."""
        messages = read_messages(columns.record, dialogue, with_media=True)
        question = next((message.content for message in messages if message.role == "user"), "")
        answer = next((message.content for message in messages if message.role == "assistant"), "")
        return {media_name: _first(media), "question": _without_marks(question), "answer": answer}

    media = Need(names, is_media)
    return (
        Form((media, Need(QUESTIONS), Need(ANSWERS)), asked, (CHOICES,)),
        Form((media, Need(DIALOGUES, is_dialogue)), discussed),
    )


def _captioned(media_name: str, names: Names) -> tuple[Form[Fields], ...]:
    def captioned(_columns: Columns, media: Any, caption: Any) -> Fields:
        return {media_name: _first(media), "caption": said(caption)}

    return (Form((Need(names, is_media), Need(CAPTIONS, is_text)), captioned),)


def _speech(texts: Names) -> tuple[Form[Fields], ...]:
    def spoken(columns: Columns, audio: Any, text: Any) -> Fields:
        speaker = columns.text(SPEAKERS)
        return {"audio": _first(audio), "text": said(text)} | ({"speaker": speaker} if speaker else {})

    return (Form((Need(AUDIOS, is_media), Need(texts, is_text)), spoken, (SPEAKERS,)),)


def _without_marks(question: str) -> str:
    return MARK.sub("", question) if "<" in question else question


MEDIA_FORMS: Final[Mapping[str, tuple[Form[Fields], ...]]] = MappingProxyType(
    {
        "vision": _questions("image", IMAGES),
        "video": _questions("video", VIDEOS),
        "image_generation": _captioned("image", IMAGES),
        "video_generation": _captioned("video", VIDEOS),
        "voice_asr": _speech(TRANSCRIPTS),
        "voice_tts": _speech(SPOKEN),
    }
)
"""How rows of each category are written, the usual way first."""

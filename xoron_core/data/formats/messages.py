"""Conversations, and the ways in which rows hold them: messages with roles, pairs, lists of turns, labelled text."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from types import MappingProxyType
from typing import Any, Final, Literal

from xoron_core.data.formats.values import decoded, is_empty, said, to_json, without_nulls
from xoron_core.data.records import Record

Role = Literal["system", "user", "assistant", "tool"]

ROLE_KEYS = ("role", "from", "speaker", "author")
CONTENT_KEYS = ("content", "value", "text", "message", "utterance", "system_prompt")
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
CALL_KEYS = ("tool_calls", "function_call", "function_calls")
PAIR_KEYS = (("input", "output"), ("user", "assistant"), ("question", "answer"), ("prompt", "response"), ("q", "a"))
ARGUMENT_KEYS = ("arguments", "parameters", "args", "kwargs", "input")
PART_TYPES = ("text", "input_text", "output_text")
MEDIA_TYPES = ("image", "image_url", "input_image", "video", "audio", "input_audio")

ROLES: Final[Mapping[str, Role | Literal["call"]]] = MappingProxyType(
    {
        "system": "system", "developer": "system",
        "user": "user", "human": "user", "prompter": "user",
        "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
        "ai": "assistant", "bing": "assistant", "bard": "assistant", "agent": "assistant",
        "tool": "tool", "function": "tool", "observation": "tool", "ipython": "tool", "environment": "tool",
        "tool_result": "tool", "tool_response": "tool", "tool-response": "tool",
        "function_response": "tool", "function-response": "tool", "function response": "tool",
        "function_call": "call", "function-call": "call", "tool_call": "call", "tool-call": "call",
    }
)  # fmt: skip
"""What data sets call those who speak; `call`: the assistant, calling a tool."""

LABEL = re.compile(
    r"(?:\A|\n\n|### ?)\s{0,4}(Human|HUMAN|User|USER|Assistant|ASSISTANT|System|SYSTEM|FUNCTION RESPONSE): ?"
)
"""Begins a turn of a conversation that is one text."""


@dataclass(frozen=True)
class Message:
    """One message. `calls`: tools that it calls, `{name, arguments}` each, or a text that could not be read as that;
    `given`: all that the row says of it, for chat templates."""

    role: Role
    content: str = ""
    reasoning: str = ""
    calls: tuple[Any, ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Conversation:
    """Messages in their order, and the tools that there are, `{name, description?, parameters?}` each, or texts."""

    messages: tuple[Message, ...]
    tools: tuple[Any, ...] = ()


def roles_of(value: Any) -> tuple[str, ...]:
    """Who speaks in what a column holds, in order, "?" for somebody unknown; nobody where it is no conversation."""
    value = decoded(value)
    if isinstance(value, str):
        return tuple(message.role for message in _labelled(value)) if LABEL.match(value) else ()
    if not isinstance(value, list | tuple):
        return ()
    if len(value) > 1 and all(isinstance(item, str) for item in value):
        return tuple(role for role, _ in zip(cycle(("user", "assistant")), value, strict=False))
    roles: list[str] = []
    for item in value:
        if isinstance(item, dict) and _first(item, ROLE_KEYS) is not None:
            roles.append(ROLES.get(said(_first(item, ROLE_KEYS)).strip().lower(), "?"))
        elif isinstance(item, dict) and _pair_keys(item) is not None:
            roles += ["user", "assistant"]
        else:
            return ()
    return tuple(roles)


def is_dialogue(value: Any) -> bool:
    """Whether a column holds a conversation in which the assistant speaks."""
    roles = roles_of(value)
    return "assistant" in roles or "call" in roles or "?" in roles


def is_open_dialogue(value: Any) -> bool:
    """Whether a column holds a conversation that waits for an answer."""
    return roles_of(value)[-1:] in (("user",), ("tool",), ("system",))


def read_messages(record: Record, value: Any, *, with_media: bool = False) -> list[Message]:
    """The messages in what a column holds.

    Raises: DataError when one of them has nothing in it, a role that nobody knows, or, unless `with_media`, a picture.
    """
    value = decoded(value)
    if isinstance(value, str):
        return _labelled(value)
    messages: list[Message] = []
    for number, item in enumerate(value):
        if isinstance(item, str):
            messages.append(Message("assistant" if number % 2 else "user", item))
        elif _first(item, ROLE_KEYS) is None and (keys := _pair_keys(item)) is not None:
            user, assistant = (said(item[key]) for key in keys)
            messages += [Message("user", user), Message("assistant", assistant)]
        else:
            messages.append(_message(record, number, item, with_media=with_media))
    for number, message in enumerate(messages):
        if message.role in ("user", "assistant") and not (
            message.content.strip() or message.calls or message.reasoning
        ):
            raise record.error(f"message {number}, of the {message.role}, has nothing in it", "empty")
    return [message for message in messages if message.role != "system" or message.content.strip()]


def read_tools(value: Any) -> tuple[Any, ...]:
    """The definitions of tools in what a column holds."""
    value = decoded(value)
    items = value if isinstance(value, list | tuple) else [] if is_empty(value) else [value]
    return tuple(_inside(without_nulls(decoded(item)), "function") for item in items)


def read_calls(value: Any) -> tuple[Any, ...]:
    """The calls of tools in what a column holds."""
    value = decoded(value)
    items = value if isinstance(value, list | tuple) else [] if is_empty(value) else [value]
    return tuple(_call(item) for item in items)


def _call(item: Any) -> Any:
    item = _inside(decoded(item), "function")
    if not isinstance(item, dict) or not said(item.get("name")):
        return to_json(item)
    arguments = decoded(_first(item, ARGUMENT_KEYS))
    return {"name": said(item["name"]), "arguments": {} if arguments is None else without_nulls(arguments)}


def _message(record: Record, number: int, item: Any, *, with_media: bool) -> Message:
    if not isinstance(item, dict):
        raise record.error(f"message {number} must have a role and a content, got {item!r:.80}", "wrong_type")
    speaker = said(_first(item, ROLE_KEYS))
    role = ROLES.get(speaker.strip().lower())
    if role is None:
        known = ", ".join(ROLES)
        raise record.error(
            f"message {number} has the role {speaker!r:.80}; one of {known} was looked for", "wrong_type"
        )
    given = {str(key): value for key, value in item.items() if value is not None}
    content = _first(item, CONTENT_KEYS)
    if role == "call":
        return Message("assistant", calls=read_calls(content), given=given)
    return Message(
        role,
        _content(record, number, content, with_media=with_media),
        said(_first(item, REASONING_KEYS)),
        read_calls(_first(item, CALL_KEYS)),
        given,
    )


def _content(record: Record, number: int, content: Any, *, with_media: bool) -> str:
    """The text of a message; of one in parts, the parts a line each."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list | tuple) or not all(isinstance(part, dict) and "type" in part for part in content):
        return to_json(content)  # what a tool gave back
    texts = []
    for part in content:
        if part["type"] in PART_TYPES:
            texts.append(said(part.get("text")))
        elif part["type"] not in MEDIA_TYPES or not with_media:
            message = f"message {number} has a part of type {part['type']!r:.80}; only text is read here"
            raise record.error(message, "wrong_type")
    return "\n".join(text for text in texts if text)


def _labelled(text: str) -> list[Message]:
    _, *pieces = LABEL.split(text)
    speakers, contents = pieces[::2], pieces[1::2]
    turns = zip(speakers, contents, strict=True)
    return [
        Message(role, said_there)
        for speaker, content in turns
        if (role := ROLES[speaker.lower()]) != "call"
        and (said_there := content.strip().removesuffix("<|endoftext|>").rstrip())
    ]


def _first(item: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((value for key in keys if (value := item.get(key)) is not None), None)


def _pair_keys(item: Mapping[str, Any]) -> tuple[str, str] | None:
    return next((keys for keys in PAIR_KEYS if all(said(item.get(key)) for key in keys)), None)


def _inside(item: Any, key: str) -> Any:
    return item[key] if isinstance(item, dict) and isinstance(item.get(key), dict) else item

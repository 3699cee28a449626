"""Chat templates: conversations as the Jinja template of a tokenizer writes them, in a sandbox."""

import re
from typing import Any, cast

from xoron_core.contract.errors import ConfigError
from xoron_core.contract.special_tokens import BOS, EOS, PAD
from xoron_core.data.formats.learned import Spans
from xoron_core.data.formats.messages import Conversation, Message
from xoron_core.data.records import Record

GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
"""Begins what the assistant says, in a template that marks it."""


def check(template: str, field: str) -> None:
    """See that a template parses.

    Raises: ConfigError about `field`.
    """
    from jinja2 import TemplateSyntaxError
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        render_jinja_template([], chat_template=template)
    except TemplateSyntaxError as error:
        message = f"is no Jinja template: {error.message} (its line {error.lineno})"
        raise ConfigError.of(field, message, template[:200]) from error


def rendered(record: Record, conversation: Conversation, template: str, *, marked: bool) -> tuple[str, Spans]:
    """The text of a conversation, and, where `marked`, the spans inside `{% generation %}` blocks.

    Raises: DataError when the template refuses the conversation, fails, or writes nothing.
    """
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        rows = render_jinja_template(
            [[_message(message) for message in conversation.messages]],
            tools=[_tool(tool) for tool in conversation.tools] or None,
            chat_template=template,
            return_assistant_tokens_mask=marked,
            bos_token=BOS,
            eos_token=EOS,
            pad_token=PAD,
        )
    except Exception as error:  # boundary: a template is somebody else's program, and raises what it likes
        reason = f"chat_template fails on these messages: {type(error).__name__}: {error}"
        raise record.error(reason[:400], "wrong_type") from error
    [text], spans = cast(tuple[list[str], list[Spans]], rows)  # the library declares a str
    if not text.strip():
        raise record.error("chat_template writes nothing of these messages", "empty")
    return text, tuple(spans[0]) if marked else ()


def _message(message: Message) -> dict[str, Any]:
    """A message as templates read it."""
    unread = [call for call in message.calls if isinstance(call, str)]
    content = "\n".join([message.content, *unread] if message.content else unread)
    plain: dict[str, Any] = {**message.given, "role": message.role, "content": content}
    if message.reasoning:
        plain["reasoning_content"] = message.reasoning
    if calls := [call for call in message.calls if not isinstance(call, str)]:
        plain["tool_calls"] = [{"type": "function", "function": call} for call in calls]
    return plain


def _tool(tool: Any) -> Any:
    return {"type": "function", "function": tool}

"""Conversations in the project's format, and the forms of rows that are conversations whatever their category."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

from xoron_core.contract.special_tokens import BOS, EOS, opening
from xoron_core.data.formats.columns import Columns, Form, Names, Need
from xoron_core.data.formats.messages import (
    LABEL,
    Conversation,
    Message,
    is_dialogue,
    is_open_dialogue,
    read_calls,
    read_messages,
    read_tools,
)
from xoron_core.data.formats.values import is_empty, said, to_json
from xoron_core.data.formats.writing import block, lines, trimmed

MESSAGES: Final[Names] = (
    "messages", "conversations", "conversation", "dialog", "dialogue", "chat", "turns", "chosen", "trajectory", "data",
)  # fmt: skip
QUESTIONS: Final[Names] = (
    "instruction", "question", "prompt", "query", "problem", "task", "user", "input", "inputs", "goal",
    "problem_statement", "q",
)  # fmt: skip
ANSWERS: Final[Names] = (
    "output", "response", "answer", "completion", "chosen", "best_answer", "right_answer", "final_answer", "answers",
    "reply", "solution", "assistant", "target", "targets", "possible_answers", "a",
)  # fmt: skip
CONTEXTS: Final[Names] = ("context", "input", "knowledge", "passage")
SYSTEMS: Final[Names] = ("system", "system_prompt", "system_message")
TOOLS: Final[Names] = ("tools", "functions", "available_tools", "function_description", "tool_definitions")
REASONING: Final[Names] = ("reasoning", "reasoning_content", "thinking", "think")

FOREIGN_BLOCKS: Final = (
    ("<think>", "</think>", "think"),
    ("<thinking>", "</thinking>", "think"),
    ("<|begin_of_thought|>", "<|end_of_thought|>", "think"),
    ("<|begin_of_solution|>", "<|end_of_solution|>", ""),
    ("<tool_call>", "</tool_call>", "tool_call"),
    ("<tool_response>", "</tool_response>", "tool_result"),
    ("<functioncall>", "", "tool_call"),
)
"""What other models put around thoughts and calls: where it begins, where it ends ("": with the message), and the
project's name for it ("": none)."""


def written(conversation: Conversation) -> str:
    """The text of a conversation: system, tools, then turn by turn; what tools give back is part of the turn of the
    assistant, who called them."""
    parts = [BOS]
    messages = conversation.messages
    num_system = next((at for at, message in enumerate(messages) if message.role != "system"), len(messages))
    parts += [lines("system", trimmed(message.content)) for message in messages[:num_system]]
    if conversation.tools:
        parts.append(lines("available_tools", *map(_definition, conversation.tools)))
    for is_reply, group in groupby(messages[num_system:], lambda message: message.role in ("assistant", "tool")):
        if is_reply:
            parts.append(lines("assistant", *(line for message in group for line in _reply(message))))
        else:
            parts += [lines(message.role, trimmed(message.content)) for message in group]
    return "".join([*parts, EOS])


def exchange(columns: Columns, question: str, *replies: Message) -> Conversation:
    """A question with its context, and what follows; the row's system prompt and tools before them."""
    context = columns.text(CONTEXTS)
    asked = f"{question}\n\n{trimmed(context)}" if context and context != question else question
    messages = [*_system(columns), Message("user", asked), *replies]
    return Conversation(tuple(messages), read_tools(columns.value(TOOLS)))


def chat(columns: Columns, dialogue: Any) -> Conversation:
    """A row of messages."""
    messages = read_messages(columns.record, dialogue)
    if not any(message.role == "system" for message in messages):
        messages = [*_system(columns), *messages]
    return Conversation(tuple(messages), read_tools(columns.value(TOOLS)))


def _continued(columns: Columns, dialogue: Any, answer: Any) -> Conversation:
    begun = chat(columns, dialogue)
    if is_dialogue(answer):
        ending = read_messages(columns.record, answer)
    else:
        ending = [Message("assistant", said(answer), columns.text(REASONING))]
    return Conversation((*begun.messages, *ending), begun.tools)


def _answered(columns: Columns, question: Any, answer: Any) -> Conversation:
    return exchange(columns, said(question), Message("assistant", said(answer)))


def _system(columns: Columns) -> list[Message]:
    text = columns.text(SYSTEMS)
    label = LABEL.match(text)
    text = text[label.end() :] if label else text
    return [] if is_empty(text) else [Message("system", text)]


def _definition(tool: Any) -> str:
    if not isinstance(tool, dict) or not said(tool.get("name")):
        return block("tool_def", to_json(tool))
    description = said(tool.get("description"))
    parameters = tool.get("parameters")
    shown = [f"{tool['name']}: {description}" if description else said(tool["name"])]
    shown += [] if is_empty(parameters) else [block("tool_params", to_json(parameters))]
    return block("tool_def", " ".join(shown))


def _reply(message: Message) -> list[str]:
    """The lines of what the assistant or one of its tools says."""
    if message.role == "tool":
        result = own_blocks(message.content).strip()
        return [result if result.startswith(opening("tool_result")) else block("tool_result", result)]
    calls = [_call(call) for call in message.calls]
    shown = [lines("think", trimmed(message.reasoning))] if message.reasoning else []
    content = trimmed(own_blocks(message.content))
    shown += [content] if content else []
    return [*shown, *(calls if len(calls) < 2 else [lines("tool_calls", *calls)])]


def _call(call: Any) -> str:
    if isinstance(call, str):
        return block("tool_call", call.strip())
    name, arguments = block("function_name", call["name"]), block("function_args", to_json(call["arguments"]))
    return block("tool_call", name + arguments)


def own_blocks(text: str) -> str:
    """A text with the blocks of other formats as the project writes them."""
    for begin, end, name in FOREIGN_BLOCKS:
        if begin in text:
            text = "".join(_replaced(text, begin, end, name))
    return text


def _replaced(text: str, begin: str, end: str, name: str) -> Iterator[str]:
    """The pieces of a text, its blocks of one kind written anew, in one pass however hostile it is."""
    head, *rest = text.split(begin)
    yield head
    for piece in rest:
        body, closed, after = piece.partition(end) if end else (piece, "at the end", "")
        yield from (_own_block(name, body.strip()), after.lstrip()) if closed else (begin, piece)


def _own_block(name: str, body: str) -> str:
    if not name or not body:
        return body
    if name == "tool_call":
        return "".join(f"{_call(call)}\n" for call in read_calls(body))
    return (lines(name, body) if name == "think" else block(name, body)) + "\n"


CHAT: Final = (
    Form(
        (
            Need(("prompt", "messages", "input", "conversation"), is_open_dialogue),
            Need(ANSWERS, lambda value: is_dialogue(value) or bool(said(value))),
        ),
        _continued,
        (SYSTEMS, TOOLS, REASONING),
    ),
    Form((Need(MESSAGES, is_dialogue),), chat, (SYSTEMS, TOOLS)),
)
"""Rows of messages."""

PAIR: Final = Form((Need(QUESTIONS), Need(ANSWERS)), _answered, (CONTEXTS, SYSTEMS, TOOLS))
"""A question and its answer."""

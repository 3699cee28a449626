"""Rows of conversations in every way that data sets write them, and the text that is made of each."""

import json
from typing import Any

import pytest
from support.formatting import formatted

from xoron_core.contract.errors import DataError

Row = dict[str, Any]


def user(text: str) -> str:
    return f"<|user|>\n{text}\n<|/user|>"


def assistant(text: str) -> str:
    return f"<|assistant|>\n{text}\n<|/assistant|>"


def system(text: str) -> str:
    return f"<|system|>\n{text}\n<|/system|>"


def whole(*turns: str) -> str:
    return "<|bos|>" + "".join(turns) + "<|eos|>"


def openai(*turns: tuple[str, Any]) -> list[Row]:
    return [{"role": role, "content": content} for role, content in turns]


def call(name: str, arguments: str) -> str:
    return (
        f"<|tool_call|><|function_name|>{name}<|/function_name|><|function_args|>{arguments}<|/function_args|>"
        "<|/tool_call|>"
    )


HELLO = whole(user("Hello"), assistant("Good day"))
HELLO_MESSAGES = openai(("user", "Hello"), ("assistant", "Good day"))

CONVERSATIONS: list[tuple[Row, str]] = [
    ({"messages": HELLO_MESSAGES}, HELLO),
    ({"Messages": HELLO_MESSAGES, "text": "Hello Good day", "id": 1}, HELLO),
    ({"messages": json.dumps(HELLO_MESSAGES)}, HELLO),
    ({"messages": openai(("system", "Be brief."), *[("user", "Hello"), ("assistant", "Good day")])},
     whole(system("Be brief."), user("Hello"), assistant("Good day"))),
    ({"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Good day"}]}, HELLO),
    ({"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Good day"}],
      "system": "Be brief."}, whole(system("Be brief."), user("Hello"), assistant("Good day"))),
    ({"conversation": [{"input": "Hello", "output": "Good day"}]}, HELLO),
    ({"conversation": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day"}]}, HELLO),
    ({"trajectory": [{"role": "system", "text": None, "system_prompt": "Be brief."}, {"role": "user", "text": "Hello"},
                     {"role": "ai", "text": "Good day"}]},
     whole(system("Be brief."), user("Hello"), assistant("Good day"))),
    ({"instruction": "Hello", "input": "", "output": "Good day", "text": "Below is an instruction."}, HELLO),
    ({"instruction": "Add.", "input": "1 and 2", "output": "3"}, whole(user("Add.\n\n1 and 2"), assistant("3"))),
    ({"instruction": "Who?", "context": "It was Ada.", "response": "Ada", "category": "qa"},
     whole(user("Who?\n\nIt was Ada."), assistant("Ada"))),
    ({"system_prompt": "Be brief.", "question": "Hello", "response": "Good day"},
     whole(system("Be brief."), user("Hello"), assistant("Good day"))),
    ({"prompt": "Hello", "completion": "Good day"}, HELLO),
    ({"prompt": "Hello", "response": "Good day"}, HELLO),
    ({"prompt": "Hello", "chosen": "Good day", "rejected": "No"}, HELLO),
    ({"prompt": "Hello", "chosen": HELLO_MESSAGES, "rejected": HELLO_MESSAGES}, HELLO),
    ({"prompt": HELLO_MESSAGES[:1], "completion": HELLO_MESSAGES[1:]}, HELLO),
    ({"input": HELLO_MESSAGES[:1], "output": "Good day"}, HELLO),
    ({"chosen": "\n\nHuman: Hello\n\nAssistant: Good day", "rejected": "\n\nHuman: Hello\n\nAssistant: No"}, HELLO),
    ({"question": "Hello", "answer": "Good day"}, HELLO),
    ({"question": "How many?", "answer": 3}, whole(user("How many?"), assistant("3"))),
    ({"question": "Is it?", "answer": False}, whole(user("Is it?"), assistant("no"))),
    ({"question": "Who?", "answers": ["Bo", "Ada", "Ada"]}, whole(user("Who?"), assistant("Ada"))),
    ({"dialog": ["Hello", "Good day", "How are you?", "Well"]},
     whole(user("Hello"), assistant("Good day"), user("How are you?"), assistant("Well"))),
    ({"data": ["Hello", "Good day"], "id": "0"}, HELLO),
    ({"messages": openai(("user", [{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}]),
                         ("assistant", "Three"))}, whole(user("One\nTwo"), assistant("Three"))),
    ({"messages": openai(("user", "\n  Keep\n"), ("assistant", "    code"))},
     whole(user("  Keep"), assistant("    code"))),
    ({"messages": openai(("user", "Hello"), ("assistant", "<think>\nA greeting.\n</think>\n\nGood day"))},
     whole(user("Hello"), assistant("<|think|>\nA greeting.\n<|/think|>\nGood day"))),
    ({"messages": openai(("user", "<think>"), ("assistant", "<think>\n\n</think>\n\nGood day"))},
     whole(user("<think>"), assistant("Good day"))),
    ({"messages": [{"role": "user", "content": "Hello"},
                   {"role": "assistant", "content": "Good day", "reasoning_content": "A greeting."}]},
     whole(user("Hello"), assistant("<|think|>\nA greeting.\n<|/think|>\nGood day"))),
    ({"text": "Hello, plainly"}, "Hello, plainly"),
]  # fmt: skip

WEATHER = {"name": "weather", "description": "Weather of a place", "parameters": {"place": {"type": "string"}}}
TOOLS = (
    "<|available_tools|>\n<|tool_def|>weather: Weather of a place <|tool_params|>"
    '{"place": {"type": "string"}}<|/tool_params|><|/tool_def|>\n<|/available_tools|>'
)
CALL = call("weather", '{"place": "Bern"}')
ARGUMENTS = {"place": "Bern"}

TOOL_USE: list[tuple[Row, str]] = [
    ({"query": "Weather?", "tools": json.dumps([WEATHER]),
      "answers": json.dumps([{"name": "weather", "arguments": ARGUMENTS}])},
     whole(TOOLS, user("Weather?"), assistant(CALL))),
    ({"query": "Weather?", "tools": [WEATHER], "answers": [{"name": "weather", "arguments": ARGUMENTS}] * 2,
      "result": {"sun": True}, "final_answer": "Sunny"},
     whole(TOOLS, user("Weather?"), assistant(f"<|tool_calls|>\n{CALL}\n{CALL}\n<|/tool_calls|>\n"
                                              '<|tool_result|>{"sun": true}<|/tool_result|>\nSunny'))),
    ({"tools": [{"type": "function", "function": {**WEATHER, "strict": None}}],
      "messages": [
          {"role": "user", "content": "Weather?", "tool_calls": None},
          {"role": "assistant", "content": None, "tool_calls": [
              {"id": "1", "type": "function",
               "function": {"name": "weather", "arguments": json.dumps(ARGUMENTS)}}]},
          {"role": "tool", "tool_call_id": "1", "content": "sun", "tool_calls": None},
          {"role": "assistant", "content": "Sunny", "tool_calls": []},
          {"role": "user", "content": "Thanks"},
          {"role": "assistant", "content": "Bye"}]},
     whole(TOOLS, user("Weather?"), assistant(f"{CALL}\n<|tool_result|>sun<|/tool_result|>\nSunny"),
           user("Thanks"), assistant("Bye"))),
    ({"messages": [{"role": "user", "content": "Weather?"},
                   {"role": "assistant", "content": "Let me see.", "tool_calls": [
                       {"function": {"name": "weather", "arguments": {"place": "Bern", "unit": None}}}]},
                   {"role": "tool", "content": {"sun": True}}]},
     whole(user("Weather?"), assistant(f'Let me see.\n{CALL}\n<|tool_result|>{{"sun": true}}<|/tool_result|>'))),
    ({"tools": json.dumps([WEATHER]), "system": "Be brief.", "conversations": [
        {"from": "human", "value": "Weather?"},
        {"from": "function_call", "value": json.dumps({"name": "weather", "arguments": ARGUMENTS})},
        {"from": "observation", "value": "sun"}, {"from": "gpt", "value": "Sunny"}]},
     whole(system("Be brief."), TOOLS, user("Weather?"),
           assistant(f"{CALL}\n<|tool_result|>sun<|/tool_result|>\nSunny"))),
    ({"conversations": [
        {"from": "human", "value": "Weather?"},
        {"from": "gpt",
         "value": f"<tool_call>\n{json.dumps({'name': 'weather', 'arguments': ARGUMENTS})}\n</tool_call>"},
        {"from": "tool", "value": "<tool_response>\nsun\n</tool_response>"}]},
     whole(user("Weather?"), assistant(f"{CALL}\n<|tool_result|>sun<|/tool_result|>"))),
    ({"system": "SYSTEM: You can call functions.",
      "chat": 'USER: Weather?\n\n\nASSISTANT: <functioncall> {"name": \'weather\'} <|endoftext|>\n\n\n'
              "FUNCTION RESPONSE: sun\n\n\nASSISTANT: Sunny <|endoftext|>\n\n\n"},
     whole(system("You can call functions."), user("Weather?"),
           assistant('<|tool_call|>{"name": \'weather\'}<|/tool_call|>\n<|tool_result|>sun<|/tool_result|>\nSunny'))),
    ({"tools": "weather(place)", "query": "Weather?", "answer": "Which place?"},
     whole("<|available_tools|>\n<|tool_def|>weather(place)<|/tool_def|>\n<|/available_tools|>", user("Weather?"),
           assistant("Which place?"))),
    ({"tools": "[]", "query": "Hello", "answer": "Good day"}, HELLO),
]  # fmt: skip

STEPS = [
    {"thought": "Search first.", "action": "search", "action_input": {"q": "xoron"}, "observation": "a page"},
    {"thought": "Open it.", "action": "click[1]", "observation": {"page": 1}},
    {"thought": "Done."},
]
STEPPED = assistant(
    "<|think|>\nSearch first.\n<|/think|>\n"
    + call("search", '{"q": "xoron"}')
    + "\n<|tool_result|>a page<|/tool_result|>\n<|think|>\nOpen it.\n<|/think|>\n<|tool_call|>click[1]<|/tool_call|>\n"
    '<|tool_result|>{"page": 1}<|/tool_result|>\n<|think|>\nDone.\n<|/think|>\nFound'
)

AGENTIC: list[tuple[Row, str]] = [
    ({"task": "Find it.", "trajectory": STEPS, "final_answer": "Found"}, whole(user("Find it."), STEPPED)),
    ({"goal": "Find it.", "steps": json.dumps(STEPS), "answer": "Found"}, whole(user("Find it."), STEPPED)),
    ({"instruction": "Find it.", "thoughts": ["Look."], "actions": ["search[x]", "stop"], "observations": ["a page"]},
     whole(user("Find it."), assistant(
         "<|think|>\nLook.\n<|/think|>\n<|tool_call|>search[x]<|/tool_call|>\n<|tool_result|>a page<|/tool_result|>\n"
         "<|tool_call|>stop<|/tool_call|>"))),
    ({"conversations": [{"from": "human", "value": "Go", "loss": None},
                        {"from": "gpt", "value": "Act: ls", "loss": True}]},
     whole(user("Go"), assistant("Act: ls"))),
    ({"question": "Hello", "answer": "Good day"}, HELLO),
    ({"trajectory": HELLO_MESSAGES}, HELLO),
]  # fmt: skip

TABLE = {"conversation": CONVERSATIONS, "tool_use": TOOL_USE, "agentic": AGENTIC}


@pytest.mark.parametrize(
    ("category", "row", "text"), [(category, *pair) for category, pairs in TABLE.items() for pair in pairs]
)
def test_a_row_becomes_this_text(category: str, row: Row, text: str) -> None:
    assert formatted(category, row) == {"text": text}


@pytest.mark.parametrize(
    ("messages", "kind", "reason"),
    [
        (openai(("user", "Hello"), ("wizard", "Hm")), "wrong_type", "message 1 has the role 'wizard'"),
        (openai(("user", "Hello"), ("assistant", " \n")), "empty", "message 1, of the assistant, has nothing in it"),
        (openai(("user", [{"type": "image"}]), ("assistant", "A cat")), "wrong_type", "a part of type 'image'"),
    ],
)
def test_a_message_at_fault_is_named(messages: list[Row], kind: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        formatted("conversation", {"messages": messages})
    assert caught.value.kind == kind


def test_a_tool_may_have_nothing_to_say() -> None:
    messages = openai(("user", "Run it"), ("tool", ""), ("assistant", "Done"))
    assert "<|tool_result|><|/tool_result|>" in formatted("tool_use", {"messages": messages})["text"]


def test_tags_in_plain_columns_are_kept() -> None:
    row = {"question": "Add 1 and 2", "answer": "<|think|>\n1 + 2\n<|/think|>\n3"}
    assert formatted("conversation", row)["text"] == whole(user(row["question"]), assistant(row["answer"]))

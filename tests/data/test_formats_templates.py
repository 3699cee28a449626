"""Conversations as a tokenizer's chat template writes them."""

import json
from typing import Any

import pytest
from support.formatting import formatted, source_of

from xoron_core.contract.errors import ConfigError, DataError
from xoron_core.data.formats import check_format

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKED = (
    "{{- bos_token -}}\n"
    "{%- for message in messages %}\n"
    "    {%- if message['role'] == 'assistant' %}\n"
    "        {{- '[A]' }}{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}\n"
    "    {%- else %}\n"
    "        {{- '[' + message['role'] + ']' + message['content'] }}\n"
    "    {%- endif %}\n"
    "{%- endfor %}"
)
TOOLS = (
    "{% for tool in tools or [] %}{{ tool | tojson }};{% endfor %}"
    "{% for message in messages %}{% for call in message.tool_calls or [] %}"
    "{{ call.function.name }}({{ call.function.arguments | tojson }}){% if not loop.last %}, {% endif %}{% endfor %}"
    "{{ message.reasoning_content or '' }}{{ message.content }}{{ message.tool_call_id }}|{% endfor %}"
)
STRICT = (
    "{% for message in messages %}"
    "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('turns must alternate') }}{% endif %}"
    "{{ message.content }}{% endfor %}"
)
HELLO = [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Good day"}]


def test_a_template_writes_the_messages() -> None:
    made = formatted("conversation", {"conversations": HELLO}, chat_template=CHATML)
    assert made == {"text": "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nGood day<|im_end|>\n"}


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Hello", "output": "Good day"},
        {"messages": HELLO, "text": "No"},
        {"messages": json.dumps(HELLO)},
        {"dialog": ["Hello", "Good day"]},
    ],
)
def test_all_kinds_of_rows_have_messages_for_a_template(row: Any) -> None:
    assert formatted("conversation", row, chat_template=STRICT) == {"text": "HelloGood day"}


def test_what_is_generated_is_learned() -> None:
    row = {"system": "Be brief.", "conversations": [*HELLO, *HELLO]}
    made = formatted("conversation", row, chat_template=MARKED, loss_on="assistant")
    text = made["text"]
    assert text == "<|bos|>[system]Be brief.[user]Hello[A]Good day<|eos|>[user]Hello[A]Good day<|eos|>"
    assert [text[start:stop] for start, stop in made["learned"]] == ["Good day<|eos|>"] * 2
    assert formatted("conversation", row, chat_template=MARKED) == {"text": text}


def test_tools_calls_thoughts_and_results_reach_the_template() -> None:
    row = {
        "tools": json.dumps([{"name": "weather"}]),
        "messages": [
            {"role": "user", "content": "Rain?"},
            {"role": "assistant", "content": None, "reasoning": "Look.", "tool_calls": [
                {"id": "x", "function": {"name": "weather", "arguments": '{"place": "Bern & <Thun>"}'}},
                {"id": "y", "function": {"name": "clock", "arguments": {}}}]},
            {"role": "tool", "tool_call_id": "x", "content": "sun"},
        ],
    }  # fmt: skip
    assert formatted("tool_use", row, chat_template=TOOLS)["text"] == (
        '{"type": "function", "function": {"name": "weather"}};Rain?|'
        'weather({"place": "Bern & <Thun>"}), clock({})Look.|sunx|'
    )


def test_thoughts_of_a_row_of_another_category_reach_the_template_too() -> None:
    row = {"question": "1 + 2?", "reasoning": "Count on.", "answer": "3"}
    assert formatted("chain_of_thought", row, chat_template=TOOLS)["text"] == "1 + 2?|Count on.3|"


def test_a_conversation_that_a_template_refuses_is_a_data_error() -> None:
    with pytest.raises(DataError, match="turns must alternate") as caught:
        formatted("conversation", {"messages": [*HELLO, HELLO[1]]}, chat_template=STRICT)
    assert caught.value.kind == "wrong_type"


def test_a_text_that_begins_with_a_special_token_is_left_as_it_is() -> None:
    text = "<|user|>\nNo\n<|/user|>\n<|assistant|>\nYes\n<|/assistant|>"
    assert formatted("conversation", {"messages": HELLO, "text": text}, chat_template=STRICT) == {"text": text}
    made = formatted("conversation", {"text": text}, chat_template=MARKED, loss_on="assistant")
    assert [text[start:stop] for start, stop in made["learned"]] == ["\nYes\n<|/assistant|>"]


@pytest.mark.parametrize("row", [{"text": "Hello"}, {"text": "of <|user|>"}])
def test_a_row_without_messages_has_nothing_for_a_template(row: Any) -> None:
    with pytest.raises(DataError, match="no messages that chat_template could write"):
        formatted("conversation", row, chat_template=CHATML)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''.__class__ }}{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{% for message in messages %}{{ message.update({'role': 'x'}) }}{% endfor %}",
        "{{ raise_exception.__globals__['os'] }}",
        "{% include '/etc/passwd' %}",
        "{{ nonsense.attribute }}",
        "{{ 1 + 'a' }}",
    ],
)
def test_a_template_gets_at_nothing_but_what_it_is_given(template: str) -> None:
    check_format(source_of("conversation", chat_template=template), "source")
    with pytest.raises(DataError, match="chat_template fails on these messages: "):
        formatted("conversation", {"messages": HELLO}, chat_template=template)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"chat_template": "{% for message in messages %}\n{{ message"}, r"is no Jinja template: .* \(its line 2\)"),
        ({"chat_template": "{% nonsense %}"}, "is no Jinja template: Encountered unknown tag 'nonsense'"),
        ({"chat_template": CHATML, "loss_on": "assistant"}, "does not mark what the assistant says"),
    ],
)
def test_a_template_that_cannot_be_used_is_a_config_error(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        check_format(source_of("conversation", **options), "data.sources.1")
    assert [problem.field for problem in caught.value.problems] == ["data.sources.1.chat_template"]


@pytest.mark.parametrize("category", ["document", "fim", "vision", "voice_asr"])
def test_a_template_is_for_conversations(category: str) -> None:
    with pytest.raises(ConfigError, match=f"is for conversations, which {category} has none of"):
        check_format(source_of(category, chat_template=CHATML), "data.sources.1")


@pytest.mark.parametrize("template", [CHATML, MARKED, TOOLS, STRICT])
def test_a_template_that_can_be_used_is_fine(template: str) -> None:
    check_format(source_of("agentic", chat_template=template), "data.sources.1")


def test_a_template_that_marks_nothing_of_a_row_teaches_nothing() -> None:
    with pytest.raises(DataError, match="the assistant says nothing in it") as caught:
        template = "{{ messages[0].content }}{# {% generation %} #}"
        formatted("conversation", {"messages": HELLO}, chat_template=template, loss_on="assistant")
    assert caught.value.kind == "empty"


def test_a_template_that_writes_nothing_of_a_row_is_a_data_error() -> None:
    with pytest.raises(DataError, match="chat_template writes nothing") as caught:
        formatted("conversation", {"messages": HELLO}, chat_template="{% if tools %}{{ tools }}{% endif %} \n\n")
    assert caught.value.kind == "empty"

"""Tool use, and trajectories of agents: thoughts, actions, observations."""

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any, Final

from xoron_core.data.formats.columns import Columns, Form, Names, Need
from xoron_core.data.formats.conversation import CHAT, CONTEXTS, PAIR, QUESTIONS, SYSTEMS, TOOLS, exchange
from xoron_core.data.formats.messages import Conversation, Message, read_calls
from xoron_core.data.formats.values import decoded, said, to_json, without_nulls

CALLS: Final[Names] = (
    "answers", "tool_calls", "function_calls", "function_call", "calls", "answer", "output", "response", "completion",
)  # fmt: skip
RESULTS: Final[Names] = ("tool_result", "tool_results", "tool_output", "observation", "result", "results")
STEPS: Final[Names] = ("trajectory", "steps", "actions", "history", "trace")
THOUGHTS: Final[Names] = ("thoughts", "thought", "reasoning")
ACTIONS: Final[Names] = ("actions", "action")
OBSERVATIONS: Final[Names] = ("observations", "observation")
FINALS: Final[Names] = ("final_answer", "final_response", "answer", "response", "output")
TASKS: Final[Names] = ("task", "goal", *QUESTIONS, "user_request", "confirmed_task")

THOUGHT_KEYS = ("thought", "thoughts", "reasoning", "think")
ACTION_KEYS = ("action", "tool", "tool_name", "tool_call", "name")
INPUT_KEYS = ("action_input", "tool_input", "arguments", "args", "input", "parameters")
OBSERVATION_KEYS = ("observation", "result", "tool_output", "output")


def is_calls(value: Any) -> bool:
    """Whether a column holds calls of tools: each has a name."""
    value = decoded(value)
    items = value if isinstance(value, list | tuple) else [value]
    return bool(items) and all(isinstance(call, dict) for call in read_calls(items))


def is_steps(value: Any) -> bool:
    """Whether a column holds steps that each have a thought, an action or an observation."""
    value = decoded(value)
    keys = {*THOUGHT_KEYS, *ACTION_KEYS, *OBSERVATION_KEYS}
    return isinstance(value, list | tuple) and all(isinstance(step, dict) and keys & step.keys() for step in value)


def is_list(value: Any) -> bool:
    """Whether a column holds several things."""
    return isinstance(decoded(value), list | tuple)


def _called(columns: Columns, question: Any, calls: Any) -> Conversation:
    replies = [Message("assistant", calls=read_calls(calls))]
    result = columns.value(RESULTS)
    if result is not None:
        replies.append(Message("tool", to_json(result)))
    if final := columns.text(("final_answer", "final_response")):
        replies.append(Message("assistant", final))
    return exchange(columns, said(question), *replies)


def _stepped(columns: Columns, task: Any, steps: Any) -> Conversation:
    replies = [message for step in decoded(steps) for message in _step(step)]
    if final := columns.text(FINALS):
        replies.append(Message("assistant", final))
    return exchange(columns, said(task), *replies)


def _in_parallel(columns: Columns, task: Any, actions: Any) -> Conversation:
    """Thoughts, actions and observations in columns of their own."""
    lists = [decoded(columns.value(names)) for names in (THOUGHTS, OBSERVATIONS)]
    thoughts, observations = (found if isinstance(found, list | tuple) else () for found in lists)
    rows = zip_longest(thoughts, decoded(actions), observations)
    steps = [dict(zip(("thought", "action", "observation"), row, strict=True)) for row in rows]
    return _stepped(columns, task, steps)


def _step(step: Mapping[str, Any]) -> list[Message]:
    thought, action, given, observation = (
        next((value for key in keys if (value := step.get(key)) is not None), None)
        for keys in (THOUGHT_KEYS, ACTION_KEYS, INPUT_KEYS, OBSERVATION_KEYS)
    )
    calls: tuple[Any, ...] = ()
    if action is not None:
        named = isinstance(action, str) and given is not None
        calls = ({"name": action, "arguments": without_nulls(decoded(given))},) if named else read_calls([action])
    messages = [Message("assistant", reasoning=said(thought), calls=calls)] if said(thought) or calls else []
    return messages + ([] if observation is None else [Message("tool", to_json(observation))])


_AROUND = (CONTEXTS, SYSTEMS, TOOLS)

TOOL_USE: Final = (
    *CHAT,
    Form((Need(QUESTIONS), Need(CALLS, is_calls)), _called, (*_AROUND, RESULTS, ("final_answer", "final_response"))),
    PAIR,
)
AGENTIC: Final = (
    *CHAT,
    Form((Need(TASKS), Need(STEPS, is_steps)), _stepped, (*_AROUND, FINALS)),
    Form((Need(TASKS), Need(ACTIONS, is_list)), _in_parallel, (*_AROUND, FINALS, THOUGHTS, OBSERVATIONS)),
    *TOOL_USE[len(CHAT) :],
)

"""Tool use: definitions as JSON, calls, results that are really computed, and what to say about an error."""

import calendar
import datetime
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from tools.demo.documents import Document, block, chat, lines, some_system
from tools.demo.packages import PACKAGES, fetch, members
from tools.demo.wordnet import Sense
from xoron_core.contract.special_tokens import opening

TOOLS: dict[str, tuple[str, dict[str, str]]] = {
    "calculator": ("Evaluate an arithmetic expression", {"expression": "string"}),
    "convert_unit": ("Convert a value between units", {"value": "number", "from": "string", "to": "string"}),
    "weekday": ("Weekday of a date", {"date": "YYYY-MM-DD"}),
    "days_between": ("Number of days between two dates", {"start": "YYYY-MM-DD", "end": "YYYY-MM-DD"}),
    "dictionary": ("Meaning of an English word", {"word": "string"}),
    "state_capital": ("Capital of a state of the USA", {"state": "string"}),
    "text_length": ("Count words and characters of a text", {"text": "string"}),
    "sort_list": ("Sort numbers", {"numbers": "list of numbers", "descending": "boolean"}),
}
# exact factors, so that a result is what the tool would really return
UNITS = {
    ("km", "m"): Fraction(1000),
    ("m", "cm"): Fraction(100),
    ("kg", "g"): Fraction(1000),
    ("hours", "minutes"): Fraction(60),
    ("miles", "km"): Fraction("1.609344"),
    ("feet", "m"): Fraction("0.3048"),
    ("pounds", "kg"): Fraction("0.45359237"),
    ("inches", "cm"): Fraction("2.54"),
    ("days", "hours"): Fraction(24),
    ("liters", "ml"): Fraction(1000),
}


@dataclass(frozen=True)
class Use:
    """One call: what is asked, the arguments, the result and the answer that follows from it."""

    key: str
    question: str
    tool: str
    arguments: dict[str, Any]
    result: Any
    answer: str


def calculator(rng: random.Random) -> Use:
    a, b, c = rng.randint(11, 999), rng.randint(11, 99), rng.randint(2, 40)
    shape = rng.randrange(5)
    expression = (f"{a} * {b}", f"{a} + {b} * {c}", f"({a} + {b}) * {c}", f"{a} * {b} - {c}", f"{a} / 0")[shape]
    if shape == 4:
        error = {"error": "division by zero"}
        question = f"Please compute {a} divided by 0."
        return Use(
            f"{a}/0", question, "calculator", {"expression": expression}, error, "A number cannot be divided by zero."
        )
    value = (a * b, a + b * c, (a + b) * c, a * b - c)[shape]
    shown = expression.replace("*", "×")
    question = rng.choice([f"What is {shown}?", f"Please calculate {shown}.", f"How much is {shown}?"])
    return Use(expression, question, "calculator", {"expression": expression}, {"value": value}, f"{shown} = {value}")


def convert(rng: random.Random) -> Use:
    (start, end), factor = rng.choice(list(UNITS.items()))
    value = rng.randint(2, 250)
    result = round(float(value * factor), 3)
    result = int(result) if result == int(result) else result
    question = rng.choice([f"Convert {value} {start} to {end}.", f"How many {end} are {value} {start}?"])
    arguments = {"value": value, "from": start, "to": end}
    return Use(
        f"{value}{start}{end}",
        question,
        "convert_unit",
        arguments,
        {"value": result},
        f"{value} {start} = {result} {end}",
    )


def _date(rng: random.Random) -> datetime.date:
    return datetime.date(1900, 1, 1) + datetime.timedelta(days=rng.randrange(54_000))


def _written(date: datetime.date) -> str:
    return f"{calendar.month_name[date.month]} {date.day}, {date.year}"


def weekday(rng: random.Random) -> Use:
    date = _date(rng)
    day = calendar.day_name[date.weekday()]
    question = rng.choice(["What weekday is {}?", "On which day of the week does {} fall?"]).format(_written(date))
    return Use(f"{date}", question, "weekday", {"date": f"{date}"}, {"weekday": day}, f"{_written(date)} is a {day}.")


def days_between(rng: random.Random) -> Use:
    start = _date(rng)
    days = rng.randint(20, 900)
    end = start + datetime.timedelta(days=days)
    question = f"How many days lie between {_written(start)} and {_written(end)}?"
    arguments = {"start": f"{start}", "end": f"{end}"}
    return Use(
        f"{start}{end}", question, "days_between", arguments, {"days": days}, f"There are {days} days between them."
    )


def text_length(rng: random.Random, senses: list[Sense]) -> Use:
    sense = rng.choice(senses)
    text = sense.meaning
    result = {"words": len(text.split()), "characters": len(text)}
    question = rng.choice([f'How many words has this text: "{text}"?', f'Count the words and characters of "{text}".'])
    answer = f"The text has {result['words']} words and {result['characters']} characters."
    return Use(sense.word, question, "text_length", {"text": text}, result, answer)


def sort_list(rng: random.Random) -> Use:
    numbers = rng.sample(range(-50, 500), rng.randint(4, 7))
    down = rng.random() < 0.4
    ordered = sorted(numbers, reverse=down)
    shown = ", ".join(map(str, numbers))
    question = f"Sort {shown} in {'descending' if down else 'ascending'} order."
    arguments = {"numbers": numbers, "descending": down}
    return Use(
        f"{sorted(numbers)}", question, "sort_list", arguments, {"numbers": ordered}, ", ".join(map(str, ordered))
    )


def _lookups(senses: list[Sense], capitals: dict[str, str]) -> Iterator[Use]:
    rng = random.Random("lookups")
    for sense in senses:
        question = rng.choice(
            ['Look up the word "{}".', "What does my dictionary say about {}?", "Find the meaning of {}."]
        )
        result = {"word": sense.word, "part": sense.part, "meaning": sense.meaning}
        answer = f"{sense.word} ({sense.part}): {sense.meaning}."
        yield Use(f"word:{sense.word}", question.format(sense.word), "dictionary", {"word": sense.word}, result, answer)
    for sense in senses[::6]:
        made_up = sense.word[::-1] + "ek"
        answer = f"{block('idk', f'The dictionary has no entry for {made_up}, so I do not know what it means.')}"
        error = {"error": "no entry"}
        yield Use(
            f"word:{made_up}", f"What is the meaning of {made_up}?", "dictionary", {"word": made_up}, error, answer
        )
    for state, capital in capitals.items():
        question = rng.choice(["What is the capital of {}?", "Which city is the capital of {}?"]).format(state)
        answer = f"The capital of {state} is {capital}."
        yield Use(f"state:{state}", question, "state_capital", {"state": state}, {"capital": capital}, answer)


def _definitions(rng: random.Random, names: list[str], style: int) -> str:
    chosen = list(dict.fromkeys([*names, *rng.sample(sorted(TOOLS), rng.randrange(2))]))
    rng.shuffle(chosen)
    if style == 0:
        listed = [{"name": name, "description": TOOLS[name][0], "parameters": TOOLS[name][1]} for name in chosen]
        return lines("available_tools", json.dumps(listed))
    shown = []
    for name in chosen:
        description, parameters = TOOLS[name]
        shown.append(block("tool_def", f"{name}: {description} {block('tool_params', json.dumps(parameters))}"))
    return lines("available_tools", *shown)


def _call(use: Use, style: int) -> str:
    if style == 0:
        return block("tool_call", json.dumps({"name": use.tool, "arguments": use.arguments}))
    name, arguments = block("function_name", use.tool), block("function_args", json.dumps(use.arguments))
    return block("tool_call", name + arguments)


def _document(rng: random.Random, uses: list[Use]) -> Document:
    style = rng.randrange(2)
    calls = [_call(use, style) for use in uses]
    called = calls[0] if len(calls) == 1 else lines("tool_calls", *calls)
    results = [block("tool_result", json.dumps(use.result)) for use in uses]
    answers = [use.answer for use in uses]
    reply = "\n".join([called, *results, *answers])
    if len(uses) == 1 and rng.random() < 0.15 and "error" not in uses[0].result:
        reply += f"\n{opening('confidence:high')}"
    question = " ".join(use.question for use in uses)
    before = _definitions(rng, [use.tool for use in uses], style)
    key = "+".join(f"{use.tool}:{use.key}" for use in uses)
    return Document(key, chat(question, reply, before=before, system=some_system(rng, 0.08)))


def tool_documents(cache: Path, senses: list[Sense], per_kind: int) -> Iterator[Document]:
    """Single calls of every tool, and pairs of calls; `senses` must not be used elsewhere."""
    states = "package/us-states-capitals-names/data/data.json"
    found = dict(members(fetch(PACKAGES["stdlib"], cache), (states,)))
    capitals = {state: city for city, state in json.loads(found[states]).items()}
    half = len(senses) // 2
    rng = random.Random("tools")
    for use in _lookups(senses[:half], capitals):
        yield _document(rng, [use])
    kinds: tuple[Callable[[random.Random], Use], ...] = (calculator, convert, weekday, days_between, sort_list)
    for draw in kinds:
        for _ in range(per_kind):
            yield _document(rng, [draw(rng)])
    for _ in range(per_kind):
        yield _document(rng, [text_length(rng, senses[half:])])
    for _ in range(per_kind):
        first, second = rng.sample(kinds, 2)
        yield _document(rng, [first(rng), second(rng)])

"""Worked puzzles with dates, clocks, order, letters and lists, in the form of arithmetic.py."""

import calendar
import datetime
import itertools
import random
from collections.abc import Callable, Iterator

from tools.demo import arithmetic
from tools.demo.arithmetic import NAMES, Problem, plan
from tools.demo.documents import Document, block, chat, lines, some_system
from tools.demo.wordnet import Sense

DAYS = calendar.day_name
FOODS = ("apple", "bread", "carrot", "cheese", "egg", "grape", "lemon", "mango", "onion", "peach", "pepper", "plum",
         "potato", "rice", "tomato")  # fmt: skip
ANIMALS = (
    "ant", "bear", "cat", "dog", "eagle", "fox", "goat", "horse", "lion", "mouse", "owl", "pig", "rabbit", "snake",
    "tiger", "whale", "zebra",
)  # fmt: skip


def weekday_after(rng: random.Random) -> Problem:
    start, days = rng.randrange(7), rng.randint(8, 99)
    end = (start + days) % 7
    think = [
        block("observation", "Weekdays repeat every 7 days"),
        block("step", f"{days} = {days // 7} × 7 + {days % 7}"),
    ]
    think += [block("step", f"{days % 7} days after {DAYS[start]} is {DAYS[end]}"), block("conclusion", DAYS[end])]
    ask = rng.choice(["Today is {0}. What day is it in {1} days?", "Which weekday comes {1} days after {0}?"])
    return f"{start}+{days}", ask.format(DAYS[start], days), think, f"It is {DAYS[end]}."


def days_between(rng: random.Random) -> Problem:
    year, month = rng.randint(1990, 2035), rng.randint(1, 11)
    first = datetime.date(year, month, rng.randint(1, 28))
    last = datetime.date(year, month + 1, rng.randint(1, 28))
    name, following = calendar.month_name[month], calendar.month_name[month + 1]
    length = calendar.monthrange(year, month)[1]
    left = length - first.day
    shown = [f"{day.strftime('%B')} {day.day}, {year}" for day in (first, last)]
    think = [block("observation", f"{name} {year} has {length} days")]
    if month == 2:
        think.append(block("note", f"{year} is {'' if length == 29 else 'not '}a leap year"))
    think += [block("step", f"From {name} {first.day} to {name} {length}: {left} days")]
    think += [block("step", f"Up to {following} {last.day}: {left} + {last.day} = {left + last.day}")]
    think += [block("conclusion", f"{(last - first).days} days")]
    return (
        f"{first}{last}",
        f"How many days are there from {shown[0]} to {shown[1]}?",
        think,
        f"{(last - first).days} days",
    )


def leap_year(rng: random.Random) -> Problem:
    year = rng.choice([rng.randrange(1600, 2900), rng.randrange(1600, 2900, 4), rng.randrange(1600, 2900, 100)])
    leap = calendar.isleap(year)
    think = [block("note", "A leap year divides by 4, but not by 100 unless also by 400")]
    for divisor in (4, 100, 400):
        think.append(block("step", f"{year} = {year // divisor} × {divisor} + {year % divisor}"))
        if year % divisor:
            break
    answer = f"{year} is {'' if leap else 'not '}a leap year"
    return (
        f"{year}",
        f"Is {year} a leap year?",
        [*think, block("conclusion", answer)],
        f"{'Yes' if leap else 'No'}, {answer}.",
    )


def clock_time(rng: random.Random) -> Problem:
    start, minutes = rng.randrange(0, 1440, 5), rng.randrange(35, 400, 5)
    shown, end = f"{start // 60:02}:{start % 60:02}", (start + minutes) % 1440
    hours, rest = divmod(minutes, 60)
    after = f"{(start // 60 + hours) % 24:02}:{start % 60:02}"
    result = f"{end // 60:02}:{end % 60:02}"
    what = rng.choice(["A film", "A lesson", "A flight", "A concert", "A meeting", "A match"])
    think = [
        block("breakdown", f"{minutes} minutes = {hours} h {rest} min"),
        block("step", f"{shown} + {hours} h = {after}"),
    ]
    think += [block("step", f"{after} + {rest} min = {result}"), block("conclusion", result)]
    return (
        f"{start}+{minutes}",
        f"{what} starts at {shown} and lasts {minutes} minutes. When does it end?",
        think,
        result,
    )


def taller(rng: random.Random) -> Problem:
    people = rng.sample(NAMES, rng.randint(3, 4))
    word, opposite = rng.choice(
        [("taller", "shortest"), ("older", "youngest"), ("faster", "slowest"), ("richer", "poorest")]
    )
    facts = [f"{a} is {word} than {b}" for a, b in itertools.pairwise(people)]
    mixed = rng.sample(facts, len(facts))
    least = rng.random() < 0.5
    top = {"taller": "tallest", "older": "oldest", "faster": "fastest", "richer": "richest"}[word]
    asked, answer = (opposite, people[-1]) if least else (top, people[0])
    think = [*(block("observation", fact) for fact in mixed), block("analysis", f"In order: {' > '.join(people)}")]
    think += [block("conclusion", f"{answer} is the {asked}")]
    return ",".join(sorted(people)), f"{'. '.join(mixed)}. Who is the {asked}?", think, f"{answer} is the {asked}."


def sort_numbers(rng: random.Random) -> Problem:
    numbers = rng.sample(range(1, 100), rng.randint(4, 6))
    down, rest, steps = rng.random() < 0.3, list(numbers), []
    while len(rest) > 1:
        pick = max(rest) if down else min(rest)
        rest.remove(pick)
        steps.append(block("step", f"{pick}, left: {', '.join(map(str, rest))}"))
    ordered = ", ".join(map(str, sorted(numbers, reverse=down)))
    think = [
        plan(f"Take the {'largest' if down else 'smallest'} number again and again"),
        *steps,
        block("conclusion", ordered),
    ]
    question = f"Sort from {'large to small' if down else 'small to large'}: {', '.join(map(str, numbers))}"
    return ",".join(map(str, sorted(numbers))), question, think, ordered


def sort_words(rng: random.Random) -> Problem:
    words = rng.sample(rng.choice((FOODS, ANIMALS)), rng.randint(3, 5))
    ordered = sorted(words)
    pairs = [block("step", f"{a} comes before {b}") for a, b in itertools.pairwise(ordered)]
    think = [
        block("note", "Compare the first letters, then the next ones"),
        *pairs,
        block("conclusion", ", ".join(ordered)),
    ]
    return ",".join(ordered), f"Put in alphabetical order: {', '.join(words)}", think, ", ".join(ordered)


def compare_decimals(rng: random.Random) -> Problem:
    whole = rng.randint(0, 30)
    a, b = f"{whole}.{rng.randint(1, 9)}", f"{whole}.{rng.randint(10, 99)}"
    if float(a) == float(b):
        b += "1"
    places = max(len(a.split(".")[1]), len(b.split(".")[1]))
    padded = [f"{float(value):.{places}f}" for value in (a, b)]
    large, small = (a, b) if float(a) > float(b) else (b, a)
    x, y = rng.sample((a, b), 2)
    think = [
        block("observation", f"Both start with {whole}"),
        block("step", f"With {places} places: {padded[0]} and {padded[1]}"),
    ]
    digits = sorted((int(value.split(".")[1]) for value in padded), reverse=True)
    think += [block("step", f"{digits[0]} > {digits[1]}"), block("conclusion", f"{large} > {small}")]
    return f"{a},{b}", f"Which is larger, {x} or {y}?", think, f"{large} is larger."


def count_list(rng: random.Random) -> Problem:
    numbers = [rng.randint(1, 60) for _ in range(rng.randint(5, 8))]
    kind, test = rng.choice([("even", 2), ("divisible by 3", 3), ("divisible by 5", 5)])
    hits = [number for number in numbers if number % test == 0]
    shown = ", ".join(map(str, numbers))
    steps = [block("step", f"{number}: {'yes' if number % test == 0 else 'no'}") for number in numbers]
    found = f"{len(hits)} ({', '.join(map(str, hits))})" if hits else "none"
    think = [*steps, block("conclusion", f"{len(hits)} of {len(numbers)}")]
    return ",".join(map(str, sorted(numbers))), f"How many of these numbers are {kind}: {shown}?", think, found


def _letters(rng: random.Random, word: str) -> Problem:
    letter = rng.choice(word)
    if rng.random() < 0.5:
        places = [str(place) for place, other in enumerate(word, 1) if other == letter]
        think = [
            block("breakdown", "-".join(word)),
            block("observation", f"{letter} stands at place {', '.join(places)}"),
        ]
        think += [block("conclusion", f"{len(places)}")]
        return word, f'How often does the letter "{letter}" occur in "{word}"?', think, f"{len(places)}"
    steps = [block("step", word[: -size - 1 : -1]) for size in range(1, len(word) + 1, 2)]
    think = [block("breakdown", "-".join(word)), *steps, block("conclusion", word[::-1])]
    return word, f'Write "{word}" backwards.', think, word[::-1]


PROBLEMS: tuple[Callable[[random.Random], Problem], ...] = (
    weekday_after, days_between, leap_year, clock_time, taller, sort_numbers, sort_words, compare_decimals, count_list,
)  # fmt: skip


def worked_problems(senses: list[Sense], per_kind: int) -> Iterator[Document]:
    """`per_kind` different problems of every kind, and one letter puzzle per sense's word."""
    for draw in (*arithmetic.PROBLEMS, *PROBLEMS):
        rng = random.Random(f"problems:{draw.__name__}")
        seen: set[str] = set()
        while len(seen) < per_kind:
            problem = draw(rng)
            if problem[0] not in seen:
                seen.add(problem[0])
                yield _document(rng, draw.__name__, problem)
    rng = random.Random("problems:letters")
    for sense in senses:
        yield _document(rng, "word", _letters(rng, sense.word))


def _document(rng: random.Random, kind: str, problem: Problem) -> Document:
    key, question, think, answer = problem
    reply = lines("think", *think) + "\n" + (f"**{answer}**" if rng.random() < 0.3 else answer)
    return Document(f"{kind}:{key}", chat(question, reply, system=some_system(rng, 0.08)))

"""Small programs, drawn from templates with their parameters; code_documents.py runs them."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

WORDS = ("river", "stone", "green", "paper", "cloud", "table", "light", "music", "garden", "silver", "window", "bridge",
         "yellow", "summer", "market", "doctor", "planet", "orange", "letter", "mirror")  # fmt: skip
NAMES = ("Ada", "Bo", "Cem", "Dora", "Eli", "Finn", "Gita", "Hugo", "Ines", "Jan")


@dataclass(frozen=True)
class Program:
    """A task in words and a program for it; `key` names the parameters."""

    key: str
    task: str
    source: str


def _numbers(rng: random.Random, low: int = 1, high: int = 99) -> list[int]:
    return [rng.randint(low, high) for _ in range(rng.randint(4, 7))]


def total(rng: random.Random) -> Program:
    numbers, name = _numbers(rng), rng.choice(("values", "prices", "scores", "weights"))
    what, call = rng.choice(
        (("sum", "sum({})"), ("largest", "max({})"), ("smallest", "min({})"), ("number", "len({})"))
    )
    return Program(f"{numbers}", f"Print the {what} of {name}.", f"{name} = {numbers}\nprint({call.format(name)})")


def average(rng: random.Random) -> Program:
    numbers = _numbers(rng)
    source = f"data = {numbers}\nmean = sum(data) / len(data)\nprint(f'mean: {{mean:.2f}}')"
    return Program(f"{numbers}", "Run a script that prints an average.", source)


def squares(rng: random.Random) -> Program:
    start, count = rng.randint(1, 20), rng.randint(3, 8)
    power = rng.choice((2, 3))
    source = f"print([n ** {power} for n in range({start}, {start + count})])"
    word = "squares" if power == 2 else "cubes"
    return Program(f"{start},{count},{power}", f"Show the {word} of {start} to {start + count - 1}.", source)


def loop(rng: random.Random) -> Program:
    start, step, count = rng.randint(1, 30), rng.randint(2, 9), rng.randint(3, 6)
    stop = start + step * count
    source = f"total = 0\nfor n in range({start}, {stop}, {step}):\n    total += n\n    print(n, total)"
    return Program(f"{start},{step},{count}", f"Add up every {step}. number from {start} and print each sum.", source)


def function(rng: random.Random) -> Program:
    a, b = rng.randint(2, 40), rng.randint(2, 40)
    name, body, words = rng.choice(
        (("area", "width * height", "width, height"), ("distance", "abs(left - right)", "left, right"),
         ("mean", "(first + second) / 2", "first, second"), ("rest", "number % divisor", "number, divisor"))
    )  # fmt: skip
    source = f"def {name}({words}):\n    return {body}\n\nprint({name}({a}, {b}))"
    return Program(f"{name},{a},{b}", f"Define {name} and call it with {a} and {b}.", source)


def text(rng: random.Random) -> Program:
    words = rng.sample(WORDS, rng.randint(2, 4))
    call = rng.choice(
        ("upper()", "title()", "split()", f"replace('{words[0][0]}', '*')", f"find('{words[1]}')", "count('e')")
    )
    source = f"text = '{' '.join(words)}'\nprint(text.{call})"
    return Program(f"{words}{call}", f"Try text.{call} on a few words.", source)


def backwards(rng: random.Random) -> Program:
    words = rng.sample(WORDS, rng.randint(2, 4))
    source = f"for word in {words}:\n    print(word[::-1], len(word))"
    return Program(f"{words}", "Print every word backwards with its length.", source)


def counting(rng: random.Random) -> Program:
    word = "".join(rng.sample(WORDS, 2))
    source = f"from collections import Counter\n\nprint(Counter('{word}').most_common({rng.randint(1, 3)}))"
    return Program(word, f"Which letters are most common in {word}?", source)


def mapping(rng: random.Random) -> Program:
    people = {name: rng.randint(5, 80) for name in rng.sample(NAMES, 3)}
    tail = rng.choice(
        (
            "print(max(ages, key=ages.get))",
            "print(sorted(ages, key=ages.get))",
            "print(sum(ages.values()))",
            "for name, age in ages.items():\n    print(f'{name} is {age}')",
        )
    )
    return Program(f"{people}", "Run this with a dictionary of ages.", f"ages = {people}\n{tail}")


def missing(rng: random.Random) -> Program:
    keys, wanted = rng.sample(WORDS, 2), rng.choice(WORDS)
    stock = {key: rng.randint(1, 9) for key in keys}
    return Program(f"{stock}{wanted}", f"Look up {wanted} in the stock.", f"stock = {stock}\nprint(stock['{wanted}'])")


def failing(rng: random.Random) -> Program:
    a, word = rng.randint(2, 99), rng.choice(WORDS)
    line = rng.choice(
        (f"print({a} / 0)", f"print(int('{word}') + {a})", f"print('{word}' + {a})", f"print([1, 2, 3][{a}])")
    )
    return Program(line, "What does Python say to this?", line)


def primes(rng: random.Random) -> Program:
    low = rng.randint(2, 300)
    high = low + rng.randint(10, 30)
    test = "all(n % d for d in range(2, int(n ** 0.5) + 1))"
    return Program(
        f"{low},{high}",
        f"List the primes from {low} to {high}.",
        f"print([n for n in range({low}, {high + 1}) if {test}])",
    )


def quiet(rng: random.Random) -> Program:
    numbers = _numbers(rng)
    line = rng.choice(
        ("assert min(values) > 0", "values.sort()", "largest = max(values)", "assert values != sorted(values)[:1]")
    )
    return Program(f"{numbers}{line}", "Run this cell; it should print nothing.", f"values = {numbers}\n{line}")


TEMPLATES: tuple[Callable[[random.Random], Program], ...] = (
    total, average, squares, loop, function, text, backwards, counting, mapping, missing, failing, primes, quiet,
)  # fmt: skip


def programs(per_kind: int) -> Iterator[Program]:
    """`per_kind` different programs of every template."""
    for draw in TEMPLATES:
        rng = random.Random(f"programs:{draw.__name__}")
        found: dict[str, Program] = {}
        while len(found) < per_kind:
            program = draw(rng)
            found.setdefault(program.key, program)
        for program in found.values():
            yield Program(f"{draw.__name__}:{program.key}", program.task, program.source)

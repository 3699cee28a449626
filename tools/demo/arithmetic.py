"""Worked problems with numbers: sums, divisions, percentages, ages, prices, speeds, fractions, sequences, areas.

Every function draws one problem and returns its content key (the numbers alone, so that other names or wordings of the
same problem stay in its split), the question, the reasoning's lines and the answer.
"""

import math
import random
from collections.abc import Callable

from tools.demo.documents import block, lines
from xoron_core.contract.special_tokens import opening

Problem = tuple[str, str, list[str], str]
NAMES = (
    "Ana", "Ben", "Cleo", "Dana", "Elif", "Femi", "Gus", "Hiro", "Ida", "Jon", "Kai", "Lena", "Milo", "Nora",
    "Omar", "Pia", "Ravi", "Sara", "Tom", "Uma", "Vik", "Wanda", "Yara", "Zoe",
)  # fmt: skip
THINGS = ("apples", "pens", "marbles", "stamps", "books", "shells", "cards", "buttons", "coins", "stickers")


def plan(*steps: str) -> str:
    """A plan block with its steps."""
    return lines("plan", *(block("plan_step", step) for step in steps))


def addition(rng: random.Random) -> Problem:
    a, b = sorted((rng.randint(12, 999), rng.randint(12, 999)))
    digits, carry, steps = max(len(str(a)), len(str(b))), 0, []
    for place, name in enumerate(("ones", "tens", "hundreds")[:digits]):
        x, y = a // 10**place % 10, b // 10**place % 10
        total = x + y + carry
        shown = f"{x} + {y}" + (f" + {carry}" if carry else "")
        carry = total // 10
        steps.append(
            block("step", f"{name}: {shown} = {total}, write {total % 10}" + (f", carry {carry}" if carry else ""))
        )
    check = block("verify", f"{a + b} - {b} = {a}")
    ask = rng.choice(["What is {} + {}?", "Add {} and {}.", "Compute {} + {}.", "How much is {} plus {}?"])
    x, y = rng.sample((a, b), 2)
    think = [plan("Add digit by digit from the right", "Check with a subtraction"), *steps, check]
    return f"{a}+{b}", ask.format(x, y), [*think, block("conclusion", f"The sum is {a + b}")], f"{a + b}"


def subtraction(rng: random.Random) -> Problem:
    b, a = sorted(rng.sample([number for number in range(15, 900) if number % 10], 2))
    tens = b // 10 * 10
    think = [block("observation", f"{b} = {tens} + {b - tens}"), block("step", f"{a} - {tens} = {a - tens}")]
    think += [block("step", f"{a - tens} - {b - tens} = {a - b}"), block("verify", f"{a - b} + {b} = {a}")]
    ask = rng.choice(["What is {0} - {1}?", "Subtract {1} from {0}.", "Compute {0} minus {1}.", "{0} - {1} = ?"])
    return f"{a}-{b}", ask.format(a, b), [*think, block("conclusion", f"The difference is {a - b}")], f"{a - b}"


def multiplication(rng: random.Random) -> Problem:
    a, b = sorted((rng.randint(3, 29), rng.randrange(10, 100, 10) + rng.randint(1, 9)))
    if b % 10 == 0:
        b += 1
    tens, ones = b // 10 * 10, b % 10
    parts = f"{b} = {tens} + {ones}"
    think = [block("breakdown", parts), block("step", f"{a} × {tens} = {a * tens}")]
    think += [block("step", f"{a} × {ones} = {a * ones}"), block("step", f"{a * tens} + {a * ones} = {a * b}")]
    think.append(block("verify", f"{a * b} ÷ {a} = {b}"))
    ask = rng.choice(["What is {} × {}?", "Multiply {} by {}.", "Compute {} times {}."])
    return f"{a}*{b}", ask.format(a, b), [*think, block("conclusion", f"The product is {a * b}")], f"{a * b}"


def division(rng: random.Random) -> Problem:
    divisor, quotient = rng.randint(3, 19), rng.randint(6, 60)
    rest = rng.choice([0, rng.randrange(divisor)])
    number = divisor * quotient + rest
    think = [block("hypothesis", f"{divisor} goes into {number} about {round(number / divisor, -1):.0f} times")]
    think += [block("step", f"{divisor} × {quotient} = {divisor * quotient}")]
    think += [block("step", f"{number} - {divisor * quotient} = {rest}")]
    think += [block("verify", f"{divisor} × {quotient} + {rest} = {number} and {rest} < {divisor}")]
    answer = f"{quotient}" + (f" remainder {rest}" if rest else "")
    ask = rng.choice(["Divide {} by {}.", "What is {} ÷ {}?", "How often does {1} go into {0}?"])
    return f"{number}/{divisor}", ask.format(number, divisor), [*think, block("conclusion", answer)], answer


def slip(rng: random.Random) -> Problem:
    """A first attempt goes wrong, is criticised and mended; now and then there is nothing to mend."""
    a, b, c = rng.randint(2, 20), rng.randint(2, 12), rng.randint(2, 12)
    right, wrong = a + b * c, (a + b) * c
    first = wrong if rng.random() < 0.7 else right
    think = [block("hypothesis", f"{a} + {b} × {c} = {first}")]
    if first == wrong:
        think += [block("critique", f"This adds first, but multiplication comes before addition; {wrong} is wrong")]
        think += [block("step", f"{b} × {c} = {b * c}"), block("step", f"{a} + {b * c} = {right}")]
        think += [block("decision", f"Use {right} instead of {wrong}")]
    else:
        check = f"{opening('no_error')}{b} × {c} = {b * c} and {a} + {b * c} = {right}"
        think += [lines("critique", check)]
    return f"{a}+{b}*{c}", f"What is {a} + {b} × {c}?", [*think, block("conclusion", f"{right}")], f"{right}"


def shopping(rng: random.Random) -> Problem:
    count, price = rng.randint(2, 9), rng.randint(2, 15)
    cost = count * price
    paid = next(note for note in (20, 50, 100, 200) if note >= cost)
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    question = f"{name} buys {count} {thing} for ${price} each and pays with ${paid}. How much change does {name} get?"
    think = [plan("Find the cost", "Subtract it from the money paid")]
    think += [
        block("step", f"Cost: {count} × ${price} = ${cost}"),
        block("step", f"Change: ${paid} - ${cost} = ${paid - cost}"),
    ]
    think += [
        block("verify", f"${cost} + ${paid - cost} = ${paid}"),
        block("conclusion", f"The change is ${paid - cost}"),
    ]
    return f"{count}x{price}", question, think, f"{name} gets ${paid - cost} back."


def ages(rng: random.Random) -> Problem:
    younger, gap, years = rng.randint(4, 50), rng.randint(2, 30), rng.randint(2, 15)
    a, b = rng.sample(NAMES, 2)
    older = younger + gap
    question = f"{a} is {gap} years older than {b}. {b} is {younger}. How old will {a} be in {years} years?"
    think = [block("observation", f"{b} is {younger}"), block("step", f"{a} is {younger} + {gap} = {older} now")]
    think += [block("step", f"In {years} years: {older} + {years} = {older + years}")]
    think += [block("reflection", f"{b} will be {younger + years} then, still {gap} years younger")]
    think += [block("conclusion", f"{a} will be {older + years}")]
    return f"{younger},{gap},{years}", question, think, f"{a} will be {older + years} years old."


def travel(rng: random.Random) -> Problem:
    speed, hours = rng.randrange(20, 130, 5), rng.randint(2, 9)
    what = rng.choice(["A train", "A bus", "A car", "A truck"])
    distance = speed * hours
    if rng.random() < 0.5:
        question = f"{what} goes {distance} km in {hours} hours. What is its average speed?"
        step, answer = f"Speed = {distance} km ÷ {hours} h = {speed} km/h", f"{speed} km/h"
    else:
        question = f"{what} drives at {speed} km/h for {hours} hours. How far does it get?"
        step, answer = f"Distance = {speed} km/h × {hours} h = {distance} km", f"{distance} km"
    think = [block("note", "distance = speed × time"), block("step", step)]
    think += [block("verify", f"{speed} × {hours} = {distance}"), block("conclusion", answer)]
    return f"{speed}*{hours}", question, think, answer


def percentage(rng: random.Random) -> Problem:
    share, whole = rng.choice((5, 10, 15, 20, 25, 30, 40, 50, 60, 75)), rng.randrange(20, 900, 20)
    off = whole * share // 100
    if rng.random() < 0.5:
        question, answer = f"What is {share}% of {whole}?", f"{off}"
        last = block("conclusion", f"{share}% of {whole} is {off}")
    else:
        what = rng.choice(("coat", "chair", "lamp", "bike", "desk"))
        question = f"A {what} costs ${whole}. It is now {share}% off. What is the new price?"
        answer = f"${whole - off}"
        last = block("conclusion", f"The new price is ${whole} - ${off} = ${whole - off}")
    think = [
        block("step", f"1% of {whole} is {whole / 100:g}"),
        block("step", f"{share} × {whole / 100:g} = {off}"),
        last,
    ]
    return f"{share}%{whole}", question, think, answer


def sequence(rng: random.Random) -> Problem:
    start, step = rng.randint(1, 40), rng.randint(2, 15)
    if rng.random() < 0.7:
        terms = [start + step * number for number in range(6)]
        rule, key = f"each number is {step} more than the one before", f"{start}+{step}"
    else:
        start, step = rng.randint(1, 9), rng.randint(2, 4)
        terms = [start * step**number for number in range(6)]
        rule, key = f"each number is {step} times the one before", f"{start}*{step}"
    shown, last = ", ".join(map(str, terms[:5])), terms[5]
    think = [block("observation", f"{terms[1]} after {terms[0]}, {terms[2]} after {terms[1]}")]
    think += [
        block("hypothesis", rule[0].upper() + rule[1:]),
        block("verify", f"{terms[3]} and {terms[4]} fit the rule"),
    ]
    think += [block("conclusion", f"The next number is {last}")]
    ask = rng.choice(["Which number comes next: {}?", "Continue the sequence {}.", "What follows {}?"])
    return key, ask.format(shown), think, f"{last}, because {rule}."


def rectangle(rng: random.Random) -> Problem:
    width, height = sorted(rng.sample(range(2, 60), 2))
    area = rng.random() < 0.5
    value = width * height if area else 2 * (width + height)
    what = rng.choice(["garden", "room", "field", "sheet", "picture"])
    question = f"A {what} is {height} m long and {width} m wide. What is its {'area' if area else 'perimeter'}?"
    if area:
        steps = [block("note", "area = length × width"), block("step", f"{height} × {width} = {value}")]
    else:
        steps = [
            block("note", "perimeter = 2 × (length + width)"),
            block("step", f"{height} + {width} = {height + width}"),
        ]
        steps.append(block("step", f"2 × {height + width} = {value}"))
    answer = f"{value} {'square meters' if area else 'meters'}"
    return f"{width}x{height}", question, [*steps, block("conclusion", answer)], answer


def common_divisor(rng: random.Random) -> Problem:
    factor = rng.randint(2, 14)
    a, b = sorted(factor * other for other in rng.sample(range(2, 20), 2))
    x, y, steps = b, a, []
    while y:
        steps.append(block("step", f"{x} = {x // y} × {y} + {x % y}"))
        x, y = y, x % y
    found = math.gcd(a, b)
    think = [block("plan", block("plan_step", "Divide with remainder until nothing is left")), *steps]
    think += [
        block("verify", f"{a} ÷ {found} = {a // found}, {b} ÷ {found} = {b // found}"),
        block("conclusion", str(found)),
    ]
    return f"{a},{b}", f"What is the greatest common divisor of {a} and {b}?", think, f"{found}"


def mean(rng: random.Random) -> Problem:
    count = rng.randint(3, 5)
    numbers = [rng.randint(2, 60) for _ in range(count - 1)]
    numbers.append(rng.randint(2, 12) * count - sum(numbers) % count)
    total = sum(numbers)
    shown = ", ".join(map(str, numbers))
    steps = [
        block("step", f"Sum: {' + '.join(map(str, numbers))} = {total}"),
        block("step", f"{total} ÷ {count} = {total // count}"),
    ]
    think = [
        block("observation", f"There are {count} numbers"),
        *steps,
        block("conclusion", f"The mean is {total // count}"),
    ]
    return ",".join(map(str, sorted(numbers))), f"Find the mean of {shown}.", think, f"{total // count}"


PROBLEMS: tuple[Callable[[random.Random], Problem], ...] = (
    addition, subtraction, multiplication, division, slip, shopping, ages, travel, percentage, sequence, rectangle,
    common_divisor, mean,
)  # fmt: skip

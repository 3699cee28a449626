"""Conversations that say how sure an answer is: facts with a source, corrections, guesses, what nobody can know."""

import random
from collections.abc import Iterator

from tools.demo.documents import Document, block, chat, some_system
from tools.demo.wordnet import Sense
from xoron_core.contract.special_tokens import closing, opening

PEOPLE = (
    "Alba", "Bruno", "Chidi", "Daria", "Emil", "Farah", "Goran", "Hana", "Ivo", "Jonas", "Kemi", "Lars", "Mina",
    "Nadia", "Otto", "Priya", "Rosa", "Sven", "Tariq", "Vera",
)  # fmt: skip
UNKNOWABLE = (
    (
        "What did {p} have for breakfast {n} days ago?",
        "That is a private memory of {p}, and nobody told me about it.",
        "Personal life; no source I could look at.",
    ),
    ("What number is {p} thinking of between 1 and {n}?", "I cannot read {p}'s thoughts.", "Only {p} knows."),
    (
        "How many coins are in {p}'s left pocket? There is room for {n}.",
        "I cannot see {p}'s pocket.",
        "This needs someone who looks.",
    ),
    (
        "Which side will {p}'s coin show on throw number {n}?",
        "A fair coin is random, so nobody can know before the throw.",
        "Each side has the chance one half.",
    ),
    (
        "What will the weather be at {p}'s house in {n} years?",
        "No forecast reaches that far.",
        "Forecasts are useful for about ten days.",
    ),
    (
        "Where did {p} leave the keys {n} minutes ago?",
        "I was not there and have no way to find out.",
        "Retracing the last steps may help.",
    ),
    (
        "What is the password of {p}'s {n}. account?",
        "I do not have it, and I should not have it.",
        "A password belongs to its owner.",
    ),
    ("Which book will {p} read in {n} months?", "That choice has not been made yet.", "The future is open."),
    ("What did {p} dream {n} nights ago?", "I have no access to dreams.", "Only the dreamer could tell."),
    (
        "How loud was {p}'s laugh at lunch {n} days ago, in decibels?",
        "Nobody measured it, as far as I know.",
        "Without a measurement there is no number.",
    ),
)
OPEN = (
    (
        "Will people live on Mars in {n} years?",
        "It may be possible, but money, health and technology are all open.",
        70,
    ),
    (
        "Will paper books still be printed in {n} years?",
        "Probably, since they have lasted for centuries, but habits change.",
        40,
    ),
    (
        "Will cars still have steering wheels in {n} years?",
        "Some will and some may not; the rules are not written yet.",
        60,
    ),
    (
        "Is there life on other planets within {n} light years?",
        "Nobody has found any, and nobody has ruled it out.",
        80,
    ),
    (
        "Will chess be solved completely in {n} years?",
        "The game has far too many positions today, but methods improve.",
        65,
    ),
    ("How will schools look in {n} years?", "Likely a mix of teachers and machines, though any detail is a guess.", 75),
    (
        "Will the oldest person alive be over {n} years old one day?",
        "Lives grow longer slowly, but the limit is not known.",
        60,
    ),
    (
        "Will most people work from home in {n} years?",
        "It depends on the jobs, and those change in ways hard to foresee.",
        55,
    ),
)


def _unknowable() -> Iterator[Document]:
    rng = random.Random("unknowable")
    for number, (question, answer, note) in enumerate(UNKNOWABLE):
        for person in rng.sample(PEOPLE, 6):
            n = rng.randint(2, 90)
            asked, said, why = (text.format(p=person, n=n) for text in (question, answer, note))
            style = rng.randrange(3)
            if style == 0:
                reply = f"{opening('beyond_knowledge')}\n{said}\n\n{block('note', why)}\n{opening('confidence:low')}"
            elif style == 1:
                reply = f"{block('idk', said)} {why}\n{opening('confidence:low')}"
            else:
                reply = f"{block('idk', 'I do not know.')} {said}\n{block('note', why)}"
            yield Document(f"unknowable:{number}", chat(asked, reply, system=some_system(rng, 0.2)))


def _open_questions() -> Iterator[Document]:
    rng = random.Random("open questions")
    for number, (question, answer, score) in enumerate(OPEN):
        for n in rng.sample(range(5, 200), 7):
            shown = min(95, score + n // 20)
            head = block("uncertainty_score", str(shown))
            if rng.random() < 0.5:
                # the format's own pairing: a speculative block ends with the closing tag of uncertain
                body = f"{opening('speculative')}{answer}\n{closing('uncertain')}"
            else:
                body = block("uncertain", answer)
            level = opening("confidence:low" if shown > 60 else "confidence:medium")
            reply = f"{head}\n\n{body}\n{level}"
            yield Document(f"open:{number}", chat(question.format(n=n), reply, system=some_system(rng, 0.2)))


def _cited(senses: list[Sense]) -> Iterator[Document]:
    rng = random.Random("cited")
    source = block("cite", block("source", "WordNet 3.0"))
    for sense in senses:
        question = rng.choice(["Are you sure what {} means?", "Give me the meaning of {} with a source.",
                               "What does {} mean, and who says so?"]).format(f'"{sense.word}"')  # fmt: skip
        body = block("confident", f"{sense.word} ({sense.part}): {sense.meaning}.")
        reply = f"{body} {source}\n{opening('confidence:high')}"
        yield Document(f"word:{sense.word}", chat(question, reply, system=some_system(rng, 0.1)))


def _corrected(pairs: list[tuple[Sense, Sense]]) -> Iterator[Document]:
    rng = random.Random("corrected")
    for right, wrong in pairs:
        claim = rng.choice(['I think "{}" means: {}.', 'Is it true that "{}" means: {}?', '"{}" means: {}, right?'])
        doubt = block("needs_verify", f'The claim gives "{right.word}" the meaning of another word.')
        checked = block("verify", f"WordNet 3.0 has, for {right.word} ({right.part}): {right.meaning}.")
        fixed = block("correction", f'"{right.word}" means: {right.meaning}.')
        reply = f'{doubt}\n{checked}\n{fixed} What you said is the meaning of "{wrong.word}".'
        yield Document(f"word:{right.word}", chat(claim.format(right.word, wrong.meaning), reply))


def honest_answers(senses: list[Sense]) -> Iterator[Document]:
    """All kinds; `senses` must not be used elsewhere."""
    half = len(senses) // 2
    yield from _unknowable()
    yield from _open_questions()
    yield from _cited(senses[:half])
    rest = senses[half:]
    yield from _corrected([(a, b) for a, b in zip(rest[::2], rest[1::2], strict=False) if a.part == b.part])

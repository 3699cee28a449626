"""Common words and their meanings from WordNet's dictionary files."""

import random
import re
from dataclasses import dataclass
from pathlib import Path

from tools.demo.packages import PACKAGES, fetch, members

ROOT = "usr/share/wordnet/"
PARTS = {"1": ("noun", "noun"), "2": ("verb", "verb"), "3": ("adj", "adjective"), "4": ("adv", "adverb")}
# lexicographer files of nouns that name things one can point at, think of or measure
NOUN_FILES = {"04", "05", "06", "07", "08", "09", "11", "13", "17", "19", "20", "23", "25", "26", "27", "28"}
MIN_COUNT = {"noun": 2, "verb": 4, "adjective": 4, "adverb": 4}
UNWANTED = re.compile(
    r"sex|genital|copulat|prostitut|whore|slut|rape|racis|slave|nigg|negro|jew|christ|god\b|muslim|islam|kill|murder|"
    r"suicid|terror|nazi|penis|vagin|breast|nipple|fuck|shit|excre|feces|urin|drug|heroin|cocaine|weapon|savage|heathen|"
    r"obscen|vulgar|disparag|offensive|slang|insult|ethnic|\brace\b|homosex|lesbian|\bgay\b|bastard|execut|"
    r"tortur|indian|lynch|colored p|tribe|stupid|hateful",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Sense:
    """The most frequent meaning of a word."""

    word: str
    part: str
    meaning: str
    example: str
    synonyms: tuple[str, ...]
    count: int


def _sense(line: str, word: str, part: str, count: int) -> Sense | None:
    head, _, gloss = line.partition(" | ")
    fields = head.split()
    if part == "noun" and fields[1] not in NOUN_FILES:
        return None
    names = [fields[4 + 2 * number].split("(")[0].replace("_", " ") for number in range(int(fields[3], 16))]
    pieces = re.split(r';\s*(?=")', gloss.strip())
    meaning = pieces[0].strip()
    example = pieces[1].strip().strip('"') if len(pieces) > 1 and pieces[1].count('"') == 2 else ""
    if not 15 <= len(meaning) <= 160 or '"' in meaning or UNWANTED.search(f"{word} {gloss} {names}"):
        return None
    if word not in example or len(example) > 90:
        example = ""
    return Sense(word, part, meaning, example, tuple(name for name in names if name.lower() != word)[:2], count)


def common_senses(cache: Path) -> list[Sense]:
    """Words that WordNet's tagged texts use, with their first meanings, in a fixed mixed order."""
    archive = fetch(PACKAGES["wordnet"], cache)
    files = {name.removeprefix(ROOT): data.decode() for name, data in members(archive, (ROOT,))}
    data: dict[str, dict[str, str]] = {}
    first: dict[str, dict[str, str]] = {}
    for name, _ in PARTS.values():
        data[name] = {line[:8]: line for line in files[f"data.{name}"].splitlines() if line[0] != " "}
        index = [line.split() for line in files[f"index.{name}"].splitlines() if line[0] != " "]
        first[name] = {fields[0]: fields[-int(fields[2])] for fields in index}
    senses: dict[str, Sense] = {}
    taken: set[str] = set()
    for line in sorted(files["cntlist.rev"].splitlines()):
        key, number, count = line.split()
        word, _, rest = key.partition("%")
        if number != "1" or rest[0] not in PARTS or not re.fullmatch(r"[a-z]{3,12}", word):
            continue
        file, part = PARTS[rest[0]]
        offset = first[file].get(word, "")
        if int(count) < MIN_COUNT[part] or f"{file}{offset}" in taken:
            continue
        sense = _sense(data[file][offset], word, part, int(count)) if offset in data[file] else None
        if sense is not None and (word not in senses or senses[word].count < sense.count):
            senses[word] = sense
            taken.add(f"{file}{offset}")
    ordered = list(senses.values())
    random.Random("wordnet").shuffle(ordered)
    return ordered

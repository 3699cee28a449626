"""What every text generator of the demo corpus shares: documents, turns, and a split by content."""

import hashlib
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass

from xoron_core.contract.special_tokens import BOS, EOS, closing, opening

HELDOUT_PERCENT = 8
NEAR_COPY = 0.7
SHINGLE = 5

SYSTEM_PROMPTS = (
    "You are Xoron, a helpful assistant.",
    "You are Xoron. Answer briefly and say so when you do not know.",
    "You are a careful assistant that explains things in plain words.",
)


@dataclass(frozen=True)
class Document:
    """A training text; documents with the same `content` key never stand in different splits."""

    content: str
    text: str


def block(name: str, body: str) -> str:
    """A block on one line."""
    return f"{opening(name)}{body}{closing(name)}"


def lines(name: str, *body: str) -> str:
    """A block whose tags stand on lines of their own."""
    return "\n".join([opening(name), *body, closing(name)])


def chat(*turns: str, system: str = "", before: str = "") -> str:
    """A whole conversation of user and assistant turns in alternation; `before` is put before the first of them."""
    parts = [BOS, lines("system", system) if system else "", before]
    for number, turn in enumerate(turns):
        parts.append(lines("user" if number % 2 == 0 else "assistant", turn.strip("\n")))
    return "".join([*parts, EOS])


def some_system(rng: random.Random, share: float) -> str:
    """One of the system prompts in a share of the cases, else none."""
    return rng.choice(SYSTEM_PROMPTS) if rng.random() < share else ""


def _shingles(text: str) -> set[tuple[str, ...]]:
    # definitions of tools say nothing about what a document is about
    text = re.sub(r"<\|available_tools\|>.*?<\|/available_tools\|>", "", text, flags=re.DOTALL)
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    return {tuple(words[start : start + SHINGLE]) for start in range(max(1, len(words) - SHINGLE + 1))}


def near_copies(documents: list[str], of: list[str]) -> set[int]:
    """Indices of the documents that share most of their five-word runs with some text in `of`."""
    index: dict[tuple[str, ...], list[int]] = {}
    sizes = []
    for number, text in enumerate(of):
        shingles = _shingles(text)
        sizes.append(len(shingles))
        for shingle in shingles:
            index.setdefault(shingle, []).append(number)
    found = set()
    for number, text in enumerate(documents):
        shingles = _shingles(text)
        shared: dict[int, int] = {}
        for shingle in shingles:
            for other in index.get(shingle, ()):
                shared[other] = shared.get(other, 0) + 1
        if any(count / (len(shingles) + sizes[other] - count) >= NEAR_COPY for other, count in shared.items()):
            found.add(number)
    return found


def split(documents: Iterable[Document], seed: str) -> tuple[list[str], list[str]]:
    """Train and held-out texts, each once, shuffled; the split follows the content keys' hashes."""
    unique = list({document.text: document for document in documents}.values())
    random.Random(seed).shuffle(unique)
    train: list[str] = []
    heldout: list[str] = []
    for document in unique:
        share = int.from_bytes(hashlib.sha256(document.content.encode()).digest()[:4], "big") % 100
        (heldout if share < HELDOUT_PERCENT else train).append(document.text)
    copies = near_copies(heldout, train)
    return train, [text for number, text in enumerate(heldout) if number not in copies]

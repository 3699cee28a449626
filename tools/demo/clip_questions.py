"""Questions about clips: what they show, what it does, which way it goes."""

import random
from collections.abc import Iterable, Iterator

from tools.demo.clips import MOVES, Clip
from tools.demo.colors import main_color
from tools.demo.questions import KIND_ANSWERS, Question, check, named_color

DOES = ("What does it do?", "How does it move?")
WHICH_WAY = {
    "moves to the left": ("Which way does it move?", "left"),
    "moves to the right": ("Which way does it move?", "right"),
    "moves up": ("Which way does it move?", "up"),
    "moves down": ("Which way does it move?", "down"),
    "grows": ("Does it get bigger or smaller?", "bigger"),
    "shrinks": ("Does it get bigger or smaller?", "smaller"),
    "turns clockwise": ("Which way does it turn?", "clockwise"),
    "turns counterclockwise": ("Which way does it turn?", "counterclockwise"),
}
ASKED_TO_STAY = 3  # one in so many animations is asked about its place, which none leaves
COLOR = "What is the main color?"
KIND = "What kind of thing is it?"


def _move_questions(clip: Clip, rng: random.Random) -> Iterator[Question]:
    yield WHICH_WAY[clip.action]
    pair = next(pair for pair in MOVES if clip.action in pair)
    asked = random.Random(f"asked:{clip.content}").choice(pair)  # one for both moves: as often yes as no
    verb, *rest = asked.split()
    yield f"Does it {' '.join([verb.removesuffix('s'), *rest])}?", "yes" if asked == clip.action else "no"
    yield rng.choice(DOES), clip.action
    if pair in MOVES[:2]:
        yield "Does it stay in its place?", "no"


def _questions(clip: Clip, kinds: list[str], number: int) -> Iterator[Question]:
    rng = random.Random(f"questions:{clip.name}")
    kind = KIND_ANSWERS[clip.kind]
    if clip.picture is not None:
        yield from _move_questions(clip, rng)
        color = named_color(clip.subject, clip.picture.image)
    else:
        yield rng.choice(DOES), clip.action
        color = main_color(clip.frames[0])
        if number % ASKED_TO_STAY == 0:
            yield "Does it stay in its place?", "yes"
        if number % 2:
            yield check("Is it {}?", kind, kinds, rng)
        else:
            yield KIND, kind
    if color is not None:
        yield COLOR, color
    elif clip.picture is not None:
        yield KIND, kind
    else:
        yield "What is shown?", clip.subject


def clip_questions(clips: Iterable[Clip]) -> Iterator[tuple[Clip, str, str]]:
    """Three to five questions with answers about every clip."""
    listed = list(clips)
    kinds = [KIND_ANSWERS[clip.kind] for clip in listed if clip.picture is None]
    for number, clip in enumerate(listed):
        for question, answer in _questions(clip, kinds, number):
            yield clip, question, answer

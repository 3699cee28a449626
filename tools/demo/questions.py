"""Questions about pictures with answers that follow from the pixels or from what was drawn."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from PIL import Image

from tools.demo.colors import BACKGROUND, COLORS, main_color
from tools.demo.pictures import Picture

WIDE = 1.25  # how many times wider than tall, or the other way round, before it is asked about
STYLE_ANSWERS = {"3d": "3D", "flat": "flat", "cartoon": "cartoon", "photo": "photograph"}
KIND_ANSWERS = {
    "animal": "an animal", "body part": "a body part", "building": "a building", "face": "a face", "food": "food",
    "nature": "nature", "person": "a person", "shape": "a shape", "thing": "an object", "vehicle": "a vehicle",
}  # fmt: skip
WHAT = ("What is this?", "What does the picture show?")
STYLE = ("What style is the picture?", "How is it drawn?")
COLOR = ("What is the main color?", "What color is it?")

Question = tuple[str, str]


@dataclass(frozen=True)
class Found:
    """The colors and kinds of all pictures, as often as each occurs."""

    colors: list[str]
    kinds: list[str]


def named_color(subject: str, image: Image.Image) -> str | None:
    """The color that the subject's name tells ("a red apple"), else that of its pixels, where it is clear."""
    named = [word for word in subject.split() if word in COLORS]
    return named[0] if len(named) == 1 else main_color(image)


def check(form: str, true: str, others: list[str], rng: random.Random) -> Question:
    """A yes-or-no question, as often yes as no whatever it asks about: `others` are the truths of all pictures."""
    asked = true if rng.random() < 0.5 else rng.choice([other for other in others if other != true])
    return form.format(asked), "yes" if asked == true else "no"


def _shape(image: Image.Image) -> str | None:
    """Whether what is drawn on the paper is clearly wide or tall."""
    drawn = image.convert("L").point(lambda value: 255 * (value <= BACKGROUND))
    left, top, right, bottom = drawn.getbbox() or (0, 0, 1, 1)
    ratio = (right - left) / (bottom - top)
    return "wide" if ratio >= WIDE else "tall" if ratio <= 1 / WIDE else None


def _questions(picture: Picture, color: str | None, found: Found, number: int) -> Iterator[Question]:
    rng = random.Random(f"questions:{picture.name}")
    photograph = picture.style == "photo"
    kind = KIND_ANSWERS.get(picture.kind)
    if color is not None:
        yield rng.choice(COLOR), color
        yield check("Is it mainly {}?", color, found.colors, rng)
    elif kind is not None:
        yield check("Is it {}?", kind, found.kinds, rng)
    if photograph or rng.random() < 0.1:
        yield "Is this a photograph?", "yes" if photograph else "no"
    elif color is None or rng.random() < 0.75:
        yield rng.choice(STYLE), STYLE_ANSWERS[picture.style]
    shape = None if photograph else _shape(picture.image)
    if shape is not None:
        yield "Is it wide or tall?", shape
    if kind is not None and number % 2:
        yield "What kind of thing is it?", kind
    elif shape is None or color is None:
        yield rng.choice(WHAT), picture.subject


def picture_questions(pictures: Iterable[Picture]) -> Iterator[tuple[Picture, str, str]]:
    """Three or four questions, now and then two or five, with their answers about every picture."""
    listed = list(pictures)
    colors = [
        main_color(picture.image) if picture.style == "photo" else named_color(picture.subject, picture.image)
        for picture in listed
    ]
    kinds = [KIND_ANSWERS[picture.kind] for picture in listed if picture.kind]
    found = Found([color for color in colors if color is not None], kinds)
    for number, (picture, color) in enumerate(zip(listed, colors, strict=True)):
        for question, answer in _questions(picture, color, found, number):
            yield picture, question, answer

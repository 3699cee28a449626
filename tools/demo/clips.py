"""Short clips with captions: animated emoji, and emoji pictures that move, grow, shrink or turn; 8 frames on white."""

import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tools.demo.packages import PACKAGES, fetch, members
from tools.demo.pictures import SIZE, Picture, code_points

NUM_FRAMES = 8
QUALITY = 60
MARGIN = 2
MOVED_SIZE, TRAVEL = 30, 16.0  # a moving picture's side, and how far from the middle it starts and ends, in pixels
SMALLEST, LARGEST = 16, 60  # sides between which pictures grow and shrink
TURNED_SIZE, TURN = 44, 315.0  # a turning picture's side, whose diagonal fits, and by how many degrees it turns
MOVED_FRAME_MS = 125
MOVES = (
    ("moves to the left", "moves to the right"),
    ("moves up", "moves down"),
    ("grows", "shrinks"),
    ("turns clockwise", "turns counterclockwise"),
)
# pictures that do both of a pair of moves, in the pairs' order; none is among the animated emoji
MOVED = (
    "red-apple-flat", "rocket-3d", "strawberry-3d", "airplane-flat",
    "lemon-flat", "balloon-3d", "blue-heart-3d", "guitar-flat",
    "taxi-3d", "star-3d", "red-heart-3d", "key-flat",
    "bus-flat", "helicopter-3d", "pizza-3d", "scissors-3d",
    "sailboat-3d", "droplet-3d", "four-leaf-clover-flat", "carrot-3d",
    "police-car-flat", "soccer-ball-3d", "sun-flat", "banana-3d",
    "duck-flat", "basketball-flat", "grinning-face-flat", "hammer-3d",
    "tractor-3d", "butterfly-3d", "doughnut-3d", "rose-3d",
)  # fmt: skip
MOVED_HELDOUT = ("fire-engine-3d", "green-apple-3d", "green-heart-flat", "trumpet-flat")


@dataclass(frozen=True)
class Animation:
    """A line of animations.txt; `kind` is the nearest heading's above it."""

    label: str
    subject: str
    action: str
    kind: str
    heldout: bool


@dataclass(frozen=True)
class Clip:
    """A finished clip: `name` becomes the file's name, `content` the key that never stands in both splits.

    `picture` is the picture that moves, where the clip is made from one.
    """

    name: str
    content: str
    subject: str
    action: str
    kind: str
    frames: Sequence[Image.Image]
    frame_ms: int
    heldout: bool
    picture: Picture | None = None

    @property
    def caption(self) -> str:
        """What is seen and what it does."""
        return f"{self.subject} {self.action}"


def read_animations(path: Path, heldout_labels: set[str]) -> list[Animation]:
    """The animations in the file's order; those with one of `heldout_labels` are held out, too."""
    animations = []
    kind = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"# ([\w ]+):$", line):
            kind = heading[1]
        if line and not line.startswith("#"):
            label, subject, action = line.removeprefix("* ").split(" | ")
            animations.append(Animation(label, subject, action, kind, line[0] == "*" or label in heldout_labels))
    return animations


def _spread_frames(animation: Image.Image) -> tuple[list[Image.Image], int]:
    """Frames spread evenly over the animation, cropped alike to what is drawn in any; the time of one in ms."""
    frames = []
    total_ms = 0.0
    for index in range(animation.n_frames):
        animation.seek(index)
        animation.load()
        total_ms += animation.info["duration"]
        if index in {number * animation.n_frames // NUM_FRAMES for number in range(NUM_FRAMES)}:
            frames.append(animation.convert("RGBA"))
    boxes = [frame.getchannel("A").point(lambda value: 255 * (value > 8)).getbbox() for frame in frames]
    left, top, right, bottom = zip(*(box for box in boxes if box is not None), strict=True)
    box = (min(left), min(top), max(right), max(bottom))
    scale = (SIZE - 2 * MARGIN) / max(box[2] - box[0], box[3] - box[1])
    width, height = round((box[2] - box[0]) * scale), round((box[3] - box[1]) * scale)
    fitted = []
    for frame in frames:
        # premultiplied, so that the colour of transparent pixels does not bleed into the edges
        small = frame.crop(box).convert("RGBa").resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")
        canvas = Image.new("RGB", (SIZE, SIZE), "white")
        canvas.paste(small, ((SIZE - width) // 2, (SIZE - height) // 2), small)
        fitted.append(canvas)
    return fitted, round(total_ms / NUM_FRAMES)


def animated_clips(cache: Path, animations: list[Animation]) -> Iterator[Clip]:
    """Every listed animation, in the list's order.

    Raises:
        KeyError: a label or an animation that a package lacks.
    """
    emojibase = dict(members(fetch(PACKAGES["emojibase"], cache), ("package/en/data.json",)))
    entries = json.loads(emojibase["package/en/data.json"])
    points = {entry["label"]: code_points(entry["hexcode"]) for entry in entries}
    files = {
        code_points(Path(name).stem): data
        for name, data in members(fetch(PACKAGES["fluent-anim"], cache), ("package/assets/",))
    }
    for animation in animations:
        frames, frame_ms = _spread_frames(Image.open(io.BytesIO(files[points[animation.label]])))
        slug = "-".join(re.findall(r"\w+", animation.label.lower()))
        subject, action, kind = animation.subject, animation.action, animation.kind
        yield Clip(f"{slug}-anim", f"emoji:{slug}", subject, action, kind, frames, frame_ms, animation.heldout)


def _placed(drawing: Image.Image, side: int, x: float = 0, y: float = 0) -> Image.Image:
    """A drawing on paper, scaled to a side, its middle moved from the paper's middle."""
    canvas = Image.new("RGB", (SIZE, SIZE), "white")
    small = drawing.resize((side, side), Image.Resampling.LANCZOS)
    canvas.paste(small, (round((SIZE - side) / 2 + x), round((SIZE - side) / 2 + y)))
    return canvas


def _moved_frame(drawing: Image.Image, action: str, along: float) -> Image.Image:
    """A frame of a move at `along`, from 0 at its beginning to 1 at its end."""
    way = TRAVEL * (2 * along - 1)
    match action:
        case "moves to the left" | "moves to the right":
            return _placed(drawing, MOVED_SIZE, x=way if action.endswith("right") else -way)
        case "moves up" | "moves down":
            return _placed(drawing, MOVED_SIZE, y=way if action.endswith("down") else -way)
        case "grows" | "shrinks":
            part = along if action == "grows" else 1 - along
            return _placed(drawing, round(SMALLEST + (LARGEST - SMALLEST) * part))
        case _:
            angle = TURN * along * (-1 if action == "turns clockwise" else 1)
            return _placed(drawing, TURNED_SIZE).rotate(angle, Image.Resampling.BICUBIC, fillcolor="white")


def moving_clips(pictures: Sequence[Picture]) -> Iterator[Clip]:
    """The chosen pictures, each with a pair of opposite moves.

    Raises:
        KeyError: a name that no picture has.
    """
    named = {picture.name: picture for picture in pictures}
    for names in (MOVED, MOVED_HELDOUT):
        for number, name in enumerate(names):
            picture = named[name]
            for action in MOVES[number % len(MOVES)]:
                frames = [_moved_frame(picture.image, action, step / (NUM_FRAMES - 1)) for step in range(NUM_FRAMES)]
                slug, subject, kind = f"{name}-{'-'.join(action.split())}", picture.subject, picture.kind
                yield Clip(
                    slug, picture.content, subject, action, kind, frames, MOVED_FRAME_MS, picture.heldout, picture
                )


def encode_clip(clip: Clip) -> bytes:
    """An animated webp that plays for ever, without metadata.

    Raises:
        ValueError: two frames one after the other are alike, so that the file has fewer.
    """
    file = io.BytesIO()
    first, *others = clip.frames
    first.save(
        file, "WEBP", save_all=True, append_images=others, duration=clip.frame_ms, loop=0, quality=QUALITY, method=6,
        minimize_size=True, allow_mixed=True,
    )  # fmt: skip
    found = Image.open(file).n_frames
    if found != NUM_FRAMES:
        raise ValueError(f"{clip.name}: {found} frames of {NUM_FRAMES} differ; take it off the list")
    return file.getvalue()

"""Pictures with captions: emoji in three drawing styles and a few photographs, 64 by 64 pixels on white."""

import io
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import resvg_py
from PIL import Image, ImageOps

from tools.demo.packages import PACKAGES, fetch, members

SIZE = 64
MARGIN = 3
STYLES = {
    "3d": ("a 3D emoji of {}", "a glossy 3D picture of {}", "a 3D render of {}"),
    "flat": ("a flat drawing of {}", "a flat icon of {}", "a simple flat picture of {}"),
    "cartoon": ("a cartoon of {}", "a cartoon drawing of {}", "a shaded cartoon picture of {}"),
}


@dataclass(frozen=True)
class Picture:
    """A finished picture: `name` becomes the file's name, `content` the key that never stands in both splits."""

    name: str
    content: str
    caption: str
    image: Image.Image
    heldout: bool
    style: str
    subject: str
    kind: str


@dataclass(frozen=True)
class Concept:
    """A line of concepts.txt; `kind` is the nearest heading's above it."""

    label: str
    phrase: str
    heldout: bool
    kind: str


def read_concepts(path: Path) -> list[Concept]:
    """The concepts in the file's order."""
    concepts = []
    kind = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"# (\w+):", line):
            kind = heading[1]
        if not line or line.startswith("#"):
            continue
        label, _, phrase = line.removeprefix("* ").partition(" | ")
        article = "an" if label[0] in "aeio" else "a"
        concepts.append(Concept(label, phrase or f"{article} {label}", line.startswith("* "), kind))
    return concepts


def code_points(name: str) -> str:
    """One spelling for the file names of all packages: lower case, without the variation selector."""
    return "-".join(part for part in name.lower().split("-") if part != "fe0f")


def _fit(image: Image.Image) -> Image.Image:
    """Crop to what is drawn, scale it into the square with a margin, lay it on white."""
    image = image.convert("RGBA")
    box = image.getchannel("A").point(lambda value: 255 * (value > 8)).getbbox()
    if box is None:
        raise ValueError("an empty picture")
    image = image.crop(box)
    scale = (SIZE - 2 * MARGIN) / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    # premultiplied, so that the colour of transparent pixels does not bleed into the edges
    image = image.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")
    canvas = Image.new("RGB", (SIZE, SIZE), "white")
    canvas.paste(image, ((SIZE - width) // 2, (SIZE - height) // 2), image)
    return canvas


class _IconSet:
    """The SVG drawings of one iconify package, by code points."""

    def __init__(self, path: Path) -> None:
        files = dict(members(path, ("package/icons.json", "package/chars.json")))
        icons = json.loads(files["package/icons.json"])
        self._bodies: dict[str, str] = {name: icon["body"] for name, icon in icons["icons"].items()}
        for alias, entry in icons.get("aliases", {}).items():
            self._bodies.setdefault(alias, self._bodies.get(entry["parent"], ""))
        self._names = {code_points(key): name for key, name in json.loads(files["package/chars.json"]).items()}
        self._side = max(icons.get("width", 16), icons.get("height", 16))

    def draw(self, points: str) -> Image.Image:
        body = self._bodies[self._names[points]]
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="0 0 {self._side} {self._side}" width="256" height="256">{body}</svg>'
        )
        png = resvg_py.svg_to_bytes(svg_string=svg, width=256, height=256)
        return Image.open(io.BytesIO(bytes(png)))


def emoji_pictures(cache: Path, concepts: list[Concept]) -> Iterator[Picture]:
    """Every concept in two of the three styles, in turn: half the size for the same variety.

    Raises:
        KeyError: a label or drawing that a package lacks.
    """
    emojibase = dict(members(fetch(PACKAGES["emojibase"], cache), ("package/en/data.json",)))
    points = {entry["label"]: code_points(entry["hexcode"]) for entry in json.loads(emojibase["package/en/data.json"])}
    wanted = {points[concept.label] for concept in concepts}
    glossy = {
        code_points(Path(name).stem): data
        for name, data in members(fetch(PACKAGES["fluent-3d"], cache), ("package/assets/",))
        if code_points(Path(name).stem) in wanted
    }
    flat = _IconSet(fetch(PACKAGES["fluent-flat"], cache))
    cartoon = _IconSet(fetch(PACKAGES["noto"], cache))
    for number, concept in enumerate(concepts):
        key = points[concept.label]
        drawings = {
            "3d": Image.open(io.BytesIO(glossy[key])),
            "flat": flat.draw(key),
            "cartoon": cartoon.draw(key),
        }
        slug = "-".join(concept.label.lower().split())
        del drawings[list(STYLES)[number % 3]]
        for style, drawing in drawings.items():
            caption = random.Random(f"{style}:{slug}").choice(STYLES[style]).format(concept.phrase)
            image, subject, kind = _fit(drawing), concept.phrase, concept.kind
            yield Picture(f"{slug}-{style}", f"emoji:{slug}", caption, image, concept.heldout, style, subject, kind)


def encode(image: Image.Image) -> tuple[str, bytes]:
    """The suffix and bytes of the smaller of lossless PNG and WebP at high quality; neither carries metadata."""
    png, webp = io.BytesIO(), io.BytesIO()
    image.save(png, "PNG", optimize=True)
    image.save(webp, "WEBP", quality=90, method=6)
    if len(png.getvalue()) <= len(webp.getvalue()):
        return ".png", png.getvalue()
    return ".webp", webp.getvalue()


def upright(data: bytes) -> Image.Image:
    """A photograph turned as its EXIF tag says, in RGB."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")

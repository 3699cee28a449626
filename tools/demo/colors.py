"""The main color of a picture, where there is one, by the names that people use."""

import colorsys
from collections.abc import Iterator

from PIL import Image

COLORS = ("black", "blue", "brown", "gray", "green", "orange", "pink", "purple", "red", "white", "yellow")
BACKGROUND = 244  # a pixel whose channels are all above it is paper
MIN_SHARE, MAX_SECOND = 0.5, 0.6
# hues in degrees from and up to which a name is beyond dispute
HUES = (
    (0, 9, "red"), (14, 35, "orange"), (38, 66, "yellow"), (72, 165, "green"), (182, 248, "blue"), (254, 292, "purple"),
    (300, 340, "pink"), (345, 360, "red"),
)  # fmt: skip


def _name(red: int, green: int, blue: int) -> str:
    """The name of one color; empty where people would differ."""
    hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    if value < 0.22:
        return "black"
    if saturation < 0.15:
        return "white" if value > 0.88 else "gray"
    name = next((name for low, high, name in HUES if low <= hue * 360 <= high), "")
    if 8 <= hue * 360 <= 40 and (value < 0.75 or saturation < 0.6):
        return "brown"
    if name == "red" and value > 0.75 and saturation < 0.5:
        return "pink"
    return name


def colored_pixels(image: Image.Image) -> Iterator[str]:
    """The color names, or empty ones, of all pixels that are not paper."""
    for red, green, blue in image.convert("RGB").get_flattened_data():
        if min(red, green, blue) <= BACKGROUND:
            yield _name(red, green, blue)


def main_color(image: Image.Image) -> str | None:
    """The color of most of what is drawn; none where two compete."""
    counts: dict[str, int] = {}
    for name in colored_pixels(image):
        counts[name] = counts.get(name, 0) + 1
    (first, most), (_, second) = sorted([*counts.items(), ("", 0)], key=lambda item: (-item[1], item[0]))[:2]
    clear = most >= MIN_SHARE * sum(counts.values()) and second <= MAX_SECOND * most
    return first if clear and first else None

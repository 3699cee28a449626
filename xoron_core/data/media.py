"""Pictures from bytes."""

import io

import numpy as np
from PIL import Image, ImageOps

from xoron_core.data.records import Record

MAX_PIXELS = 64 * 2**20


def read_picture(record: Record, key: str, size: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """The picture that a row names, upright, on white, cropped to a square in the middle: [size, size, 3] bytes.

    Raises: DataError when it cannot be read, or is larger than a picture has any business to be.
    """
    content = record.read(record.text(key))
    try:
        rgb = _decode(content)
    except MemoryError:  # it says nothing about the file
        raise
    except Exception as error:  # boundary: a decoder raises whatever a broken file leads it to
        raise record.error(f"not a readable picture: {error}") from error
    fitted = rgb if rgb.size == (size, size) else ImageOps.fit(rgb, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(fitted, dtype=np.uint8)


def _decode(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} × {image.height} pixels; at most {MAX_PIXELS} are read")
        image.load()
        return on_white(ImageOps.exif_transpose(image))


def on_white(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB, what is transparent in it white."""
    if image.mode.startswith("I"):  # grey in 16 bits, which `convert` would cut off at 255
        return Image.fromarray((np.asarray(image).clip(0, 2**16 - 1) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        image = Image.alpha_composite(white, layered)
    return image.convert("RGB")

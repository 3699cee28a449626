"""Pictures from bytes."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from xoron_core.data.records import Record

MAX_PIXELS = 64 * 2**20


def read_picture(record: Record, key: str, size: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """The picture that a row names, upright, on white, cropped to a square in the middle: [size, size, 3] bytes.

    Raises: DataError when it cannot be read, or is larger than a picture has any business to be.
    """
    content = record.read(record.text(key))
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise record.error(f"picture of {image.width} × {image.height} pixels; at most {MAX_PIXELS} are read")
            image.load()
            upright = ImageOps.exif_transpose(image)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise record.error(f"not a readable picture: {error}") from error
    if upright.mode in {"RGBA", "LA", "PA"} or "transparency" in upright.info:
        layered = upright.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        upright = Image.alpha_composite(white, layered)
    rgb = upright.convert("RGB")
    fitted = rgb if rgb.size == (size, size) else ImageOps.fit(rgb, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(fitted, dtype=np.uint8)

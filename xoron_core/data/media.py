"""Pictures from bytes, and what every decoder of media needs.

Shapes: H, W pixels, C colours, S the side of a square.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH, TiffImageFile

from xoron_core.contract.errors import BadKind, XoronError
from xoron_core.data.records import Record

MAX_PIXELS = 64 * 2**20
PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Pillow knows more: for some it starts programs (EPS), and others a text can pass for (XBM)."""
UNTOLD_LENGTH = 0x7FFF0000
"""Who writes to a pipe puts this or more where a length belongs."""
MOVIE_BOXES = frozenset((b"ftyp", b"free", b"skip", b"wide", b"mdat", b"moov", b"moof", b"sidx", b"meta", b"uuid"))
SLACK_BYTES = 8
"""Lengths are off by as much where a writer counts a header or a padding byte that it should not."""

Pixels = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]


class MediaError(XoronError):
    """What is wrong with a file, as its decoder puts it; `decoding` makes it an error of the row."""

    def __init__(self, reason: str, kind: BadKind = "unreadable") -> None:
        self.kind = kind
        super().__init__(reason)


def read_picture(record: Record, key: str, size: int) -> Pixels:
    """The picture that a row names, upright, on white, cropped to a square in the middle: [size, size, 3] bytes.

    Raises: DataError when it cannot be read, or is larger than a picture has any business to be.
    """
    content = record.media(key)
    with decoding(record, key, "picture"):
        pixels_HWC = _decode(content, size)
    return fitted(pixels_HWC, size)


@contextmanager
def decoding(record: Record, key: str, what: str) -> Iterator[None]:
    """The boundary around a decoder of `what`: no warning leaves it, and whatever a file leads it to is about the row.

    Raises: DataError; MemoryError, which says nothing about the file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what is odd in a file and read all the same
        try:
            yield
        except Exception as error:  # boundary: a decoder raises whatever a broken file leads it to
            if type(error) is MemoryError:  # FFmpeg has one of its own, for files that ask for more than there is
                raise
            is_known = not isinstance(error, UnidentifiedImageError)  # which says at what address it looked
            reason = (str(error) or repr(error)) if is_known else "its format is not known"
            message = f"{record.media_name(key)} is not a readable {what}: {reason}"
            raise record.error(message, _kind(error)) from error


def _kind(error: Exception) -> BadKind:
    if isinstance(error, MediaError):
        return error.kind
    # MAX_TEXT_CHUNK and MAX_TEXT_MEMORY are Pillow's limits on what texts and profiles of a PNG unpack to
    is_bomb = isinstance(error, Image.DecompressionBombError) or "MAX_TEXT_" in str(error)
    return "too_large" if is_bomb else "unreadable"


def _decode(content: bytes, size: int) -> Pixels:
    with Image.open(io.BytesIO(content), formats=PICTURE_FORMATS) as image:
        _check_size(image.width, image.height)
        if isinstance(image, TiffImageFile):  # a tile is unpacked whole, however small the picture
            _check_size(int(image.tag_v2.get(TILEWIDTH, 1)), int(image.tag_v2.get(TILELENGTH, 1)))
        image.draft(None, (2 * size, 2 * size))  # a JPEG is decoded in a half, a quarter, an eighth of its size
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        side = min(image.size)  # what `fitted` would cut off need not be copied into an array before
        left, top = (image.width - side) // 2, (image.height - side) // 2
        return np.asarray(on_white(image.crop((left, top, left + side, top + side))))


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise MediaError(f"{width} × {height} pixels; at most {MAX_PIXELS} are read", "too_large")


def on_white(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB, what is transparent in it white."""
    if image.mode.startswith("I"):  # grey in 16 bits, which `convert` would cut off at 255
        return Image.fromarray((np.asarray(image).clip(0, 2**16 - 1) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        image = Image.alpha_composite(white, layered)
    return image if image.mode == "RGB" else image.convert("RGB")


def fitted(pixels_HWC: Pixels, size: int) -> Pixels:
    """The square in the middle, scaled to `size`: [S, S, 3].

    Bicubic with antialiasing, as in Pillow, in a quarter of its time; a grey level or two from Lanczos on average.
    """
    import torch
    from torch.nn.functional import interpolate

    height, width, _ = pixels_HWC.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square_SSC = pixels_HWC[top : top + side, left : left + side].copy()
    if side == size:
        return square_SSC
    square_1CSS = torch.from_numpy(square_SSC).permute(2, 0, 1).unsqueeze(0)
    scaled_1CSS = interpolate(square_1CSS, (size, size), mode="bicubic", antialias=True)
    scaled_SSC: Pixels = scaled_1CSS[0].permute(1, 2, 0).contiguous().numpy()
    return scaled_SSC


def check_whole(content: bytes) -> None:
    """Raises MediaError for a file that says how long it is (wav, aiff, avi, ogg, webm, mkv, mp4) and is shorter."""
    length = _told_length(content)
    if length - SLACK_BYTES > len(content):
        raise MediaError(f"it is cut off: {len(content)} bytes of {length}")


def _told_length(content: bytes) -> int:
    """Bytes that a file has as it says itself; 0 where it does not."""
    if content.startswith((b"RIFF", b"FORM")):
        length = int.from_bytes(content[4:8], "little" if content.startswith(b"RIFF") else "big")
        return 8 + length if length < UNTOLD_LENGTH else 0
    if content.startswith(b"OggS"):
        return _end_of_ogg_page(content, content.rfind(b"OggS"))
    if content.startswith(b"\x1a\x45\xdf\xa3") and (segment := content.find(b"\x18\x53\x80\x67", 0, 4096)) > 0:
        return _end_of_matroska_element(content, segment + 4)
    return _end_of_boxes(content) if content[4:8] == b"ftyp" else 0


def _end_of_ogg_page(content: bytes, page: int) -> int:
    """A page is a header, the number of its segments, their lengths, and the segments (RFC 3533)."""
    table = page + 27
    end = table + int.from_bytes(content[table - 1 : table])
    return end + sum(content[table:end])


def _end_of_matroska_element(content: bytes, at: int) -> int:
    """Its length: a byte whose leading zeros count those after it; all bits are one where it is not told (RFC 8794)."""
    num_bytes = 9 - content[at].bit_length()
    mask = (1 << 7 * num_bytes) - 1
    length = int.from_bytes(content[at : at + num_bytes]) & mask
    return at + num_bytes + length if length != mask else 0


def _end_of_boxes(content: bytes) -> int:
    """A box is its length, its name, and what is in it (ISO 14496-12); what comes after the last is no matter."""
    at = 0
    while content[at + 4 : at + 8] in MOVIE_BOXES:
        length = int.from_bytes(content[at : at + 4])
        if length == 1:  # it did not fit in four bytes
            length = int.from_bytes(content[at + 8 : at + 16])
        if length < 8:  # to the end of the file
            return 0
        at += length
    return at

"""Pictures from bytes: every common kind comes out as it looks; nothing that is broken gets past."""

import io
import struct
import warnings
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from xoron_core.contract.errors import DataError
from xoron_core.data.media import read_picture
from xoron_core.data.records import Record

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def read(content: bytes, size: int = 8) -> npt.NDArray[np.uint8]:
    return read_picture(Record("album", 4, {"image": "a.png"}, lambda _: content), "image", size)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(colour: object, mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new(mode, size, colour)  # type: ignore[arg-type]


def quarters() -> Image.Image:
    """Red and green above, blue and white below."""
    image = Image.new("RGB", (8, 8), WHITE)
    for at, colour in (((0, 0), RED), ((4, 0), GREEN), ((0, 4), BLUE)):
        image.paste(colour, (*at, at[0] + 4, at[1] + 4))
    return image


def corners(picture: npt.NDArray[np.uint8]) -> list[tuple[int, ...]]:
    """Upper left, upper right, lower left, lower right."""
    return [tuple(int(value) for value in picture[y, x]) for y in (0, -1) for x in (0, -1)]


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture = read(encoded(Image.fromarray(pixels)))
    assert (picture.shape, picture.dtype) == ((8, 8, 3), np.uint8)
    assert (picture == pixels).all()


def test_what_is_transparent_is_white() -> None:
    image = plain((*RED, 255), "RGBA")
    image.paste((*BLUE, 0), (4, 0, 8, 4))
    image.paste((0, 0, 0, 128), (0, 4, 4, 8))
    picture = read(encoded(image))
    assert corners(picture)[0] == RED
    assert corners(picture)[1] == WHITE
    assert corners(picture)[2] == (127, 127, 127)


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_colour_named_transparent_is_white(mode: str) -> None:
    image = plain(0, "L").convert(mode)
    transparency = (0, 0, 0) if mode == "RGB" else 0
    assert (read(encoded(image, transparency=transparency)) == 255).all()
    assert (read(encoded(image)) == 0).all()


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (plain(100, "L"), "PNG", (100, 100, 100)),
        (plain((100, 255), "LA"), "PNG", (100, 100, 100)),
        (plain((100, 0), "LA"), "PNG", WHITE),
        (plain(1, "1"), "PNG", WHITE),
        (plain(GREEN).convert("P"), "PNG", GREEN),
        (plain((0, 255, 255, 0), "CMYK"), "TIFF", RED),
        (plain((0, 255, 255, 0), "CMYK"), "JPEG", RED),
        (plain(GREEN), "GIF", GREEN),
        (plain(GREEN), "BMP", GREEN),
        (plain((*BLUE, 0), "RGBA"), "WEBP", WHITE),
    ],
)
def test_colours_survive_every_kind_of_file(image: Image.Image, kind: str, expected: tuple[int, ...]) -> None:
    picture = read(encoded(image, kind)).astype(int)
    assert picture.shape == (8, 8, 3)
    assert np.abs(picture - expected).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_of_grey_keep_their_shades(kind: str) -> None:
    shades = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    picture = read(encoded(Image.fromarray(shades), kind))
    assert np.abs(picture.astype(int) - (shades[..., None] / 257)).max() <= 1


TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", list(TURNED))
def test_a_turned_photograph_is_put_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(quarters().transpose(TURNED[orientation]), exif=exif.tobytes())
    assert corners(read(content)) == [RED, GREEN, BLUE, WHITE]
    assert corners(read(encoded(quarters()))) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("box", [(12, 0, 24, 12), (0, 12, 12, 24)])
def test_a_picture_that_is_not_square_keeps_its_middle(box: tuple[int, int, int, int]) -> None:
    wide = box[1] == 0
    image = plain(RED, size=(36, 12) if wide else (12, 36))
    image.paste(GREEN, box)
    picture = read(encoded(image), 12)
    assert (picture == GREEN).all()
    smaller = read(encoded(image), 6).astype(int)
    assert np.abs(smaller[1:-1, 1:-1] - GREEN).max() <= 3


def test_larger_and_smaller_pictures_are_scaled() -> None:
    for side in (2, 33, 100):
        assert corners(read(encoded(quarters().resize((side, side), Image.Resampling.NEAREST)), 16)) == [
            RED,
            GREEN,
            BLUE,
            WHITE,
        ]


def test_one_pixel_wide_is_still_a_picture() -> None:
    assert (read(encoded(plain(BLUE, size=(1, 300)))) == BLUE).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF"])
def test_a_file_that_is_cut_off_is_a_data_error(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    with pytest.raises(DataError, match="not a readable picture") as caught:
        read(content[: len(content) // 2])
    assert (caught.value.source, caught.value.index) == ("album", 4)


@pytest.mark.parametrize("content", [b"", b"\0", b"not a picture", b"\x89PNG\r\n\x1a\n", b"%PDF-1.7", b"<svg></svg>"])
def test_what_is_no_picture_is_a_data_error(content: bytes) -> None:
    with pytest.raises(DataError, match=r"album\[4\]: not a readable picture"):
        read(content)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is enormous."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8200, 10_000, 60_000, 2**31 - 1])
@pytest.mark.parametrize("action", ["error", "ignore"])
def test_a_picture_of_enormous_size_is_not_even_decoded(side: int, action: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(action)  # type: ignore[arg-type]  # the library warns of some and refuses others
        with pytest.raises(DataError, match="pixels") as caught:
            read(bomb(side, side))
    assert caught.value.index == 4


def test_broken_files_of_every_kind_raise_nothing_but_data_errors() -> None:
    rng = np.random.default_rng(1)
    originals = [encoded(quarters(), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "DDS", "SGI")]
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(40):
            for original in originals:
                content = bytearray(original)
                for _ in range(4):
                    content[rng.integers(len(content))] = rng.integers(256)
                try:
                    assert read(bytes(content)).shape == (8, 8, 3)
                except DataError:
                    refused += 1
    assert refused > 50


def test_a_decoder_that_knows_a_format_only_in_part_is_a_data_error() -> None:
    content = bytearray(encoded(quarters(), "DDS"))
    content[84:88] = b"XXXX"  # a compression that does not exist
    content[80:84] = struct.pack("<I", 4)
    with pytest.raises(DataError, match="not a readable picture"):
        read(bytes(content))


def test_a_row_that_names_no_picture_is_a_data_error() -> None:
    with pytest.raises(DataError, match="field 'image'"):
        read_picture(Record("album", 4, {"image": 3}, lambda _: b""), "image", 8)

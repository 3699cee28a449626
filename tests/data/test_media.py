"""Pictures from bytes: every common kind comes out as it looks; nothing that is broken gets past."""

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support.nasty_files import mutations, nasty_pictures, nasty_reader, png, tiff

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
    assert (caught.value.source, caught.value.index, caught.value.kind) == ("album", 4, "unreadable")


@pytest.mark.parametrize("content", [b"\0", b"not a picture", b"\x89PNG\r\n\x1a\n", b"%PDF-1.7", b"<svg></svg>"])
def test_what_is_no_picture_is_a_data_error(content: bytes) -> None:
    with pytest.raises(
        DataError, match=r"album\[4\]: 'a.png' is not a readable picture: its format is not known"
    ) as caught:
        read(content)
    assert caught.value.kind == "unreadable"


def test_what_pillow_would_start_a_program_for_or_a_text_can_pass_for_is_no_picture() -> None:
    for content in (encoded(quarters(), "EPS"), encoded(quarters().convert("1"), "XBM")):
        assert Image.open(io.BytesIO(content)).size == (8, 8)
        with pytest.raises(DataError, match="its format is not known"):
            read(content)


@pytest.mark.parametrize("side", [8200, 10_000, 60_000, 2**31 - 1])
@pytest.mark.parametrize("action", ["error", "ignore"])
def test_a_picture_of_enormous_size_is_not_even_decoded(side: int, action: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(action)  # type: ignore[arg-type]  # the library warns of some and refuses others
        with pytest.raises(DataError, match="pixels") as caught:
            read(png(side))
    assert (caught.value.index, caught.value.kind) == (4, "too_large")


def test_a_tile_is_as_large_as_a_picture_may_be() -> None:
    assert (read(tiff(8, tile=64)) == 0).all()
    with pytest.raises(DataError, match="32768 × 32768 pixels"):
        read(tiff(8, tile=2**15))


def test_every_nasty_file_is_what_it_is(tmp_path: Path) -> None:
    rows = nasty_pictures(tmp_path)
    assert sum(row.kind is None for row in rows) > 10
    for index, row in enumerate(rows):
        record = Record("nasty", index, row.fields, nasty_reader("nasty", index, tmp_path))
        try:
            assert read_picture(record, "image", 16).shape == (16, 16, 3)
            kind = None
        except DataError as error:
            kind = error.kind
        assert kind == row.kind, row.what


def test_broken_files_of_every_kind_raise_nothing_but_data_errors() -> None:
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = ("PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF")
    originals = [encoded(noise, kind) for kind in kinds]
    originals += [encoded(noise, "JPEG", exif=exif.tobytes()), encoded(noise, "JPEG", progressive=True)]
    outcomes: list[object] = []
    for original in originals:
        for content in mutations(original, rng, 40):
            try:
                outcomes.append(read(content).shape)
            except DataError as error:
                outcomes.append(error.kind)
    assert outcomes.count((8, 8, 3)) > 100
    assert outcomes.count("unreadable") > 400
    assert set(outcomes) <= {(8, 8, 3), "unreadable", "too_large", "empty"}


def pattern(width: int, height: int) -> Image.Image:
    """Something like a photograph: detail of every size down to a pixel, the finer the fainter."""
    rng = np.random.default_rng(3)
    pixels = np.full((height, width), 128.0, np.float32)
    for level in range(1, 12):
        layer = Image.fromarray(rng.normal(0, 100 / level**1.5, (2**level, 2**level)).astype(np.float32))
        pixels += np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB")


@pytest.mark.parametrize("size", [(1024, 1024), (1024, 682), (2048, 1536), (600, 400)])
def test_a_photograph_looks_as_it_does_decoded_whole_and_scaled_by_lanczos(size: tuple[int, int]) -> None:
    content = encoded(pattern(*size), "JPEG", quality=90)
    side, middle = min(size), ((size[0] - min(size)) // 2, (size[1] - min(size)) // 2)
    with Image.open(io.BytesIO(content)) as whole:
        square = whole.crop((*middle, middle[0] + side, middle[1] + side))
    expected = np.asarray(square.resize((256, 256), Image.Resampling.LANCZOS)).astype(float)
    decibels = 10 * np.log10(255**2 / np.mean((read(content, 256) - expected) ** 2))
    assert decibels > 51.5


def test_bytes_of_a_row_are_read_and_named() -> None:
    content = encoded(quarters())
    for value in (content, {"bytes": content, "path": None}, {"bytes": content, "path": "b.png"}):
        assert (
            corners(read_picture(Record("album", 4, {"image": value}, nasty_reader("album", 4, Path())), "image", 8))[0]
            == RED
        )
    for value, name in (
        (content[:60], "the content of field 'image'"),
        ({"bytes": content[:60], "path": "b.png"}, "'b.png'"),
    ):
        with pytest.raises(DataError, match=rf"album\[4\]: {name} is not a readable picture"):
            read_picture(Record("album", 4, {"image": value}, nasty_reader("album", 4, Path())), "image", 8)


def test_a_decoder_that_knows_a_format_only_in_part_is_a_data_error() -> None:
    content = bytearray(encoded(quarters(), "DDS"))
    content[84:88] = b"XXXX"  # a compression that does not exist
    content[80:84] = struct.pack("<I", 4)
    with pytest.raises(DataError, match="not a readable picture"):
        read(bytes(content))


def test_a_row_that_names_no_picture_is_a_data_error() -> None:
    with pytest.raises(DataError, match="field 'image'"):
        read_picture(Record("album", 4, {"image": 3}, lambda _: b""), "image", 8)

"""What an image becomes: upright, sRGB, 8 bits, its size, without metadata; and what is noted of it."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image, ImageCms

from datasets_defs.spec.pairs import ImagesSpec
from tests.training.pairs.made_images import saved, scene
from training.pairs.codec import Picture, contact_sheet, prepare
from training.pairs.content import Lost
from training.pairs.hashes import perceptual_hash

SPEC = ImagesSpec(size=128)


def made(content: bytes, spec: ImagesSpec = SPEC) -> tuple[Picture, Image.Image]:
    """Prepare an image that is good, and open what was made of it."""
    picture = prepare(content, spec)
    assert isinstance(picture, Picture), picture
    opened = Image.open(io.BytesIO(picture.content))
    opened.load()
    return picture, opened


def far(one: Image.Image, other: Image.Image) -> float:
    """Give the mean difference of two pictures, in 255."""
    both = [np.asarray(each.convert("RGB").resize((64, 64)), dtype=float) for each in (one, other)]
    return float(np.abs(both[0] - both[1]).mean())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned(orientation: int):
    """A picture that a camera stored turned or mirrored comes out as it was seen, and its metadata does not."""
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90",
             7: "TRANSVERSE", 8: "ROTATE_270"}  # fmt: skip
    seen = scene(1, 240, aspect=1.5)
    stored = seen.transpose(Image.Transpose[turns[orientation]]) if orientation > 1 else seen
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Camera of Erika Mustermann"
    picture, opened = made(saved(stored, exif=exif, quality=95))
    assert (picture.width, picture.height) == (128, 85)
    assert far(opened, seen) < 8
    assert ("turned upright" in picture.notes) == (orientation > 1)
    assert b"Mustermann" not in picture.content


def test_a_position_is_removed_and_noted():
    """GPS coordinates do not go on, and are counted."""
    exif = Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    picture, opened = made(saved(scene(2), exif=exif))
    assert picture.notes == ["position removed"]
    assert len(opened.getexif()) == 0


def test_broken_metadata_harms_no_picture():
    """An EXIF block that makes no sense is passed over."""
    picture, _ = made(saved(scene(3), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage"))
    assert picture.width == 128


def test_cmyk_becomes_rgb():
    """A print shop's JPEG keeps its colours, nearly."""
    seen = scene(4)
    picture, opened = made(saved(seen.convert("CMYK"), quality=95))
    assert (opened.mode, picture.notes) == ("RGB", ["was CMYK"])
    assert far(opened, seen) < 8


def test_colours_of_a_profile_become_srgb():
    """Pixels mean what their profile says: another than sRGB is changed, sRGB itself is not."""
    seen = scene(5)
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert made(saved(seen, icc_profile=srgb))[0].notes == []
    assert lab is not None
    wide = _wide_profile()
    picture, opened = made(saved(seen, icc_profile=wide, quality=95))
    assert picture.notes == ["colours changed to sRGB"]
    assert far(opened, made(saved(seen, quality=95))[1]) > 3
    assert "icc_profile" not in opened.info
    assert made(saved(seen, icc_profile=b"no profile at all" * 20))[0].notes == ["broken colour profile"]


def _wide_profile() -> bytes:
    """Give sRGB's profile with red and green changed for each other, under another name."""
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return plain.replace(b"rXYZ", b"tmpZ").replace(b"gXYZ", b"rXYZ").replace(b"tmpZ", b"gXYZ").replace(
        "sRGB".encode("utf-16-be"), "Wide".encode("utf-16-be")
    )  # fmt: skip


def test_sixteen_bits_become_eight():
    """A 16-bit scan keeps its range."""
    ramp = np.tile(np.linspace(0, 65_535, 200).astype(np.uint16), (200, 1))
    picture, opened = made(saved(Image.fromarray(ramp), "PNG"))
    assert picture.notes == ["was 16 bits"]
    low, high = opened.convert("L").getextrema()
    assert low < 6
    assert high > 249


def test_a_palette_with_transparency_is_laid_over_white():
    """What is seen through becomes white, or black, or is a reason to leave it out."""
    picture = scene(6).convert("P", palette=Image.Palette.ADAPTIVE, colors=32)
    content = saved(picture, "PNG", transparency=0)
    assert "laid over white" in made(content)[0].notes
    half = scene(6).convert("RGBA")
    half.putalpha(Image.fromarray(np.tile(np.array([0, 255], np.uint8).repeat(128), (256, 1))))
    for colour, level in (("white", 250), ("black", 5)):
        left = made(saved(half, "PNG"), SPEC.model_copy(update={"transparency": colour}))[1].getpixel((20, 64))
        assert all(abs(value - level) <= 8 for value in left)
    assert prepare(saved(half, "PNG"), SPEC.model_copy(update={"transparency": "drop"})) == Lost(
        "transparent", "`images.transparency: drop`"
    )


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind: str):
    """Or the file is left out, as the YAML says."""
    frames = [scene(number, 160) for number in (7, 8, 9)]
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    picture, opened = made(content)
    assert "first of several frames" in picture.notes
    assert far(opened, frames[0]) < 10
    assert prepare(content, SPEC.model_copy(update={"animated": "drop"})).reason == "several frames"


def test_a_wrong_ending_is_no_matter():
    """The content decides which decoder is asked, and the format is the content's."""
    assert made(saved(scene(10), "PNG"))[0].format == "png"
    assert made(saved(scene(10), "WEBP"))[0].format == "webp"
    assert made(saved(scene(10), "MPO", save_all=True, append_images=[scene(11)]))[0].format == "jpeg"


@pytest.mark.parametrize(
    ("resize", "given", "size"),
    [
        ("fit", (400, 300), (128, 96)),
        ("fit", (300, 400), (96, 128)),
        ("fit", (100, 90), (100, 90)),
        ("crop", (400, 300), (128, 128)),
    ],
)
def test_sizes(resize: str, given: tuple[int, int], size: tuple[int, int]):
    """Aspect is kept or a square is cut, and nothing is ever enlarged."""
    picture, opened = made(saved(scene(12).resize(given)), SPEC.model_copy(update={"resize": resize}))
    assert (picture.width, picture.height) == opened.size == size
    assert (picture.source_width, picture.source_height) == given


def test_a_square_needs_its_size():
    """With `crop`, what is smaller than the square is left out, not enlarged."""
    small = saved(scene(12).resize((127, 300)))
    assert prepare(small, SPEC.model_copy(update={"resize": "crop"})) == Lost("too small", "127x300")


@pytest.mark.parametrize("kind", ["jpeg", "webp", "png"])
def test_what_is_written(kind: str):
    """The same picture as the YAML's format, and the same bytes every time."""
    spec = SPEC.model_copy(update={"encode": kind})
    picture, opened = made(saved(scene(13)), spec)
    assert opened.format.lower() == kind
    assert picture.content == made(saved(scene(13)), spec)[0].content


def test_descriptors_say_what_is_seen():
    """Brightness, contrast and sharpness are lower where the picture is darker, flatter and blurred."""
    seen = scene(14, 512)
    plain, dark = made(saved(seen))[0], made(saved(seen.point(lambda value: value // 3)))[0]
    blurred = made(saved(seen.resize((32, 32)).resize((512, 512), Image.Resampling.BICUBIC)))[0]
    assert dark.brightness < 0.5 * plain.brightness
    assert dark.contrast < 0.5 * plain.contrast
    assert blurred.sharpness < 0.5 * plain.sharpness


def test_near_duplicates_have_near_hashes():
    """Encoded anew, scaled, a little darker: few bits differ. Other pictures: many."""
    seen = scene(15, 400)
    hashes = [
        perceptual_hash(made(content)[0].grey)
        for content in (
            saved(seen, quality=95), saved(seen, quality=30), saved(seen.resize((222, 222))), saved(seen, "WEBP"),
            saved(seen.point(lambda value: int(value * 0.9))),
        )
    ]  # fmt: skip
    assert max((hashes[0] ^ each).bit_count() for each in hashes) <= 4
    others = [perceptual_hash(made(saved(scene(number)))[0].grey) for number in range(100, 150)]
    assert min((one ^ other).bit_count() for at, one in enumerate(others) for other in others[:at]) > 4


def test_a_contact_sheet_shows_each():
    """Each prepared picture has its square."""
    pictures = [made(saved(scene(number)))[0].content for number in range(10)]
    sheet = Image.open(io.BytesIO(contact_sheet(pictures, columns=8, side=64)))
    assert sheet.size == (512, 128)
    assert far(sheet.crop((2, 2, 62, 62)), scene(0)) < 12
    assert np.asarray(sheet.crop((192, 64, 512, 128))).std() < 3  # nothing where there is no picture


@pytest.mark.slow
def test_nothing_is_warned_of():
    """Pillow's warnings about strangers' files do not fill the log."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        prepare(saved(scene(16).resize((12_000, 12_000)), "PNG", compress_level=1), SPEC)
    assert heard == []

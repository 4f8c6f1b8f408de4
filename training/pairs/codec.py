"""One image: opened by a decoder that is allowed, turned upright, made plain sRGB, resized, and encoded anew.

The only file that imports Pillow. What it is given comes from strangers, so whatever a decoder raises becomes the
image's reason.
"""

import io
import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

from datasets_defs.spec.pairs import ImagesSpec
from training.pairs.content import Lost, what_it_is

_DECODERS = {
    "jpeg": ("JPEG",), "png": ("PNG",), "webp": ("WEBP",), "gif": ("GIF",), "bmp": ("BMP",), "tiff": ("TIFF",),
    "avif": ("AVIF",), "jpeg2000": ("JPEG2000",),
}  # fmt: skip
_ORIENTATION = 0x0112
_GPS = 0x8825
_LOOKED_AT = 256
"""Pixels of the longer side of the grey picture that is measured, at least."""
_DRAWN = 64
"""Pixels a side that stand for the whole picture's colours."""
FLAT = 1.0
"""Standard deviation of grey, of 255, below which a picture shows one colour."""
ImageFile.LOAD_TRUNCATED_IMAGES = False
Image.MAX_IMAGE_PIXELS = None  # the header's size is held against the YAML's limit before anything is decoded


@dataclass(slots=True)
class Picture:
    """An image that was prepared."""

    content: bytes
    width: int
    height: int
    source_width: int
    source_height: int
    format: str
    notes: list[str] = field(default_factory=list)
    """What was done to it."""
    grey: bytes = b""
    """32 by 32 pixels, for the perceptual hash."""
    brightness: float = 0
    contrast: float = 0
    sharpness: float = 0
    """Standard deviation of the Laplacian of grey: what is out of focus has little."""
    colours: tuple[float, float, float] = (0, 0, 0)
    """Mean of red, green and blue, 0..1."""
    spreads: tuple[float, float, float] = (0, 0, 0)
    """Standard deviation of red, green and blue, 0..1."""


def prepare(content: bytes, spec: ImagesSpec) -> Picture | Lost:
    """Prepare one image, or say why it is lost."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _prepare(content, spec)
        except MemoryError:
            return Lost("takes too much memory", "its decoder ran out of memory")
        except Exception as err:  # noqa: BLE001 decoders of strangers' files raise anything
            return _broken(err)


def _prepare(content: bytes, spec: ImagesSpec) -> Picture | Lost:
    Image.init()  # knows all decoders; which of them are asked is said below
    decoders = [name for kind in spec.formats for name in _DECODERS[kind]]
    try:
        image: Any = Image.open(io.BytesIO(content), formats=decoders)
    except UnidentifiedImageError:
        return what_it_is(content, spec)
    width, height = image.size
    if (why := _why_unfit(width, height, spec)) is not None:
        return why
    made = Picture(b"", 0, 0, width, height, _name_of(image.format))
    if (lost := _one_frame(image, spec, made)) is not None:
        return lost
    _shrink_while_decoding(image, spec)
    image.load()
    image = _upright(image, made)
    flat = _plain(image, spec, made)
    if isinstance(flat, Lost):
        return flat
    return _finished(_resized(flat, spec), spec, made)


def _why_unfit(width: int, height: int, spec: ImagesSpec) -> Lost | None:
    short, long = sorted((width, height))
    if width * height > spec.max_pixels:
        return Lost("too many pixels", f"{width}x{height}; a small file that unpacks to gigabytes is called a bomb")
    if short < spec.min_side or (spec.resize == "crop" and short < spec.size):
        return Lost("too small", f"{width}x{height}")
    if long > spec.max_aspect * short:
        return Lost("too long and narrow", f"{width}x{height}")
    return None


def _one_frame(image: Any, spec: ImagesSpec, made: Picture) -> Lost | None:
    """Stay at the first frame. What a telephone adds to a JPEG (MPO) is no animation."""
    if image.format == "MPO" or not getattr(image, "is_animated", False):
        return None
    if spec.animated == "drop":
        return Lost("several frames", f"{_name_of(image.format)} with several frames or pages")
    image.seek(0)
    made.notes.append("first of several frames")
    return None


def _shrink_while_decoding(image: Any, spec: ImagesSpec) -> None:
    """Let a JPEG's decoder leave out what the resized image does not show: a half, a quarter, an eighth."""
    if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
        image.draft(None, _target(image.size, spec))


def _target(size: tuple[int, int], spec: ImagesSpec) -> tuple[int, int]:
    """Give the size that an image is scaled to, before a square is cut from it; never larger than it is."""
    width, height = size
    side = min(size) if spec.resize == "crop" else max(size)
    scale = min(1.0, spec.size / side)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _upright(image: Any, made: Picture) -> Any:
    if "exif" not in image.info and "Raw profile type exif" not in image.info and image.format != "TIFF":
        return image
    try:
        exif = image.getexif()
        if exif.get_ifd(_GPS):
            made.notes.append("position removed")
        if exif.get(_ORIENTATION, 1) in range(2, 9):
            made.notes.append("turned upright")
            return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 metadata that is broken tells nothing of the picture
        made.notes.append("broken metadata")
    return image


def _plain(image: Any, spec: ImagesSpec, made: Picture) -> Any:
    """Give the picture in sRGB with 8 bits a channel and nothing to see through."""
    if image.mode in ("F", "I") or image.mode.startswith("I;"):
        return _eight_bits(image, made)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        image = _laid_over(image, spec, made)
        if isinstance(image, Lost):
            return image
    if (profile := image.info.get("icc_profile")) and image.mode in ("RGB", "CMYK", "L"):
        image = _in_srgb(image, profile, made)
    if image.mode != "RGB":
        if image.mode in ("CMYK", "YCCK", "LAB", "P", "1", "L"):
            made.notes.append(f"was {image.mode}")
        image = image.convert("RGB")
    return image


def _eight_bits(image: Any, made: Picture) -> Any:
    if image.mode == "F":
        return Lost("pixels without a range", "floating-point pixels; nothing says what is black and what is white")
    low, high = image.getextrema()
    if low < 0 or high > 65_535:
        return Lost("pixels without a range", f"32-bit pixels from {low} to {high}")
    made.notes.append("was 16 bits")
    whole = image.convert("I") if image.mode != "I" else image
    return whole.point(lambda value: value * (1 / 257) + 0.5).convert("L").convert("RGB")


def _laid_over(image: Any, spec: ImagesSpec, made: Picture) -> Any:
    """Lay a colour under what is transparent."""
    clear = image.convert("RGBA")
    low, high = clear.getchannel("A").getextrema()
    if low == 255:
        return clear.convert("RGB") if image.mode != "P" else image.convert("RGB")
    if high == 0:
        return Lost("transparent all over", "no pixel of it can be seen")
    if spec.transparency == "drop":
        return Lost("transparent", "`images.transparency: drop`")
    made.notes.append(f"laid over {spec.transparency}")
    under = Image.new("RGBA", clear.size, spec.transparency)
    under.alpha_composite(clear)
    return under.convert("RGB")


def _in_srgb(image: Any, profile: bytes, made: Picture) -> Any:
    try:
        change = _transform(profile, image.mode)
        if change is None:
            return image
        image = ImageCms.applyTransform(image, change)
    except (ImageCms.PyCMSError, OSError, ValueError):
        made.notes.append("broken colour profile")
        return image
    made.notes.append("colours changed to sRGB")
    return image


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> Any:
    """Make the change of colours once for the many images of one camera; none is needed for sRGB itself."""
    given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if "srgb" in ImageCms.getProfileDescription(given).lower():
        return None
    return ImageCms.buildTransform(given, ImageCms.createProfile("sRGB"), mode, "RGB")


def _resized(image: Any, spec: ImagesSpec) -> Any:
    """Scale the upright picture, and cut its square."""
    target = _target(image.size, spec)
    if image.size != target:
        image = image.resize(target, Image.Resampling.LANCZOS, reducing_gap=2.0)
    if spec.resize == "crop" and image.size != (spec.size, spec.size):
        left, top = ((side - spec.size) // 2 for side in image.size)
        image = image.crop((left, top, left + spec.size, top + spec.size))
    return image


def _finished(image: Any, spec: ImagesSpec, made: Picture) -> Picture | Lost:
    grey = image.convert("L")
    grey = grey.reduce(max(1, max(grey.size) // _LOOKED_AT))
    levels = np.asarray(grey, dtype=np.int16)
    made.brightness, made.contrast = float(levels.mean()) / 255, float(levels.std()) / 255
    if 255 * made.contrast < FLAT and not spec.one_colour:
        return Lost("one colour", "nothing can be seen in it")
    made.sharpness = float(_laplacian(levels).std()) / 255
    colours = np.asarray(image.resize((_DRAWN, _DRAWN), Image.Resampling.NEAREST), dtype=np.float32) / 255
    made.colours, made.spreads = tuple(colours.mean((0, 1)).tolist()), tuple(colours.std((0, 1)).tolist())
    made.grey = grey.resize((32, 32), Image.Resampling.BOX).tobytes()
    made.width, made.height = image.size
    out = io.BytesIO()
    if spec.encode == "png":
        image.save(out, "PNG")
    else:
        image.save(out, spec.encode.upper(), quality=spec.quality)
    made.content = out.getvalue()
    return made


def _laplacian(levels: NDArray[np.int16]) -> NDArray[np.int16]:
    """Give how each pixel differs from its four neighbours; those at the edge are left out."""
    inner = levels[1:-1, 1:-1]
    around = levels[:-2, 1:-1] + levels[2:, 1:-1] + levels[1:-1, :-2] + levels[1:-1, 2:]
    return around - 4 * inner


def _broken(err: Exception) -> Lost:
    problem = f"{type(err).__name__}: {err}"[:200]
    if isinstance(err, Image.DecompressionBombError) or "too large" in problem.lower():
        return Lost("unpacks to too much", problem)
    if "truncated" in problem.lower() or isinstance(err, EOFError):
        return Lost("cut off", problem)
    return Lost("damaged", problem)


def _name_of(decoder: str | None) -> str:
    if decoder == "MPO":  # a JPEG with what a telephone adds to it
        return "jpeg"
    return next((kind for kind, names in _DECODERS.items() if decoder in names), str(decoder).lower())


def contact_sheet(pictures: list[bytes], *, columns: int = 8, side: int = 128) -> bytes:
    """Give one JPEG with many prepared pictures, each within its square."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * side, max(1, rows) * side), "#ddd")
    for number, content in enumerate(pictures):
        with Image.open(io.BytesIO(content)) as picture:
            picture.draft(None, (side, side))
            small = ImageOps.contain(picture.convert("RGB"), (side - 4, side - 4))
        left, top = (number % columns) * side, (number // columns) * side
        sheet.paste(small, (left + (side - small.width) // 2, top + (side - small.height) // 2))
    out = io.BytesIO()
    sheet.save(out, "JPEG", quality=85)
    return out.getvalue()

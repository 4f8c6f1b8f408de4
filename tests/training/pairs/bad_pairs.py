"""Bad pairs as they come in, made for real: each with the reason under which it has to be lost."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from tests.training.pairs.made_images import saved, scene, sentence

Bad = tuple[str, bytes, str | bytes | None, str]
"""File name, content, caption, reason."""


def bad_pairs() -> list[Bad]:
    """Give them all; the numbers make every picture another."""
    images = [(name, make(), sentence(number), reason) for number, (name, make, reason) in enumerate(IMAGES)]
    captions = [
        (f"caption-{number}.jpg", saved(scene(500 + number)), caption, reason)
        for number, (caption, reason) in enumerate(CAPTIONS)
    ]
    return [*images, *captions]


def _jpeg(seed: int, **options: object) -> bytes:
    return saved(scene(seed), **options)


def _bomb() -> bytes:
    """A PNG of a few hundred kilobytes that unpacks to 1.2 thousand million pixels."""
    side = 35_000

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side // 8 + 1) * 100) for _ in range(side // 100)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _text_bomb() -> bytes:
    """A PNG whose comment unpacks to hundreds of megabytes."""
    whole = saved(scene(41), "PNG")
    comment = b"Comment\0\0" + zlib.compress(bytes(300_000_000), 9)
    chunk = struct.pack(">I", len(comment)) + b"zTXt" + comment + struct.pack(">I", zlib.crc32(b"zTXt" + comment))
    return whole[:33] + chunk + whole[33:]


def _with_zip() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("run.sh", "#!/bin/sh\necho hidden\n")
    return _jpeg(42) + archive.getvalue()


def _changed(content: bytes, begin: int, length: int) -> bytes:
    noise = np.random.default_rng(1).integers(0, 255, length, dtype=np.uint8).tobytes()
    return content[:begin] + noise + content[begin + length :]


def _broken_png() -> bytes:
    whole = saved(scene(43), "PNG")
    return _changed(whole, len(whole) // 2, 2_000)


def _clear() -> bytes:
    return saved(Image.new("RGBA", (200, 200), (9, 9, 9, 0)), "PNG")


IMAGES: list[tuple[str, Callable[[], bytes], str]] = [
    ("empty.jpg", lambda: b"", "empty file"),
    ("cut.jpg", lambda: _jpeg(1)[:6_000], "cut off"),
    ("cut.png", lambda: saved(scene(2), "PNG")[:20_000], "cut off"),
    ("cut.gif", lambda: saved(scene(3), "GIF")[:5_000], "cut off"),
    ("cut.webp", lambda: saved(scene(4), "WEBP")[:3_000], "damaged"),
    ("cut.bmp", lambda: saved(scene(5), "BMP")[:9_000], "cut off"),
    ("head-only.jpg", lambda: _jpeg(6)[:24], "cut off"),
    ("broken.png", _broken_png, "damaged"),
    ("broken.tif", lambda: _changed(saved(scene(7), "TIFF", compression="tiff_lzw"), 8, 4_000), "damaged"),
    ("bomb.png", _bomb, "too many pixels"),
    ("text-bomb.png", _text_bomb, "unpacks to too much"),
    ("page.jpg", lambda: b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "not an image"),
    ("words.png", lambda: b"This is a text that somebody called an image.", "not an image"),
    ("paper.jpg", lambda: b"%PDF-1.7\n1 0 obj <<>> endobj", "not an image"),
    ("drawing.svg", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><rect width='9'/></svg>", "not an image"),
    ("script.eps", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage", "not an image"),
    ("pointer.jpg", lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "not an image"),
    ("zeros.jpg", lambda: bytes(4_096), "not an image"),
    ("phone.heic", lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), "format not read"),
    ("map.jp2", lambda: saved(scene(8), "JPEG2000"), "format not read"),
    ("film.jpg", lambda: b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(200), "format not read"),
    ("tiny.png", lambda: saved(scene(9, 32), "PNG"), "too small"),
    ("banner.jpg", lambda: saved(scene(10, 1_200, aspect=12)), "too long and narrow"),
    ("white.png", lambda: saved(Image.new("RGB", (300, 300), "white"), "PNG"), "one colour"),
    ("clear.png", _clear, "transparent all over"),
    ("float.tif", lambda: saved(Image.fromarray(np.random.default_rng(2).random((99, 99), np.float32)), "TIFF"),
     "pixels without a range"),
    ("archive.jpg", _with_zip, "unsafe file"),
    ("script.jpg", lambda: _jpeg(11) + b"<?php system($_GET['c']); ?>", "unsafe file"),
    ("large.bmp", lambda: saved(scene(12, 900), "BMP"), "too many bytes"),
]  # fmt: skip
"""Bad by their image. The YAML of the test reads two million bytes at most."""

CAPTIONS: list[tuple[str | bytes | None, str]] = [
    (None, "no caption"),
    ("", "empty caption"),
    (" \n\t ", "empty caption"),
    ("<b></b>&nbsp;\u200b", "empty caption"),
    ("IMG_20240101_1234.jpg", "caption is a file name"),
    ("a dog", "caption too short"),
    ("word " * 900, "caption too long"),
    (b"\xff\xd8\xff\xe0 this is no text \xfe\x80", "caption is no text"),
    ("\ufffd\ufffd\ufffd a dog \ufffd\ufffd on a lawn", "caption is no text"),
    ("Der alte Hund schläft am Abend unter dem großen Baum im Garten hinter dem Haus", "another language"),
    ("A dog with a forbidden phrase in its caption on the green lawn", "blocked phrase"),
]
"""Bad by their caption."""

"""What a file's bytes say before any decoder sees them: nothing, something else than an image, or more than one."""

from collections.abc import Collection
from dataclasses import dataclass

from datasets_defs.spec.pairs import ImagesSpec

_OTHERS = (
    (b"%PDF", "a PDF"), (b"PK\x03\x04", "a ZIP archive"), (b"\x1f\x8b", "a gzip archive"), (b"MZ", "a Windows program"),
    (b"\x7fELF", "a Linux program"), (b"#!", "a script"), (b"8BPS", "a Photoshop file"), (b"%!PS", "PostScript"),
    (b"version https://git-lfs", "a Git LFS pointer"), (b"\x00\x00\x01\x00", "an icon"),
)  # fmt: skip
_MARKUP = ((b"<svg", "an SVG drawing"), (b"<html", "a web page"), (b"<!doctype", "a web page"), (b"<?xml", "XML"))
_KNOWN = (
    (b"\xff\xd8\xff", "jpeg"), (b"\x89PNG", "png"), (b"GIF8", "gif"), (b"BM", "bmp"), (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"), (b"\0\0\0\x0cjP", "jpeg2000"), (b"\xff\x4f\xff\x51", "jpeg2000"),
)  # fmt: skip
_BRANDS = {b"avif": "avif", b"avis": "avif", b"heic": "heic", b"heix": "heic", b"mif1": "heic", b"hevc": "heic"}
_HIDDEN = ((b"<?php", "a PHP script"), (b"<script", "a script"), (b"<SCRIPT", "a script"))
_TAIL = 2**16


@dataclass(frozen=True, slots=True)
class Lost:
    """Why something does not go on."""

    reason: str
    """One of few, to be counted."""
    detail: str = ""


def check_bytes(content: bytes, sha256: str, spec: ImagesSpec, blocked: Collection[str]) -> Lost | None:
    """Say why a file is not to be decoded at all."""
    if not content:
        return Lost("empty file", "zero bytes")
    if len(content) > spec.max_bytes:
        return Lost("too many bytes", f"{len(content):,} bytes")
    if sha256 in blocked:
        return Lost("on the list of blocked files", f"SHA-256 {sha256[:12]}…")
    if spec.unsafe == "drop" and (what := hidden(content)) is not None:
        return Lost("unsafe file", f"an image that carries {what}")
    return None


def hidden(content: bytes) -> str | None:
    """Name what an image carries beside its picture: a script, or an archive behind its end."""
    for mark, what in _HIDDEN:
        if mark in content:
            return what
    if b"PK\x05\x06" in content[-_TAIL:] and b"PK\x03\x04" in content:
        return "a ZIP archive"
    return None


def what_it_is(content: bytes, spec: ImagesSpec) -> Lost:
    """Say of what no allowed decoder knows whether it is another format, no image, or a broken one."""
    head = content[:512]
    known = next((name for mark, name in _KNOWN if head.startswith(mark)), None)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        known = "webp"
    if head[4:8] == b"ftyp":
        known = _BRANDS.get(head[8:12], "a film")
    if known is not None and known not in spec.formats:
        return Lost("format not read", f"{known}; images.formats names {', '.join(spec.formats)}")
    if known is not None:
        return Lost("damaged", f"begins like {known}, and its header makes no sense")
    other = next((name for mark, name in _OTHERS if head.startswith(mark)), None)
    other = other or next((name for mark, name in _MARKUP if mark in head.lower()), None)
    if other is None and not head.strip(b"\0"):
        other = "zeros"
    return Lost("not an image", f"it is {other}" if other else "nothing known begins like this")

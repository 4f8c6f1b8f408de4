"""One batch of a take's images: read ahead, prepared in a process apart, and put down once, each with its facts."""

import hashlib
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.faults import reached
from datasets_defs.spec.pairs import ImagesSpec, PairsSpec
from datasets_defs.store.artifacts import exists, write_file, write_rows
from datasets_defs.store.takes import Take
from datasets_defs.store.work import work_folder
from training.pairs.apart import Decoder
from training.pairs.codec import Picture
from training.pairs.content import Lost, check_bytes
from training.pairs.hashes import perceptual_hash
from training.pairs.listing import Source, source_of
from training.pairs.manifest import Row, manifest_batch, take_url

READERS, AHEAD = 8, 16
"""Threads that read from the source, and images that they are ahead."""
NO_IMAGE, NO_CAPTION = "no image", "no caption"


def prepare_image_batch(take: Take, batch: int, spec: PairsSpec) -> str:
    """Prepare the images of a batch, unless that was done; say what came of it.

    Pictures go into one file, end to end, and after it what is known of each into another, whose presence says that
    the batch is done.

    Raises:
        TransientError: the source is away.
    """
    facts_url = images_url(take, batch)
    if exists(facts_url):
        return f"{take.ring}: images of batch {batch} were prepared before"
    rows = manifest_batch(take, batch)
    blocked = blocked_files(spec.images)
    with work_folder("pairs") as folder, Decoder(spec.images) as decoder:
        pictures = folder / "pictures.bin"
        facts = list(_prepared(rows, source_of(spec.source), spec.images, decoder, blocked, pictures))
        write_file(pictures_url(take, batch), pictures)
    reached("pairs.pictures")
    write_rows(facts_url, facts)
    lost = sum(fact["lost"] is not None for fact in facts)
    return f"{take.ring}: batch {batch}: {len(facts) - lost} images prepared, {lost} lost"


def images_url(take: Take, batch: int) -> str:
    """Give the URL of what is known of a batch's images."""
    return take_url(take, "images", f"{batch:05}.parquet")


def pictures_url(take: Take, batch: int) -> str:
    """Give the URL of a batch's pictures."""
    return take_url(take, "images", f"{batch:05}.bin")


def blocked_files(spec: ImagesSpec) -> frozenset[str]:
    """Read the list of blocked files.

    Raises:
        ContractError: it is not there: nothing is prepared past a list that cannot be read.
    """
    if spec.blocked is None:
        return frozenset()
    try:
        with fsspec.open(spec.blocked, "rt", encoding="utf-8") as file:
            return frozenset(line.split()[0].lower() for line in file if line.strip() and not line.startswith("#"))
    except (OSError, ValueError, ImportError) as err:
        raise ContractError(
            f"images.blocked: {spec.blocked} cannot be read ({err}); nothing is prepared past it"
        ) from err


def _prepared(
    rows: Sequence[Row],
    source: Source,
    spec: ImagesSpec,
    decoder: Decoder,
    blocked: Collection[str],
    pictures: Path,
) -> Iterator[dict[str, Any]]:
    begin = 0
    with pictures.open("wb") as out:
        for row, content in read_ahead(rows, lambda row: _content(row, source, spec)):
            sha256 = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else None
            made = _one(content, sha256, spec, decoder, blocked, bytes_listed=row["image_bytes"])
            facts = {"place": row["place"], "sha256": sha256, **_facts(made), "begin": begin}
            if isinstance(made, Picture):
                begin += out.write(made.content)
            yield {**facts, "end": begin}


def _one(
    content: bytes | Lost,
    sha256: str | None,
    spec: ImagesSpec,
    decoder: Decoder,
    blocked: Collection[str],
    *,
    bytes_listed: int | None,
) -> Picture | Lost:
    if isinstance(content, Lost):
        return content
    if bytes_listed is not None and len(content) != bytes_listed:
        return Lost("changed since it was listed", "it is taken again under its new version")
    return check_bytes(content, str(sha256), spec, blocked) or decoder.prepare(content)


def _content(row: Row, source: Source, spec: ImagesSpec) -> bytes | Lost:
    if row["image"] is None:
        return Lost(NO_IMAGE, f"only {row['caption']}")
    if row["image_bytes"] > spec.max_bytes:
        return Lost("too many bytes", f"{row['image_bytes']:,} bytes")
    return content_of(source, row["image"])


def content_of(source: Source, path: str) -> bytes | Lost:
    """Read a file of the source; one that has gone or that nobody may read is lost.

    Raises:
        TransientError: the source is away.
    """
    try:
        return source.read(path)
    except FileNotFoundError:
        return Lost("gone since it was listed", path)
    except PermissionError as err:
        return Lost("not readable", str(err)[:200])
    except OSError as err:
        raise TransientError(f"{path} cannot be read from the source: {err}") from err


def read_ahead(rows: Sequence[Row], read: Callable[[Row], bytes | Lost]) -> Iterator[tuple[Row, bytes | Lost]]:
    """Give each row with its content, in order; few are read ahead, so that memory stays small."""
    with ThreadPoolExecutor(READERS) as readers:
        waiting: deque[tuple[Row, Future[bytes | Lost]]] = deque()
        try:
            for row in rows:
                waiting.append((row, readers.submit(read, row)))
                if len(waiting) > AHEAD:
                    first, content = waiting.popleft()
                    yield first, content.result()
            while waiting:
                first, content = waiting.popleft()
                yield first, content.result()
        finally:
            for _, content in waiting:
                content.cancel()


_NOTHING = Picture(b"", 0, 0, 0, 0, "")


def _facts(made: Picture | Lost) -> dict[str, Any]:
    """Give a row of the same columns, whether the image is lost or not."""
    lost, picture = (made, _NOTHING) if isinstance(made, Lost) else (None, made)
    red, green, blue = picture.colours
    more_red, more_green, more_blue = picture.spreads
    return {
        "lost": lost.reason if lost else None,
        "detail": lost.detail if lost else None,
        "notes": picture.notes,
        "format": picture.format,
        "source_width": picture.source_width,
        "source_height": picture.source_height,
        "width": picture.width,
        "height": picture.height,
        "brightness": picture.brightness,
        "contrast": picture.contrast,
        "sharpness": picture.sharpness,
        "colours": [red, green, blue],
        "spreads": [more_red, more_green, more_blue],
        "hash": f"{perceptual_hash(picture.grey):016x}" if picture.grey else None,
    }

"""Joins a take's images and captions again by their places: what is whole and like no other goes into shards."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from sqlalchemy import Engine

from datasets_defs.core.errors import TransientError
from datasets_defs.core.faults import reached
from datasets_defs.spec.pairs import PairsSpec
from datasets_defs.store.artifacts import exists, file_sha256, read_batches, read_rows, write_bytes, write_file
from datasets_defs.store.takes import Take, finish_take, takes_of
from datasets_defs.store.work import work_folder
from training.pairs.alike import Alike, Prints
from training.pairs.caption_batch import captions_url
from training.pairs.content import Lost
from training.pairs.image_batch import NO_CAPTION, NO_IMAGE, images_url, pictures_url
from training.pairs.manifest import Row, batches_of, spec_of_take, take_url
from training.pairs.pictures import ShownPictures, histograms
from training.pairs.shards import Shards
from training.pairs.tables import Table
from training.pairs.tally import PairsTally

_OF_THE_IMAGE = ("format", "width", "height", "source_width", "source_height", "brightness", "contrast", "sharpness")
_OF_THE_CAPTION = ("caption", "language", "words")


@dataclass(frozen=True, slots=True)
class Joined:
    """What became of a take."""

    reason: str
    ring: str | None
    """Key of its event; None: nobody is woken."""


def join_batches(take: Take, db: Engine) -> Joined:
    """Write a take's shards, index, losses, report and pictures, and then that it is finished.

    Killed at any place it does the same again, with the same bytes. One that is finished is left as it is.

    Raises:
        TransientError: batches are missing, since their tasks failed; or PostgreSQL is away.
    """
    spec = spec_of_take(take)
    if take.finished_at is None:
        _require_batches(take)
        with work_folder("pairs") as folder:
            at_work = _Joining(take, spec, folder, db)
            at_work.run()
            report = at_work.conclude()
        reached("pairs.joined")
        index, sha256 = report["index"]["url"], report["index"]["sha256"]
        finish_take(db, take, kept=report["kept"], index=index, index_sha256=sha256)
        reached("pairs.finished")
    return _said(take, spec, read_report(take))


def report_url(take: Take) -> str:
    """Give the URL of a take's report."""
    return take_url(take, "report.json")


def read_report(take: Take) -> dict[str, Any]:
    """Read a take's report."""
    with fsspec.open(report_url(take), "rb") as file:
        report: dict[str, Any] = json.load(file)
    return report


def _said(take: Take, spec: PairsSpec, report: dict[str, Any]) -> Joined:
    """Say in one sentence what became of a take, and whom it wakes. Pure."""
    pairs, kept = report["pairs"], report["kept"]
    lost = {reason: count for stage in report["lost"].values() for reason, count in stage.items()}
    most = ", ".join(f"{count} {reason}" for reason, count in sorted(lost.items(), key=lambda item: -item[1])[:5])
    sentence = f"{take.ring}: {kept:,} of {pairs:,} pairs prepared" + (f"; lost: {most}" if most else "")
    if kept == 0:
        return Joined(f"{sentence}; nobody is woken", None)
    if pairs - kept > spec.max_lost_share * pairs:
        return Joined(f"{sentence}; more than {spec.max_lost_share:.0%} lost, so nobody is woken", None)
    return Joined(sentence, take.ring)


def _require_batches(take: Take) -> None:
    urls = [url(take, batch) for url in (images_url, captions_url) for batch in range(take.batches)]
    missing = [url for url in urls if not exists(url)]
    if missing:
        raise TransientError(
            f"{take.ring}: {len(missing)} of {len(urls)} batches are not prepared, {missing[0]} for one; their tasks "
            "failed, and the next run prepares them"
        )


class _Joining:
    """One join at work."""

    def __init__(self, take: Take, spec: PairsSpec, folder: Path, db: Engine) -> None:
        self.take, self.spec, self.folder, self.db = take, spec, folder, db
        self.tally, self.sample, self.alike = PairsTally(), ShownPictures(), Alike(spec)
        self.shards = Shards(take_url(take, "shards"), folder, spec)
        self.again: dict[str, int] = {}
        """Keys that an earlier take kept in another version, with that take's number."""

    def run(self) -> None:
        """Judge every pair, and write those that are kept."""
        self._remember()
        with ExitStack() as stack:
            self.index = stack.enter_context(Table(self.folder / "index.parquet", Table.INDEX))
            self.lost = stack.enter_context(Table(self.folder / "lost.parquet", Table.LOST))
            for batch, rows in batches_of(self.take):
                self._join_batch(batch, rows)
            self.shards.close()

    def conclude(self) -> dict[str, Any]:
        """Store the index under its hash, then the losses, the pictures and the report, and give the report."""
        sha256 = file_sha256(self.folder / "index.parquet")
        index = take_url(self.take, f"index-{sha256[:16]}.parquet")
        write_file(index, self.folder / "index.parquet")
        write_file(take_url(self.take, "lost.parquet"), self.folder / "lost.parquet")
        report = {
            "pairs_set": self.take.pairs_set,
            "take": self.take.number,
            **self.tally.plain(),
            "again": len(self.again),
            "shards": self.shards.files,
            "index": {"url": index, "sha256": sha256},
            "manifest": {"url": self.take.manifest, "sha256": self.take.manifest_sha256},
        }
        if self.tally.kept:
            write_bytes(take_url(self.take, "contact-sheet.jpg"), self.sample.sheet())
        write_bytes(take_url(self.take, "histograms.png"), histograms(report))
        write_bytes(report_url(self.take), json.dumps(report, indent=1).encode())
        return report

    def _remember(self) -> None:
        """Let pairs of earlier takes be found, but for earlier versions of this take's."""
        here = np.sort(np.array([_name(row["key"]) for _, rows in batches_of(self.take) for row in rows], dtype="u8"))
        columns = ("place", "key", "sha256", "picture_hash", "caption_hash")
        for earlier in takes_of(self.db, self.take.pairs_set):
            if earlier.number >= self.take.number or earlier.index is None:
                continue
            for rows in read_batches(earlier.index, columns=columns):
                for row in rows.to_pylist():
                    if _is_in(here, _name(row["key"])):
                        self.again[row["key"]] = earlier.number
                    else:
                        self.alike.keep(Prints.of(row), take=earlier.number, place=row["place"])

    def _join_batch(self, batch: int, rows: list[Row]) -> None:
        images, captions = (
            {fact["place"]: fact for fact in read_rows(url(self.take, batch))} for url in (images_url, captions_url)
        )
        system, path = fsspec.core.url_to_fs(pictures_url(self.take, batch))
        with system.open(path, "rb") as pictures:
            for row in rows:
                self._join(row, images[row["place"]], captions[row["place"]], pictures)

    def _join(self, row: Row, image: dict[str, Any], caption: dict[str, Any], pictures: Any) -> None:
        lost = list(_losses(image, caption))
        if not lost:
            prints = Prints.of(
                {"sha256": image["sha256"], "picture_hash": image["hash"], "caption_hash": caption["hash"]}
            )
            if (why := self.alike.judge(prints)) is None:
                self.alike.keep(prints, take=self.take.number, place=row["place"])
                self._keep(row, image, caption, pictures)
                return
            lost = [("duplicate", why)]
        self.tally.lose(lost[0][0], lost[0][1].reason)
        for stage, why in lost:
            self.lost.add({"key": row["key"], "stage": stage, "reason": why.reason, "detail": why.detail})

    def _keep(self, row: Row, image: dict[str, Any], caption: dict[str, Any], pictures: Any) -> None:
        pictures.seek(image["begin"])
        picture = pictures.read(image["end"] - image["begin"])
        key = f"{self.take.number:05}{row['place']:08}"
        about = {name: image[name] for name in _OF_THE_IMAGE} | {name: caption[name] for name in _OF_THE_CAPTION}
        about |= {"source": row["key"], "sha256": image["sha256"], "replaces": self.again.get(row["key"])}
        tokens = {"tokens": caption["tokens"]}
        notes = {"notes": [*image["notes"], *caption["notes"]]}
        shard = self.shards.add(key, picture, about | tokens | notes)
        hashes = {"picture_hash": image["hash"], "caption_hash": caption["hash"]}
        where = {"place": row["place"], "key": row["key"], "version": row["version"], "shard": shard, "sample": key}
        self.index.add({**where, **hashes, **{name: about[name] for name in (*_OF_THE_IMAGE, *_OF_THE_CAPTION)},
                        "sha256": image["sha256"], "replaces": about["replaces"]})  # fmt: skip
        self.tally.keep(image, caption)
        self.sample.offer(image["sha256"], picture)


def _losses(image: dict[str, Any], caption: dict[str, Any]) -> Iterator[tuple[str, Lost]]:
    """Give why a pair is lost by itself, the image's reason first; of a missing half only that it is missing."""
    for facts in (image, caption):
        if facts["lost"] in (NO_IMAGE, NO_CAPTION):
            yield "pair", Lost(facts["lost"], facts["detail"])
            return
    for stage, facts in (("image", image), ("caption", caption)):
        if facts["lost"] is not None:
            yield stage, Lost(facts["lost"], facts["detail"] or "")


def _name(key: str) -> int:
    import hashlib

    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=8).digest(), "big")


def _is_in(sorted_names: Any, name: int) -> bool:
    at = int(np.searchsorted(sorted_names, np.uint64(name)))
    return at < len(sorted_names) and int(sorted_names[at]) == name

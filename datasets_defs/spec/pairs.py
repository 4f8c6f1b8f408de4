"""The YAML of a set of pairs, `models/pairs/NAME.yaml`: images with captions that a model is trained on."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from datasets_defs.redaction.kinds import USUAL, Kind
from datasets_defs.spec.fields import Name, NamedFile, NonBlank, Section, Share

Format = Literal["jpeg", "png", "webp", "gif", "bmp", "tiff", "avif", "jpeg2000"]


class ImagesSpec(Section):
    """Which images are kept, and what they become."""

    formats: tuple[Format, ...] = ("jpeg", "png", "webp", "gif", "bmp", "tiff", "avif")
    """Formats that are opened, by content and not by ending; no other decoder ever sees a file."""
    max_bytes: int = Field(default=50_000_000, ge=1)
    """A larger file is not read."""
    max_pixels: int = Field(default=100_000_000, ge=1)
    """More pixels than this, by the file's own header, are not decoded: small files can unpack to gigabytes."""
    min_side: int = Field(default=64, ge=1)
    """Pixels of the shorter side; a smaller image says too little."""
    max_aspect: float = Field(default=5, ge=1)
    """Longer side by shorter side, at most: banners and strips are left out."""
    max_seconds: float = Field(default=30, gt=0)
    """Seconds that one image may take; then its decoder is ended and the image left out."""
    animated: Literal["first", "drop"] = "first"
    """Of files with several frames or pages the first is taken, or the file is left out."""
    transparency: Literal["white", "black", "drop"] = "white"
    """What is laid under transparent pixels; or such images are left out."""
    one_colour: bool = False
    """Whether images are kept that show one colour only."""
    unsafe: Literal["drop", "clean"] = "drop"
    """Files that carry scripts, archives or programs. `clean`: the picture alone is kept, which is encoded anew."""
    blocked: str | None = None
    """File (fsspec) with a SHA-256 per line: such files are left out, whoever's list it is."""
    near_bits: int | None = Field(default=4, ge=0, le=8)
    """Bits of 64 in which perceptual hashes of near duplicates differ at most; `null`: nobody looks."""
    resize: Literal["fit", "crop"] = "fit"
    """`fit`: the longer side becomes `size`, aspect kept; `crop`: a square of `size` from the middle."""
    size: int = Field(default=512, ge=16, le=8192)
    """Pixels; no image is ever enlarged: with `crop`, one that is smaller is left out."""
    encode: Literal["jpeg", "webp", "png"] = "jpeg"
    """Format of the prepared images: sRGB, 8 bits, upright, without metadata."""
    quality: int = Field(default=90, ge=1, le=100)
    """Of JPEG and WebP."""


class CaptionsSpec(Section):
    """Where captions come from, which are kept, and what they become."""

    source: Literal["txt", "json"] = "txt"
    """A file beside each image, of the same name: `.txt` (or `.caption`), or `.json` with the field `field`."""
    field: str = "caption"
    """Field of the `.json` that holds the caption."""
    min_words: int = Field(default=3, ge=1)
    """Words, or in scripts without spaces two letters for each."""
    max_characters: int = Field(default=2_000, ge=1)
    """A longer caption is taken for a mistake."""
    languages: tuple[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")], ...] | None = ()
    """ISO 639 codes that are kept, `und` for captions too short to tell; none: all are; `null`: nobody looks."""
    redact: tuple[Kind, ...] = USUAL
    """What is taken out of captions; `pii` needs `driftloop[pii]`."""
    personal: Literal["redact", "drop"] = "redact"
    """Whether a caption in which something was found is kept without it, or the pair left out."""
    blocked: tuple[NonBlank, ...] = ()
    """Phrases, in any case: a pair whose caption has one as whole words is left out."""
    copies: int | None = Field(default=20, ge=1)
    """Pairs that may share one caption, or nearly; `null`: nobody looks."""
    tokenizer: str = "bytes"
    """`bytes` (UTF-8, an id per byte), or a `tokenizer.json` as Hugging Face writes it."""
    max_tokens: int = Field(default=512, ge=1)
    """Token ids that are kept of a caption; the text itself stays whole."""


class ShardsSpec(Section):
    """The files that pairs are written to."""

    format: Literal["webdataset", "parquet"] = "webdataset"
    """`webdataset`: tar files with image, `.txt` and `.json` of each pair; `parquet`: a row for each."""
    pairs: int = Field(default=1_000, ge=1)
    """Pairs of one file."""


class PairsSpec(NamedFile):
    """A set of images with captions: where they come in, what is kept, and what is written."""

    name: Name
    """The file's name without its ending; part of URLs and of keys."""
    source: str
    """Folder that fsspec reads: a path, `s3://…`, `gs://…`. Folders in it are read, too."""
    settle_seconds: float = Field(default=60, ge=0)
    """A file that changed more recently may still be written to, and is left for later."""
    caption_seconds: float = Field(default=3_600, ge=0)
    """How long an image waits for its caption, and a caption for its image, before it is reported as lost."""
    min_pairs: int = Field(default=1, ge=1)
    """New pairs that wake the pipeline."""
    max_pairs: int = Field(default=100_000, ge=1)
    """Pairs that one take holds at most; the next take goes on."""
    batch_pairs: int = Field(default=500, ge=1)
    """Pairs of one mapped task, at least; a take has a hundred batches at most."""
    images: ImagesSpec = ImagesSpec()
    """Which images are kept, and what they become."""
    captions: CaptionsSpec = CaptionsSpec()
    """Where captions come from, which are kept, and what they become."""
    shards: ShardsSpec = ShardsSpec()
    """The files that pairs are written to."""
    max_lost_share: Share = 1.0
    """Share of a take that may be lost; with more its pairs are written and reported, and nobody is woken."""

    @model_validator(mode="after")
    def _croppable(self) -> Self:
        if self.images.encode == "png" and self.images.quality != ImagesSpec.model_fields["quality"].default:
            raise ValueError("images.quality is of JPEG and WebP; leave it out with `encode: png`")
        return self

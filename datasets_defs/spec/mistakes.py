"""What is wrong in a file that people wrote: field, mistake, what stood there, and what was probably meant. Pure."""

import unicodedata
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

_TAGS = ("FromScratch", "str", "constrained-str", "local", "torchrun", "kubernetes")
"""Parts of a place in pydantic's words that stand for a choice among types, and not for a field."""
_MOST_NAMES = 16
"""Names of fields that are listed; the file's first level has more."""
_EMPTY = "nothing stands there; fill it, or take the field out"


def sentences(err: ValidationError, kind: type[BaseModel]) -> str:
    """Give a sentence for each mistake in a file of a kind."""
    return "; ".join(f"field {_place(item['loc'])}: {_said(item, kind)}" for item in err.errors())


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location if part not in _TAGS) or "the file"


def _said(item: Mapping[str, Any], kind: type[BaseModel]) -> str:
    if item["type"] == "extra_forbidden":
        return _unknown(item["loc"], kind)
    if item["type"] == "missing":
        return str(item["msg"])
    if item["input"] is None:
        return f"{item['msg']} ({_EMPTY})"
    if item["type"] == "string_type" and isinstance(item["input"], (bool, int, float)):
        return f"{item['msg']} (found {item['input']!r}; put it in quotes)"
    if item["type"] in ("tuple_type", "list_type"):
        return f"a list is needed, as [a, b] (found {item['input']!r})"
    return f"{item['msg']} (found {item['input']!r})"


def _unknown(location: tuple[int | str, ...], kind: type[BaseModel]) -> str:
    """Say of a field that is not known what it probably should be called, or where it belongs."""
    name = str(location[-1])
    known = sorted({field for section in _kinds_at(kind, location) for field in section.model_fields})
    plain = unicodedata.normalize("NFKC", name).strip()
    odd = next((f"; its {mark!r} is {unicodedata.name(mark, 'no letter')}" for mark in name if mark > "~"), "")
    begun = [field for field in known if field.startswith(f"{_snake(plain)}_")]
    if near := get_close_matches(_snake(plain), known, n=1, cutoff=0.75) or begun:
        return f"no such field{odd}; did you mean `{near[0]}`?"
    if 0 < len(known) <= _MOST_NAMES:
        return f"no such field{odd}; there are {', '.join(known)}"
    sections = sorted({section for section, field in _paths(kind) if field == plain and section})
    return f"no such field here; it belongs in `{sections[0]}`" if len(sections) == 1 else f"no such field{odd}"


def _snake(name: str) -> str:
    """Give a name as ours are written: `minRows`, `min-rows` and `Min Rows` are `min_rows`."""
    apart = "".join(f"_{mark}" if mark.isupper() and before.islower() else mark for before, mark in _pairs(name))
    return apart.replace("-", "_").replace(" ", "_").lower()


def _pairs(name: str) -> Iterator[tuple[str, str]]:
    return zip(f" {name}", name, strict=False)


def _kinds_at(kind: type[BaseModel], location: tuple[int | str, ...]) -> set[type[BaseModel]]:
    """Find the sections in which the last part of a place stands."""
    sections = {kind}
    for part in location[:-1]:
        inner = {nested for section in sections for nested in _sections_in(section, part)}
        sections = inner or sections
    return sections


def _sections_in(section: type[BaseModel], part: int | str) -> Iterator[type[BaseModel]]:
    field = section.model_fields.get(str(part))
    return _models_of(field.annotation) if field is not None else iter(())


def _models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_of(inner)


def _paths(kind: type[BaseModel], section: str = "") -> Iterator[tuple[str, str]]:
    for name, field in kind.model_fields.items():
        yield section, name
        for inner in _models_of(field.annotation):
            yield from _paths(inner, f"{section}.{name}".lstrip("."))

"""What the code says in words (docstrings, errors, help) is written to be read, too."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasets_defs.core.settings import ROOT
from tests.docs.test_documents import MEAN_WORDS, MOST_WORDS, prose

PACKAGES = ("alerts", "dags", "datasets_defs", "monitors", "ops", "serving", "training")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def sources(package: str) -> list[Path]:
    """Give a package's modules, but for migrations, which are never edited."""
    return [path for path in sorted((ROOT / package).rglob("*.py")) if path.parent.name != "versions"]


def texts_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Give docstrings, those of attributes too, and the texts of errors and helps, each with its line."""
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED):
            for part in node.body:
                if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant):
                    yield part.lineno, str(part.value.value)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield from ((node.lineno, words) for argument in node.exc.args if (words := written(argument)))
        if isinstance(node, ast.keyword) and node.arg == "help":
            yield node.value.lineno, written(node.value)


def written(value: ast.expr) -> str:
    """Give a text as it is written in the code, each inserted value as one word."""
    if isinstance(value, ast.JoinedStr):
        return "".join(written(part) if isinstance(part, ast.Constant) else "value" for part in value.values)
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


def words(sentence: str) -> int:
    """Count the words of a sentence as `test_documents` does; what stands in brackets is a reference to a source."""
    return len(re.findall(r"[\w'-]+", re.sub(r"\([^()]*\d{4}[^()]*\)", "", sentence)))


@pytest.mark.parametrize("package", PACKAGES)
def test_sentences_are_short(package: str) -> None:
    """No sentence has more than 35 words but for the source it names in brackets; a package's mean is at most 18."""
    lengths = {
        f"{path.relative_to(ROOT)}:{line}: {sentence}": words(sentence)
        for path in sources(package)
        for line, text in texts_of(ast.parse(path.read_text()))
        for sentence in prose(text)
    }
    assert {sentence: count for sentence, count in lengths.items() if count > MOST_WORDS} == {}
    assert sum(lengths.values()) / len(lengths) <= MEAN_WORDS

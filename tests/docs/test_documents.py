"""What README and docs/ say is true where a machine can tell, and is written to be read."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from datasets_defs.core.incidents import Wake
from datasets_defs.core.settings import ROOT

README = ROOT / "README.md"
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "reference" not in path.parts)
MOST_WORDS, MEAN_WORDS = 35, 18


def prose(text: str) -> list[str]:
    """Give the sentences of a page: no code, no tables, no headings, no addresses; a list's item is one at least."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"^(#|\||--8<--|===).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    text = re.sub(r"`[^`]*`", "code", text)
    blocks = re.split(r"\n\s*\n|^\s*(?:[-*]|\d+\.) ", text, flags=re.MULTILINE)
    sentences = [sentence for block in blocks for sentence in re.split(r"(?<=[.!?:;])\s+", " ".join(block.split()))]
    return [sentence for sentence in sentences if re.search(r"\w", sentence)]


def test_readme_is_short():
    """A reader sees the whole README on a few screens."""
    assert len(README.read_text().splitlines()) <= 120


@pytest.mark.parametrize("path", [README, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_sentences_are_short(path: Path):
    """No sentence has more than 35 words, and a page's mean is at most 18."""
    lengths = {sentence: len(re.findall(r"[\w'-]+", sentence)) for sentence in prose(path.read_text())}
    assert {sentence: words for sentence, words in lengths.items() if words > MOST_WORDS} == {}
    assert sum(lengths.values()) / max(len(lengths), 1) <= MEAN_WORDS


def test_the_picture_shows_the_loop():
    """Every DAG stands in README by its name, and every Asset in the picture is one of the code's."""
    text = README.read_text()
    missing = [path.stem for path in (ROOT / "dags").glob("*.py") if not re.search(rf"\b{path.stem}\b", text)]
    assert missing == []
    assets = set(re.findall(r'"(\w+)"', (ROOT / "datasets_defs" / "assets.py").read_text())) | {
        wake.value for wake in Wake
    }
    drawn = set(re.findall(r"\b\w+_(?:drifted|degraded|pressure|requested|registered|accepted|changed)\b", text))
    assert len(drawn) >= 9
    assert drawn <= assets


def test_links_lead_somewhere():
    """Every link of README to a file of the repository is there."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_site_builds_strictly(tmp_path: Path):
    """MkDocs finds every page and every link."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "how-to" / "trainers" / "index.html").is_file()

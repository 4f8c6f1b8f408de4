"""What README and docs/ say is true where a machine can tell, and is written to be read."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from datasets_defs.core.settings import ROOT
from ops.reference.dag_files import asset_names, read_dags

README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
AT_THE_ROOT = [
    ROOT / name for name in ("README.md", "DESIGN.md", "CONTRIBUTING.md", "CHANGELOG.md", "alerts/runbook.md")
]
EVERY = [path for path in (*AT_THE_ROOT, *PAGES) if path.name != "CHANGELOG.md"]  # which is lists
MOST_WORDS, MEAN_WORDS = 35, 18


def prose(text: str) -> list[str]:
    """Give the sentences of a page: no code, no tables, no headings, no addresses; a list's item is one at least."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"^(#|\||--8<--|===).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    text = re.sub(r"`[^`]*`", "code", text)
    blocks = re.split(r"\n\s*\n|^\s*(?:[-*]|\d+\.) ", text, flags=re.MULTILINE)
    sentences = [sentence for block in blocks for sentence in re.split(r"(?<=[.!?])\s+", " ".join(block.split()))]
    return [sentence for sentence in sentences if re.search(r"\w", sentence)]


def test_readme_is_short():
    """A reader sees the whole README on a few screens."""
    assert len(README.read_text().splitlines()) <= 120


@pytest.mark.parametrize("path", EVERY, ids=lambda path: str(path.relative_to(ROOT)))
def test_sentences_are_short(path: Path):
    """No sentence has more than 35 words, and a page's mean is at most 18."""
    lengths = {sentence: len(re.findall(r"[\w'-]+", sentence)) for sentence in prose(path.read_text())}
    assert {sentence: words for sentence, words in lengths.items() if words > MOST_WORDS} == {}
    assert sum(lengths.values()) / max(len(lengths), 1) <= MEAN_WORDS


def test_the_picture_shows_the_loop():
    """README's picture and the lines below it name every DAG and every Asset, and no Asset that is none."""
    text = README.read_text()
    shown = text[text.index("```") : text.index("## Try it")]
    assert [dag.name for dag in read_dags() if not re.search(rf"\b{dag.name}\b", shown)] == []
    endings = "drifted|degraded|pressure|requested|registered|accepted|changed|due|published|prepared|completed"
    assert set(re.findall(rf"\b[a-z]+_(?:{endings})\b", shown)) == set(asset_names().values())


def anchors(path: Path) -> set[str]:
    """Give the anchors of a page's headings, as GitHub and MkDocs both make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@pytest.mark.parametrize("path", AT_THE_ROOT, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path):
    """Every link of a document outside docs/ leads to a file and its heading; MkDocs looks at those in docs/."""
    broken = []
    for file, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", path.read_text()):
        target = path.parent / file if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(f"{file}#{anchor}")
    assert broken == []


def test_every_decision_stands_in_a_wing():
    """DESIGN's decisions have numbers of their own, and each stands once in the list by wing, by its own title."""
    text = (ROOT / "DESIGN.md").read_text()
    titles = re.findall(r"^## (\d+\. .+)$", text, re.MULTILINE)
    assert [int(title.split(".")[0]) for title in titles] == list(range(1, len(titles) + 1))
    listed = re.findall(r"^    - \[(\d+\. .+)\]\(#", text, re.MULTILINE)
    assert sorted(listed) == sorted(titles)


def test_the_site_builds_strictly(tmp_path: Path):
    """MkDocs finds every page and every link, and draws the diagrams, so that a page loads nothing from elsewhere."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "how-to" / "trainers" / "index.html").is_file()
    for page in ("states", "dags"):
        drawn = (tmp_path / "site" / "reference" / page / "index.html").read_text()
        assert re.search(r"<figure[^>]*><svg .*>(escalated|triage_due)<", drawn, re.DOTALL)
        assert re.findall(r'(?:src|href)="(https?:[^"]+\.(?:js|css|woff2?))"', drawn) == []
        assert 'class="mermaid"' not in drawn  # for which the theme would load a script from the network

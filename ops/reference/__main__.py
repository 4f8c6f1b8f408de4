"""`python -m ops.reference`: write `docs/reference/` and `models/schema.json` anew from the code."""

from pathlib import Path

from datasets_defs.core.settings import ROOT
from ops.reference.pages import pages


def main() -> None:
    """Write each file whose content differs."""
    for name, content in pages().items():
        path = Path(ROOT / name)
        if not path.is_file() or path.read_text(encoding="utf-8") != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()

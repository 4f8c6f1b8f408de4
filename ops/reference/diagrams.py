"""Draws the diagrams of docs/ while the site is built, so that a page loads no script from elsewhere.

The only file that imports merm. GitHub draws the same sources by itself.
"""

from typing import Any


def svg(source: str, _language: str, _css_class: str, _options: Any, _md: Any, **_more: Any) -> str:
    """Give a Mermaid source as SVG within HTML; pymdownx.superfences calls this for each fence named `mermaid`."""
    from merm import render_diagram

    drawn = str(render_diagram(source)).replace("background-color: white", "background-color: white; max-width: 100%")
    return f'<figure role="img" aria-label="diagram">{drawn}</figure>'

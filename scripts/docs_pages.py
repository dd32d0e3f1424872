"""Hook of mkdocs: the documents at the root of the repository are pages, too.

They stay where people and hosting sites look for them, with links that work there; for the pages,
the links are made those of the pages.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "MODEL_CARD.md": "model-card.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "licence.md",
    "CITATION.cff": "citation.md",
}
"""Document at the root -> page."""


def on_files(files: Files, config: Any) -> Files:
    """Add the root's documents to the pages."""
    root = Path(config.config_file_path).parent
    for document, page in PAGES.items():
        text = (root / document).read_text(encoding="utf-8")
        if document.endswith(".cff"):
            text = f"# How to cite\n\n```yaml\n{text}```\n"
        text = re.sub(r"\]\(docs/", "](", text)
        files.append(File.generated(config, page, content=_to_pages(text, "")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Turn a page's links to the root's documents into links to their pages."""
    return _to_pages(markdown, "../")


def _to_pages(text: str, way: str) -> str:
    for document, page in PAGES.items():
        text = re.sub(rf"\]\({re.escape(way + document)}(?=[)#])", f"]({page}", text)
    return text

"""The documents: they say what is there, and what they show runs."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import yaml

import napari_usgseg as us
from napari_usgseg.core.types import LabelClass
from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.io.labels import write_png
from napari_usgseg.phantoms.phantom import make_phantom
from tests.support.labelling import accept_labels, set_classes

ROOT = Path(__file__).resolve().parent.parent
API_PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def test_the_map_shows_the_tree_as_it_is():
    words = [sys.executable, str(ROOT / "scripts" / "map.py"), "--check"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_the_page_of_the_api_shows_runs(tmp_path, monkeypatch, capsys):
    nerve = make_phantom(3)
    write_png(tmp_path / "scan.png", nerve.image)
    write_png(tmp_path / "scans" / "a.png", nerve.image)
    with closing(us.Project(tmp_path / "scans")) as project:
        set_classes(project, (LabelClass(1, "nerve", "#ff0000"),))
        accept_labels(project, project.records[0], (nerve.labels == 1).astype(np.uint8))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", API_PAGE, re.MULTILINE | re.DOTALL):
        exec(block, names)
    said = capsys.readouterr().out
    assert "nerve 0.9" in said
    assert "(384, 512) and ('a',)" in said
    assert "a {1: 'nerve'} 1" in said
    assert len(read_dataset(tmp_path / "dataset").items) == 1


def test_the_page_of_the_api_describes_every_public_name():
    assert [name for name in us.__all__ if f"::: napari_usgseg.{name}\n" not in API_PAGE] == []


def test_the_documents_build_without_a_fault_and_fetch_nothing(tmp_path):
    pytest.importorskip("mkdocs")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.html")}
    assert {"index.html", "api.html", "architecture.html", "extending.html"} <= set(pages)
    assert "segment_prompts" in pages["api.html"]
    fetched = re.compile(
        r"<(?:script|img|iframe)[^>]+src=\"https?:|<link[^>]+stylesheet[^>]+https?:"
    )
    assert [name for name, text in pages.items() if fetched.search(text)] == []


@pytest.mark.parametrize("document", sorted(p.name for p in (ROOT / "docs").glob("*.md")))
def test_links_of_a_page_lead_somewhere(document):
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", text)
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_the_files_for_hosting_sites_can_be_read_and_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == us.__version__
    assert {entry["url"] for entry in citation["references"]} == {
        "https://arxiv.org/abs/2506.23903",
        "https://arxiv.org/abs/2409.06821",
    }
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert set(workflow["jobs"]) == {"lint", "test", "wheel", "docs"}
    for form in ("bug", "feature"):
        text = (ROOT / ".github" / "ISSUE_TEMPLATE" / f"{form}.yml").read_text(encoding="utf-8")
        assert yaml.safe_load(text)["body"]
        assert "usgseg info" in text
        assert "no image of a patient" in text
    assert (ROOT / ".napari-hub" / "DESCRIPTION.md").is_file()

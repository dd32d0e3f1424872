from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections import deque
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.annotation.session import AnnotationSession
from napari_usgseg.annotation.settings import Settings
from napari_usgseg.jobs import Lane
from napari_usgseg.jobs.files import run_file_job
from napari_usgseg.jobs.loaded_models import LoadedModels
from napari_usgseg.phantoms.phantom import make_phantom

PHANTOMS = {"fetal-head": (1, 2), "nerve": (3,)}


class Desk:
    """A session with the embedded models, whose jobs are done in turn."""

    def __init__(self, folder: Path, annotator: str = "") -> None:
        self.session = AnnotationSession(Settings(weak_proposals=False))
        self.session.requested.connect(lambda job: self.waiting.append(job))
        self.waiting: deque = deque()
        self.models = LoadedModels()
        self.session.navigation.open_folder(folder, annotator=annotator)
        self.settle()

    def settle(self) -> None:
        while self.waiting:
            job = self.waiting.popleft()
            if job.lane is Lane.FILES:
                job.receive(run_file_job(job))
            else:
                job.receive(self.models.run(job.function, *job.args, lane=job.lane))

    def find(self, phrase: str) -> None:
        self.session.prompting.find(phrase)
        self.settle()

    def click(self, truth: np.ndarray) -> None:
        rows, columns = np.nonzero(truth)
        self.session.prompting.add_point(float(columns.mean()), float(rows.mean()))
        self.settle()

    def paint(self, mask: np.ndarray) -> None:
        self.session.editing.painted(np.where(mask, 1, self.session.labels).astype(np.uint8))
        self.settle()

    def accept(self) -> None:
        assert self.session.editing.accept()
        self.settle()

    def go(self, image_id: str) -> None:
        self.session.navigation.open_image(image_id)
        self.settle()

    def close(self) -> None:
        self.session.close()
        self.settle()


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """Three phantoms in a folder, and the truth of each."""
    folder = tmp_path_factory.mktemp("project") / "scans"
    folder.mkdir()
    truth = {}
    for kind, seeds in PHANTOMS.items():
        for seed in seeds:
            phantom = make_phantom(seed, kind=kind)
            name = f"{kind} <{seed}>"
            Image.fromarray(phantom.image).save(folder / f"{name}.png")
            truth[name] = phantom.labels == 1
    return folder, truth


@pytest.fixture(scope="module")
def labelled(phantoms: tuple[Path, dict[str, np.ndarray]]) -> Path:
    """One image by a phrase, one by a phrase and a brush, one by a click; one by another person."""
    folder, truth = phantoms
    desk = Desk(folder)
    first, second, third = truth
    desk.go(first)
    desk.find("fetal head")
    desk.accept()
    desk.go(second)
    desk.accept()  # found as it opened
    added = np.zeros_like(truth[second])
    added[:60, :60] = True
    desk.paint(added)
    desk.go(third)
    desk.session.prompting.clear_prompts()
    desk.click(truth[third])
    desk.accept()
    desk.close()
    other = Desk(folder, "Ann")
    other.go(third)
    other.session.prompting.clear_prompts()
    other.paint(truth[third])
    other.accept()
    other.close()
    return folder


class Page(HTMLParser):
    """The text of a page, its pictures, and every address in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.pictures, self.addresses = "", 0, []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.pictures += tag in ("img", "svg")
        self.addresses += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_project_that_was_labelled_is_reported(usgseg, labelled: Path, tmp_path: Path) -> None:
    done = usgseg("report", labelled, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert "images accepted" in done.out
    rows = {
        (row["image_id"], row["annotator"]): row for row in rows_of(tmp_path / "out/images.csv")
    }
    first, second = rows["fetal-head <1>", ""], rows["fetal-head <2>", ""]
    third, others = rows["nerve <3>", ""], rows["nerve <3>", "Ann"]
    assert (first["way"], first["dice"], first["phrases"]) == ("unchanged", "1.0000", "fetal head")
    assert first["first_proposal"] == "phrase: nano + nano"
    assert second["way"] == "changed"
    assert 0.5 < float(second["dice"]) < 1.0
    assert float(second["hd95_px"]) > 0
    assert third["click"] == "1"
    assert (others["way"], others["click"], others["state"]) == ("by hand", "0", "committed")
    assert all(float(row["active_s"]) > 0 for row in rows.values())
    assert float(first["waited_s"]) > 0


def test_the_tables_of_a_golden_project_are_those_that_an_earlier_version_wrote(
    usgseg, tmp_path: Path
) -> None:
    golden = Path(__file__).parents[1] / "golden" / "files"
    project = shutil.copytree(golden / "scans", tmp_path / "scans")
    assert usgseg("report", project, "--out", tmp_path / "out").code == 0
    for name in ("images", "models", "phrases"):
        written = (tmp_path / "out" / f"{name}.csv").read_bytes()
        assert written == (golden / "report" / f"{name}.csv").read_bytes(), name


@pytest.mark.parametrize("words", ["--help", "report --help"])
def test_help_loads_no_tables_plots_or_templates(words: str) -> None:
    heavy = {"pandas", "matplotlib", "jinja2"}
    script = (
        "import sys; from napari_usgseg.cli.main import run; "
        f"run({words.split()!r}); print(*({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.strip() == ""


def test_the_page_needs_nothing_from_elsewhere(usgseg, labelled: Path, tmp_path: Path) -> None:
    usgseg("report", labelled, "--out", tmp_path)
    text = (tmp_path / "index.html").read_text("utf-8")
    page = Page(text)
    assert page.pictures >= 3
    assert page.addresses
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert "<script" not in text
    assert "fetal-head <2>" in page.text  # a name is text, never markup
    assert "fetal head" in page.text


def test_one_annotator_alone_can_be_reported(usgseg, labelled: Path, tmp_path: Path) -> None:
    assert usgseg("report", labelled, "--out", tmp_path, "--annotator", "Ann").code == 0
    assert {row["annotator"] for row in rows_of(tmp_path / "images.csv")} == {"Ann"}


def test_an_unknown_annotator_is_refused(usgseg, labelled: Path, tmp_path: Path) -> None:
    done = usgseg("report", labelled, "--out", tmp_path / "out", "--annotator", "Bob")
    assert done.code == 1
    assert done.err_lines == [line for line in done.err_lines if "Ann" in line]
    assert not (tmp_path / "out").exists()


def test_that_nobody_labelled_a_folder_is_said(usgseg, images: Path, tmp_path: Path) -> None:
    done = usgseg("report", images, "--out", tmp_path / "out")
    assert done.code == 0
    assert "nothing is recorded" in done.out
    assert "Nothing is recorded yet" in (tmp_path / "out/index.html").read_text("utf-8")
    assert rows_of(tmp_path / "out/images.csv") == []
    assert not (images / "usgseg").exists()


def test_a_report_can_be_written_while_somebody_is_labelling(
    usgseg, labelled: Path, tmp_path: Path
) -> None:
    desk = Desk(labelled)
    try:
        assert usgseg("report", labelled, "--out", tmp_path).code == 0
        desk.paint(np.zeros_like(desk.session.labels, dtype=bool) | True)
        assert desk.session.failure == ""
    finally:
        desk.session.undo()
        desk.settle()
        desk.close()


def test_an_image_that_is_gone_is_named_and_the_rest_is_reported(
    usgseg, labelled: Path, tmp_path: Path
) -> None:
    image = labelled / "fetal-head <2>.png"
    kept = image.read_bytes()
    image.unlink()
    try:
        done = usgseg("report", labelled, "--out", tmp_path)
    finally:
        image.write_bytes(kept)
    assert done.code == 0
    rows = [row for row in rows_of(tmp_path / "images.csv") if row["annotator"] == ""]
    assert [row["state"] for row in rows] == ["committed"] * 3
    assert [row["dice"] != "" for row in rows] == [True, False, True]

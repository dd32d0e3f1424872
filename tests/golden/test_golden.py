"""Projects, models and results as commit 07c8e0a wrote them; every later version opens them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import deque
from pathlib import Path

import numpy as np
import pytest

from napari_usgseg.annotation.session import AnnotationSession
from napari_usgseg.annotation.settings import Settings
from napari_usgseg.cli.main import run
from napari_usgseg.io.datasets import read_dataset, read_pair
from napari_usgseg.io.labels import read_labels
from napari_usgseg.jobs import Lane
from napari_usgseg.jobs.files import run_file_job
from napari_usgseg.jobs.loaded_models import LoadedModels
from napari_usgseg.project.project import Project

HERE = Path(__file__).parent
EXPECTED = json.loads((HERE / "expected.json").read_text())


@pytest.fixture
def files(tmp_path) -> Path:
    """A copy of what that version wrote."""
    return Path(shutil.copytree(HERE / "files", tmp_path / "files"))


class Desk:
    """A session whose jobs are done in turn."""

    def __init__(self, folder: Path, annotator: str = "") -> None:
        self.session = AnnotationSession(Settings(weak_proposals=False))
        self.waiting: deque = deque()
        self.session.requested.connect(lambda job: self.waiting.append(job))
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

    def seen(self) -> dict[str, object]:
        session = self.session
        masks = [
            item.proposal.mask for item in session.proposal.objects if item.proposal is not None
        ]
        return {
            "image": session.record.image_id,
            "labels": digest(session.labels),
            "objects": len(session.proposal.objects),
            "proposed": int(sum(mask.sum() for mask in masks)),
            "state": session.state_of(session.record.image_id).value,
        }

    def travel(self, step) -> list[dict[str, object]]:
        """What is seen after each step, until there is none."""
        way = []
        while True:
            before = self.session.undo_stack.position
            step()
            self.settle()
            if self.session.undo_stack.position == before:
                return way
            way.append(self.seen())


def digest(labels: np.ndarray) -> str:
    text = str(labels.shape).encode() + labels.astype("<u2").tobytes()
    return hashlib.sha256(text).hexdigest()[:16]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_project_shows_the_same_labels_proposals_and_states_and_undoes_every_step(files, name):
    folder, _, annotator = name.partition("/")
    wanted = EXPECTED[name]
    desk = Desk(files / folder, annotator)
    session = desk.session
    assert [[c.class_id, c.name, c.color] for c in session.table.classes] == wanted["classes"]
    assert session.settings.labelling == wanted["labelling"]
    images = {}
    for record in session.image_queue.records:
        session.navigation.open_image(record.image_id)
        desk.settle()
        images[record.image_id] = {k: v for k, v in desk.seen().items() if k != "image"}
    assert images == wanted["images"]
    assert desk.travel(session.undo) == wanted["undone"]
    desk.travel(session.redo)
    assert [desk.seen()] == wanted["after_redo"]
    session.close()
    desk.settle()


def test_an_export_of_the_project_has_the_labels_that_the_former_export_has(files, tmp_path):
    for project, export in (("scans", "export"), ("objects", "export-objects")):
        out = tmp_path / export
        assert run(["export", str(files / project), "--out", str(out), "--organ", "phantom"]) == 0
        former, now = read_dataset(files / export), read_dataset(out)
        assert now.labels == former.labels
        assert [item.item_id for item in now.items] == [item.item_id for item in former.items]
        for one, other in zip(former.items, now.items, strict=True):
            for before, after in zip(read_pair(one), read_pair(other), strict=True):
                assert np.array_equal(before, after)


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ("box.json", ["--prompt", "box"]),
        ("ppn.json", ["--prompt", "ppn", "--ppn", "{}/ppn", "--include-trained"]),
        ("lora.json", ["--prompt", "text", "--adapter", "{}/lora"]),
    ],
)
def test_the_embedded_models_a_prompt_predictor_and_an_adapter_score_as_before(
    files, tmp_path, report, words
):
    out = tmp_path / report
    words = [word.format(files) for word in words]
    assert run(["evaluate", str(files / "data"), *words, "--per-image", "--json", str(out)]) == 0
    before, now = (json.loads(path.read_text()) for path in (files / report, out))
    for name, entry in before["datasets"].items():
        for one, other in zip(entry["per_image"], now["datasets"][name]["per_image"], strict=True):
            assert one["id"] == other["id"]
            assert one["dice"] == pytest.approx(other["dice"], abs=2e-3)


def test_a_folder_of_label_maps_is_gone_on_with_and_none_is_written_over(files, capsys):
    before = {path: path.read_bytes() for path in (files / "run").rglob("*.png")}
    maps = [path for path in before if path.parent.name == "run"]
    words = ["segment", str(files / "scans"), "--text", "fetal head", "--out", str(files / "run")]
    assert run([*words, "--overlay"]) in (0, 3)
    assert {path: path.read_bytes() for path in before} == before
    assert all(read_labels(path).shape == (96, 128) for path in maps)


def test_the_history_of_both_annotators_is_read(files):
    store = Project(files / "scans", write=False)
    events = list(store.events())
    assert {"edit", "answer", "undo", "redo", "search", "open", "leave"} <= {
        event.kind.value for event in events
    }
    assert {event.annotator for event in events} == {"", "Ann"}
    assert store.annotators() == ("", "Ann")
    store.close()

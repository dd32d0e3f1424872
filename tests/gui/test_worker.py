"""The window's side of the workers: nothing owed is forgotten, whatever becomes of the process."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.core.types import Prompts
from napari_usgseg.gui.qt_jobs import FileWorker, InferenceWorker
from napari_usgseg.io.images import content_key
from napari_usgseg.io.labels import read_labels
from napari_usgseg.jobs.engine import KEPT_IMAGES
from napari_usgseg.jobs.requests import (
    EmbedRequest,
    ImageSource,
    LoadRequest,
    OpenFolderRequest,
    Priority,
    PromptRequest,
    SaveRequest,
)
from napari_usgseg.models.embedding_cache import CachePlace
from napari_usgseg.project.project import ProjectStore
from napari_usgseg.project.records import (
    Draft,
    DraftObject,
    Edit,
    Event,
    EventKind,
    ImageState,
    difference,
)
from napari_usgseg.segmentation.postprocess import PostprocessSettings
from napari_usgseg.segmentation.propose import Proposal

pytestmark = pytest.mark.gui
WAIT_MS = 120_000
CLICK = Prompts(np.array([[30, 20]], np.float32), np.ones(1, np.int32))


class Desk:
    """Asks a worker and keeps what comes back."""

    def __init__(self, worker, qtbot) -> None:
        self.worker, self.qtbot = worker, qtbot
        self.answers = {}
        worker.answered.connect(self._on_answer)

    def _on_answer(self, answer) -> None:
        self.answers[answer.generation] = answer

    def ask(self, *requests):
        for request in requests:
            self.worker.submit(request)
        wanted = {request.generation for request in requests}
        self.qtbot.waitUntil(lambda: wanted <= set(self.answers), timeout=WAIT_MS)
        return [self.answers[request.generation] for request in requests]


@pytest.fixture(scope="module")
def own_worker(qapp):
    """A worker of this module's, for its process is killed here."""
    worker = InferenceWorker()
    yield worker
    worker.close()


@pytest.fixture
def desk(own_worker, qtbot):
    desk = Desk(own_worker, qtbot)
    yield desk
    own_worker.answered.disconnect(desk._on_answer)


def source(seed: int, place: CachePlace | None = None) -> ImageSource:
    image = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), np.uint8)
    return ImageSource(content_key(image), image, place)


def click(generation: int, of: ImageSource) -> PromptRequest:
    return PromptRequest(generation, of, "nano", CLICK, PostprocessSettings())


def test_a_click_comes_back_as_a_mask_of_the_images_size(desk):
    (answer,) = desk.ask(click(1, source(1)))
    assert answer.error == ""
    assert answer.proposals[0].mask.shape == (60, 80)
    assert answer.model_id.startswith("nano-")


def test_pixels_go_over_once_and_again_when_the_process_has_forgotten_them(desk):
    images = [source(seed) for seed in range(10, 12 + KEPT_IMAGES)]
    requests = [EmbedRequest(100 + n, image, "nano") for n, image in enumerate(images)]
    for request in requests:
        desk.ask(request)
    without = desk.worker._without_known_pixels(click(0, images[-1]))
    assert without.source.pixels is None
    (first_again,) = desk.ask(click(200, images[0]))
    assert first_again.proposals


def test_a_process_that_forgot_an_image_is_sent_its_pixels_without_the_session_knowing(desk):
    image = source(30)
    desk.worker._sent[image.key] = None  # as if it had been sent, and then been pushed out
    (answer,) = desk.ask(click(300, image))
    assert answer.proposals
    assert not answer.missing_image


def test_a_killed_process_owes_nobody_an_answer_and_the_next_request_starts_another(desk):
    desk.ask(click(400, source(40)))
    before = desk.worker.process_id
    os.kill(before, getattr(signal, "SIGKILL", signal.SIGTERM))
    desk.worker.submit(click(401, source(40)))
    desk.qtbot.waitUntil(lambda: desk.worker.is_idle, timeout=WAIT_MS)
    (answer,) = desk.ask(click(402, source(40)))
    assert answer.proposals
    assert desk.worker.process_id not in (None, before)


def test_what_a_new_process_owes_does_not_fail_with_the_old_one(desk, monkeypatch):
    desk.ask(click(450, source(45)))
    worker, old = desk.worker, desk.worker._process
    late, told = threading.Event(), type(worker)._fail_all

    def fail_all(self, *args):
        assert late.wait(WAIT_MS / 1000)
        told(self, *args)

    monkeypatch.setattr(type(worker), "_fail_all", fail_all)  # the old one's receiver is slow
    old.kill()
    old.wait()
    worker.submit(click(451, source(45)))
    desk.qtbot.waitUntil(
        lambda: 451 in worker._owed and worker._process is not old, timeout=WAIT_MS
    )
    late.set()
    desk.qtbot.waitUntil(lambda: 451 in desk.answers, timeout=WAIT_MS)
    assert desk.answers[451].error == ""
    assert desk.answers[451].proposals


def test_a_new_process_takes_from_the_disk_what_the_old_one_encoded(desk, tmp_path):
    image = source(50, CachePlace(tmp_path))
    desk.ask(EmbedRequest(500, image, "nano", Priority.PREFETCH))
    desk.qtbot.waitUntil(lambda: bool(list(tmp_path.rglob("*.safetensors"))), timeout=WAIT_MS)
    (file,) = tmp_path.rglob("*.safetensors")
    os.utime(file, (1000, 1000))
    os.kill(desk.worker.process_id, getattr(signal, "SIGKILL", signal.SIGTERM))
    desk.qtbot.waitUntil(lambda: desk.worker.process_id is None, timeout=WAIT_MS)
    (answer,) = desk.ask(click(501, replace(image, pixels=None)))
    assert answer.proposals, "without any pixels, so from the file"
    assert file.stat().st_mtime > 1000, "and the file is marked as used"


def test_a_closed_worker_has_ended_its_process(qtbot):
    worker = InferenceWorker()
    Desk(worker, qtbot).ask(EmbedRequest(1, source(1), "nano"))
    process = worker._process
    worker.close()
    assert process.poll() is not None
    worker.close()


def test_the_file_worker_finishes_what_is_queued_before_it_ends(qtbot, tmp_path):
    files, answers = FileWorker(), []
    files.answered.connect(answers.append)
    for generation in range(5):
        files.submit(OpenFolderRequest(generation, tmp_path / "nowhere"))
    files.close()
    qtbot.waitUntil(lambda: len(answers) == 5, timeout=WAIT_MS)
    assert [answer.generation for answer in answers] == list(range(5))
    assert all("no such folder" in answer.error for answer in answers)


def test_a_damaged_part_of_a_project_is_an_error_and_what_waits_is_still_saved(qtbot, tmp_path):
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "a.png")
    store = ProjectStore(tmp_path)
    record = store.records[0]
    proposal = Proposal(np.ones((20, 30), bool), np.zeros(4, np.float32), 0.9, "", 0.9)
    draft = Draft((DraftObject(1, CLICK, proposal),), 0)
    patch = difference(np.zeros((20, 30), np.uint8), np.ones((20, 30), np.uint8))
    store.record((Event(1, EventKind.EDIT, "a", Edit("click", "a", (Draft(), draft))),))
    store.close()
    with sqlite3.connect(tmp_path / "usgseg" / "project.sqlite") as database:
        for (name,) in database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'blob'"
        ).fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute("UPDATE blob SET data = substr(data, 1, 8)")
    database.close()
    store = ProjectStore(tmp_path)
    files = FileWorker()
    desk = Desk(files, qtbot)
    states = (ImageState.UNTOUCHED, ImageState.COMMITTED)
    edit = Edit("paint", "a", None, patch, states)
    load, save = desk.ask(
        LoadRequest(1, store, record),
        SaveRequest(2, store, (Event(2, EventKind.EDIT, "a", edit),), True),
    )
    assert load.error
    assert save.error == ""
    assert (read_labels(tmp_path / "usgseg" / "labels" / "a.png") == 1).all()
    files.close()
    store.close()

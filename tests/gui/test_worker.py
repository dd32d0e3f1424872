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
from napari_usgseg.io.images import content_key
from napari_usgseg.io.labels import read_labels
from napari_usgseg.jobs import Job, Jobs, Lane, Outcome, Scope
from napari_usgseg.jobs.files import FileThread, load_image, open_folder, save
from napari_usgseg.jobs.inference import embed, segment_prompt
from napari_usgseg.jobs.inference_process import InferenceProcess
from napari_usgseg.jobs.loaded_models import KEPT_IMAGES, ImageSource
from napari_usgseg.models.embedding_cache import CachePlace
from napari_usgseg.project.project import Project
from napari_usgseg.project.records import (
    Edit,
    Event,
    EventKind,
    ImageProposal,
    ImageState,
    ProposedObject,
    difference,
)
from napari_usgseg.segmentation.postprocess import PostprocessSettings
from napari_usgseg.segmentation.propose import Proposal

pytestmark = pytest.mark.gui
WAIT_MS = 120_000
CLICK = Prompts(np.array([[30, 20]], np.float32), np.ones(1, np.int32))


class Desk:
    """Has jobs done by a runner and keeps what comes back."""

    def __init__(self, runner, qtbot) -> None:
        self.runner, self.qtbot = runner, qtbot
        self.outcomes: dict[Job, Outcome] = {}
        cancel = getattr(runner, "cancel", lambda job: None)
        self.jobs = Jobs(lambda job: runner.submit(job, self._keep(job)), cancel)

    def _keep(self, job: Job):
        return lambda outcome: self.outcomes.setdefault(job, outcome)

    def submit(self, function, *args, lane: Lane, **how) -> Job:
        return self.jobs.submit(function, *args, lane=lane, **how)

    def wait(self, *jobs: Job) -> list[Outcome]:
        self.qtbot.waitUntil(lambda: all(job in self.outcomes for job in jobs), timeout=WAIT_MS)
        return [self.outcomes[job] for job in jobs]

    def start_click(self, of: ImageSource) -> Job:
        args = of, "nano", CLICK, PostprocessSettings()
        return self.submit(segment_prompt, *args, lane=Lane.CLICKS, scope=Scope.PROPOSAL)

    def click(self, of: ImageSource) -> Outcome:
        (outcome,) = self.wait(self.start_click(of))
        return outcome

    def encode(self, of: ImageSource, lane: Lane = Lane.CLICKS) -> None:
        (outcome,) = self.wait(self.submit(embed, of, "nano", lane=lane))
        assert outcome.error == ""


@pytest.fixture(scope="module")
def own_process(qapp):
    """A runner of this module's, for its process is killed here."""
    runner = InferenceProcess()
    yield runner
    runner.close()


@pytest.fixture
def desk(own_process, qtbot):
    return Desk(own_process, qtbot)


def source(seed: int, place: CachePlace | None = None) -> ImageSource:
    image = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), np.uint8)
    return ImageSource(content_key(image), image, place)


def kill(process_id: int) -> None:
    os.kill(process_id, getattr(signal, "SIGKILL", signal.SIGTERM))


def test_a_click_comes_back_as_a_mask_of_the_images_size(desk):
    outcome = desk.click(source(1))
    assert outcome.error == ""
    assert outcome.result.proposals[0].mask.shape == (60, 80)
    assert outcome.result.model_id.startswith("nano-")


def test_pixels_go_over_once_and_again_when_the_process_has_forgotten_them(desk):
    images = [source(seed) for seed in range(10, 12 + KEPT_IMAGES)]
    for image in images:
        desk.encode(image)
    assert desk.runner._without_known_pixels(images[-1]).pixels is None
    assert desk.click(images[0]).result.proposals


def test_a_process_that_forgot_an_image_is_sent_its_pixels_without_the_session_knowing(desk):
    image = source(30)
    desk.runner._sent[image.key] = None  # as if it had been sent, and then been pushed out
    assert desk.click(image).result.proposals


def test_a_job_that_is_dropped_while_it_waits_is_not_done(desk):
    desk.encode(source(35))
    jobs = [desk.start_click(source(35)) for _ in range(20)]
    desk.jobs.cancel(Scope.PROPOSAL)
    desk.qtbot.waitUntil(lambda: desk.runner.is_idle, timeout=WAIT_MS)
    assert len([job for job in jobs if job in desk.outcomes]) < 20
    assert desk.click(source(35)).result.proposals


def test_a_killed_process_owes_nobody_an_answer_and_the_next_request_starts_another(desk):
    desk.click(source(40))
    before = desk.runner.process_id
    kill(before)
    desk.start_click(source(40))
    desk.qtbot.waitUntil(lambda: desk.runner.is_idle, timeout=WAIT_MS)
    assert desk.click(source(40)).result.proposals
    assert desk.runner.process_id not in (None, before)


def test_what_a_new_process_owes_does_not_fail_with_the_old_one(desk, monkeypatch):
    desk.click(source(45))
    runner, old = desk.runner, desk.runner._process
    late, told = threading.Event(), type(runner)._fail_all

    def fail_all(self, *args):
        assert late.wait(WAIT_MS / 1000)
        told(self, *args)

    monkeypatch.setattr(type(runner), "_fail_all", fail_all)  # the old one's receiver is slow
    old.kill()
    old.wait()
    job = desk.start_click(source(45))
    desk.qtbot.waitUntil(lambda: runner._process is not old, timeout=WAIT_MS)
    late.set()
    (outcome,) = desk.wait(job)
    assert outcome.error == ""
    assert outcome.result.proposals


def test_a_new_process_takes_from_the_disk_what_the_old_one_encoded(desk, tmp_path):
    image = source(50, CachePlace(tmp_path))
    desk.encode(image, Lane.PREFETCH)
    desk.qtbot.waitUntil(lambda: bool(list(tmp_path.rglob("*.safetensors"))), timeout=WAIT_MS)
    (file,) = tmp_path.rglob("*.safetensors")
    os.utime(file, (1000, 1000))
    kill(desk.runner.process_id)
    desk.qtbot.waitUntil(lambda: desk.runner.process_id is None, timeout=WAIT_MS)
    outcome = desk.click(replace(image, pixels=None))
    assert outcome.result.proposals, "without any pixels, so from the file"
    assert file.stat().st_mtime > 1000, "and the file is marked as used"


def test_a_closed_runner_has_ended_its_process(qtbot):
    runner = InferenceProcess()
    Desk(runner, qtbot).encode(source(1))
    process = runner._process
    runner.close()
    assert process.poll() is not None
    runner.close()


def test_the_file_thread_finishes_what_is_queued_before_it_ends(qtbot, tmp_path):
    files = FileThread()
    desk = Desk(files, qtbot)
    jobs = [desk.submit(open_folder, tmp_path / "nowhere", lane=Lane.FILES) for _ in range(5)]
    files.close()
    assert list(desk.outcomes) == jobs
    assert all("no such folder" in outcome.error for outcome in desk.outcomes.values())


def test_a_damaged_part_of_a_project_is_an_error_and_what_waits_is_still_saved(qtbot, tmp_path):
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "a.png")
    store = Project(tmp_path)
    record = store.records[0]
    answer = Proposal(np.ones((20, 30), bool), np.zeros(4, np.float32), 0.9, "", 0.9)
    proposal = ImageProposal((ProposedObject(1, CLICK, answer),), 0)
    patch = difference(np.zeros((20, 30), np.uint8), np.ones((20, 30), np.uint8))
    store.record((Event(1, EventKind.EDIT, "a", Edit("click", "a", (ImageProposal(), proposal))),))
    store.close()
    with sqlite3.connect(tmp_path / "usgseg" / "project.sqlite") as database:
        for (name,) in database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'blob'"
        ).fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute("UPDATE blob SET data = substr(data, 1, 8)")
    database.close()
    store = Project(tmp_path)
    files = FileThread()
    desk = Desk(files, qtbot)
    states = (ImageState.UNTOUCHED, ImageState.ACCEPTED)
    edit = Edit("paint", "a", None, patch, states)
    read, saved = desk.wait(
        desk.submit(load_image, store, record, lane=Lane.FILES),
        desk.submit(save, store, (Event(2, EventKind.EDIT, "a", edit),), lane=Lane.FILES),
    )
    assert read.error
    assert saved.error == ""
    assert (read_labels(tmp_path / "usgseg" / "labels" / "a.png") == 1).all()
    files.close()
    store.close()

"""A failure stays on the status line until the same kind of work succeeds, and no longer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.annotation.session import AnnotationSession
from napari_usgseg.core.errors import ModelError
from napari_usgseg.jobs import Lane, files
from napari_usgseg.project import exchange
from napari_usgseg.project.versions import VersionStore
from tests.support.bench import SIZE_HW, Bench, with_square


class Broken:
    """Raises in the place of a function, as long as it is broken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, place: object, name: str) -> None:
        self.broken = True
        whole = getattr(place, name)

        def part(*arguments, **named):
            if self.broken:
                raise ModelError(f"the {name} is broken; mend it")
            return whole(*arguments, **named)

        monkeypatch.setattr(place, name, part)


def labelled(session: AnnotationSession) -> None:
    session.prompting.add_point(20, 20)
    session.editing.accept()


KINDS = {
    "find": (
        lambda bench: (type(bench.detector), "detect"),
        lambda bench: bench.session.prompting.find("cyst"),
    ),
    "click": (
        lambda bench: (type(bench.segmenter), "predict"),
        lambda bench: bench.session.prompting.add_point(40, 30),
    ),
    "find alike": (
        lambda bench: (type(bench.detector), "detect"),
        lambda bench: bench.session.copying.alike(),
    ),
    "export": (
        lambda bench: (exchange, "export_store"),
        lambda bench: bench.session.export(bench.folder.parent / "out", "x", "y"),
    ),
    "import": (
        lambda bench: (exchange, "import_labels"),
        lambda bench: bench.session.navigation.import_labels(bench.folder),
    ),
    "read": (
        lambda bench: (files, "content_key"),
        lambda bench: bench.session.navigation.reload(),
    ),
    "open": (
        lambda bench: (files, "_opened"),
        lambda bench: bench.session.navigation.open_folder(bench.folder),
    ),
    "model": (
        lambda bench: (bench.models, "segmenter"),
        lambda bench: bench.session.warm_up(),
    ),
}


@pytest.fixture
def bench(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    place = tmp_path_factory.mktemp("told") / "scans"
    place.mkdir()
    for path in folder.glob("*.png"):
        path.rename(place / path.name)
    bench = Bench(place)
    bench.session.navigation.open_folder(place)
    labelled(bench.session)
    bench.session.editing.rename_class(1, "nodule")
    return bench


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_goes_when_the_same_thing_succeeds(bench: Bench, monkeypatch, kind) -> None:
    place, act = KINDS[kind]
    broken = Broken(monkeypatch, *place(bench))
    act(bench)
    assert bench.session.status.error
    assert "is broken" in bench.session.status.text
    broken.broken = False
    act(bench)
    assert not bench.session.status.error
    assert "is broken" not in bench.session.status.text


@pytest.mark.parametrize("kind", ["find", "export"])
def test_a_failure_stays_while_only_other_things_succeed(bench: Bench, monkeypatch, kind) -> None:
    place, act = KINDS[kind]
    broken = Broken(monkeypatch, *place(bench))
    act(bench)
    for other in ("click", "model"):
        KINDS[other][1](bench)
        assert bench.session.status.error
    bench.session.editing.add_class("cyst")
    assert "is broken" in bench.session.status.text, "a save is no cure"
    broken.broken = False
    act(bench)
    assert not bench.session.status.error


def test_of_two_failures_the_other_one_is_told_when_one_is_gone(bench: Bench, monkeypatch) -> None:
    find = Broken(monkeypatch, *KINDS["find"][0](bench))
    export = Broken(monkeypatch, *KINDS["export"][0](bench))
    KINDS["find"][1](bench)
    KINDS["export"][1](bench)
    assert "export_store is broken" in bench.session.status.text
    export.broken = False
    KINDS["export"][1](bench)
    assert "detect is broken" in bench.session.status.text
    find.broken = False
    KINDS["find"][1](bench)
    assert not bench.session.status.error


def test_an_export_that_succeeds_is_told_where_its_failure_was(bench: Bench, tmp_path) -> None:
    full = tmp_path / "scans"
    full.mkdir()
    Image.fromarray(np.zeros(SIZE_HW, np.uint8)).save(full / "mine.png")
    bench.session.export(full, "x", "y")
    assert bench.session.status.error
    bench.session.export(tmp_path / "new", "x", "y")
    assert bench.session.status.text.startswith("Exported to")
    assert not bench.session.status.error


def test_another_segmenter_mends_what_the_first_one_failed_at(bench: Bench) -> None:
    session = bench.session
    session.set_settings(replace(session.settings, segmenter="missing"))
    session.prompting.add_point(60, 40)
    assert session.status.error
    session.set_settings(replace(session.settings, segmenter="nano"))
    assert not session.status.error


def test_a_failure_belongs_to_the_image_on_which_it_happened(bench: Bench, monkeypatch) -> None:
    Broken(monkeypatch, *KINDS["click"][0](bench))
    KINDS["click"][1](bench)
    assert bench.session.status.error
    bench.session.navigation.step(1)
    assert not bench.session.status.error


@pytest.fixture
def unwritten(bench, monkeypatch) -> Broken:
    """Trainings that cannot be written down; two of three images are accepted."""
    accept_all(bench.session, "ab")
    bench.session.set_settings(replace(bench.session.settings, train_after=3))
    return Broken(monkeypatch, VersionStore, "begin")


def accept_all(session: AnnotationSession, image_ids: str) -> None:
    for image_id in image_ids:
        session.navigation.open_image(image_id)
        session.editing.painted(with_square(session.labels))
        session.editing.accept()


def goes_on(session: AnnotationSession) -> bool:
    return any(job.lane is Lane.TRAINING for job in session.jobs.awaited.values())


def test_a_training_that_cannot_be_written_down_leaves_nothing_behind(bench, unwritten) -> None:
    session, predictor = bench.session, bench.session.prompt_predictor
    accept_all(session, "c")
    told = []
    session.tuning.changed.connect(lambda: told.append(session.tuning.cannot_train))
    bench.hold = True
    predictor.train()
    assert told[-1] == predictor.busy
    predictor.cancel()
    bench.release()
    assert ("error", "the begin is broken; mend it") in bench.notes
    assert predictor.training is None
    assert told[-1] == "", "the other kind hears that it may begin"

    unwritten.broken = False
    predictor.train()
    assert predictor.training is not None
    assert predictor.training.phase == "starting"
    assert goes_on(session), "what was asked of the one that failed is not asked of this one"


def test_a_training_that_cannot_be_written_down_is_not_begun_again_at_once(
    bench, unwritten
) -> None:
    session = bench.session
    session.set_settings(replace(session.settings, train_by_itself=True))
    accept_all(session, "c")
    session.undo()
    session.redo()
    assert len(session.accepted) == 3
    assert [text for _, text in bench.notes].count("the begin is broken; mend it") == 1
    assert not goes_on(session)

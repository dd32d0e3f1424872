"""The detector learns a project's targets: trained, promoted, asked, and given up again."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_usgseg.project.records import EventKind
from tests.support import loop_bench

PHRASE = "zygomatic arch"
"""The embedded detector says that it was not trained on this."""


@pytest.fixture
def make_bench(make_bench):
    """Benches whose tunings are short."""

    def make(folder: Path, steps: int = 2):
        bench = make_bench(folder, steps=steps)
        bench.session.tuning.plan = replace(bench.session.tuning.plan, batch=1, image_size=64)
        return bench

    return make


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, models):
    """A project of five images, three of them accepted with a large block, and its adapter."""
    folder = tmp_path_factory.mktemp("tuned") / "images"
    folder.mkdir()
    loop_bench.write_phantoms(folder, 5)
    bench = loop_bench.LoopBench(models, steps=40)
    session = bench.session
    session.navigation.open_folder(folder)
    labels = np.zeros(loop_bench.SIZE_HW, np.uint8)
    labels[20:80, 25:100] = 1
    for number in range(3):
        bench.accept(f"{number:02d}", labels)
    assert session.tuning.cannot_train.startswith("A class's name is the phrase that finds it")
    session.editing.rename_class(1, PHRASE)
    bench.tune()
    assert session.tuning.versions, bench.notes
    bench.close()
    return folder


@pytest.fixture
def project(tuned, tmp_path):
    """A copy of the tuned project."""
    return Path(shutil.copytree(tuned, tmp_path / "copy" / "images"))


def found_by(bench) -> str:
    """Who answers the phrase on the fourth image."""
    bench.session.navigation.open_image("03")
    bench.session.prompting.find(PHRASE)
    return bench.session.facts["model"]


def test_one_that_finds_what_the_detector_did_not_is_promoted(project, make_bench):
    bench = make_bench(project)
    tuning = bench.session.tuning
    version = tuning.current
    assert version is not None, tuning.verdict
    assert (version.name, version.images, version.per_class) == ("lora-v1", 3, {1: 3})
    assert (version.classes, version.base) == ({1: PHRASE}, "nano")
    assert version.badge == f"Tuned v1, held-out Dice {version.held_out_dice:.2f}, 3 images"
    assert tuning.verdict.startswith("In use now: Dice 0.")
    assert "on 3 images that it had not learnt from, the detector as it is 0.00" in tuning.verdict
    assert "Measured in 3 shorter trainings" in tuning.verdict
    models = bench.session.store.models_folder
    assert not (models / "tuning").exists()
    assert not list(version.folder.glob("fold-*"))
    assert bench.session.prompt_predictor.versions == ()


def test_the_text_prompt_asks_the_version_in_use_and_the_detector_again_without_it(
    project, make_bench
):
    bench = make_bench(project)
    session, tuning = bench.session, bench.session.tuning
    model_id = found_by(bench)
    assert "+lora-v0001-" in model_id
    assert "Tuned v1 + nano" in session.status.text
    assert tuning.badge(model_id).startswith("Tuned v1, held-out Dice")
    searches = [e for e in session.store.events() if e.kind is EventKind.SEARCH]
    assert [e.body["detector"] for e in searches] == ["nano+lora-v1"]
    session.set_settings(replace(session.settings, box_threshold=0.5))
    found = set()
    for name in ("00", "01", "02"):
        session.navigation.open_image(name)
        found_by_again(session)
        found |= {item.class_id for item in session.proposal.objects}
    assert found == {1}
    session.copying.alike()
    assert "not among what this model" not in session.status.text
    tuning.choose(None)
    assert tuning.detector == "nano"
    assert "lora" not in found_by_again(session)
    assert "is not among what this model was trained on" in session.status.text
    tuning.choose(1)
    assert "+lora-v0001-" in found_by_again(session)


def found_by_again(session) -> str:
    """Who answers the phrase on the image at hand, also where nothing is found."""
    session.prompting.find(PHRASE)
    return session.facts["model"]


def test_a_renamed_class_is_told_by_the_name_that_the_adapter_learnt(project, make_bench):
    bench = make_bench(project)
    session, tuning = bench.session, bench.session.tuning
    found_by(bench)
    assert tuning.renamed == ""
    session.editing.rename_class(1, "malar bone")
    assert tuning.renamed == f"Tuned v1 knows 'malar bone' as '{PHRASE}': type that, or tune again."
    tuning.choose(None)
    assert tuning.renamed == ""


def test_an_adapter_of_another_detector_is_not_asked_and_says_why(project, make_bench):
    bench = make_bench(project)
    session, tuning = bench.session, bench.session.tuning
    session.set_settings(replace(session.settings, detector="nano-dino"))
    assert "was tuned from nano, not from nano-dino" in tuning.why_not
    assert tuning.detector == "nano-dino"
    session.set_settings(replace(session.settings, detector="nano"))
    assert tuning.why_not == ""
    adapter = tuning.current.folder
    session.set_settings(replace(session.settings, detector=str(adapter)))
    assert "is an adapter already" in tuning.cannot_train


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "usgseg.json"])
def test_a_broken_adapter_is_said_once_and_the_text_prompt_works(project, make_bench, models, file):
    bench = make_bench(project)
    session, tuning = bench.session, bench.session.tuning
    models.detector.cache.clear()
    whole = (tuning.current.folder / file).read_bytes()
    (tuning.current.folder / file).write_bytes(b"torn")
    model_id = found_by(bench)
    assert model_id.startswith("nano-")
    assert "lora" not in model_id
    assert found_by_again(session) == model_id
    said = [text for level, text in bench.notes if level == "warning"]
    assert len(said) == 1
    assert said[0].startswith("Tuned v1 cannot be used: ")
    assert tuning.why_not == said[0]
    (tuning.versions[0].folder / file).write_bytes(whole)
    tuning.choose(1)
    assert "+lora-v0001-" in found_by_again(session)


def test_a_version_whose_folder_is_gone_is_said_and_the_text_prompt_works(project, make_bench):
    shutil.rmtree(project / "usgseg" / "models" / "lora-v0001")
    (project / "usgseg" / "models" / "chosen-lora.json").write_text('{"number": 1, "newest": 1}')
    bench = make_bench(project)
    assert any("Tuned v1 was in use and is gone" in text for _, text in bench.notes)
    assert "lora" not in found_by(bench)


def test_a_worse_one_is_refused_and_the_old_one_stays(project, make_bench):
    card = project / "usgseg" / "models" / "lora-v0001" / "usgseg.json"
    entry = json.loads(card.read_text())
    entry["scores"]["per_class"] = {f"{n:02d}": {"1": 1.0} for n in range(3)}
    card.write_text(json.dumps(entry))
    bench = make_bench(project)
    tuning = bench.session.tuning
    bench.tune()
    assert [item.promoted for item in tuning.versions] == [True, False], bench.notes
    assert tuning.current.number == 1
    assert tuning.verdict.startswith("Not used, for it is no better: Dice 0.")
    assert "Tuned v1 1.00" in tuning.verdict


def test_one_training_goes_on_at_a_time_and_a_cancelled_one_leaves_nothing(project, make_bench):
    bench = make_bench(project, steps=400)
    session, tuning = bench.session, bench.session.tuning
    told, predictor = [], session.prompt_predictor
    predictor.changed.connect(lambda: told.append(predictor.cannot_train))
    tuning.train()
    assert predictor.cannot_train == tuning.busy == told[-1]
    bench.pump(lambda: tuning.training.step > 0)
    assert 400 < tuning.training.steps <= 1202
    session.prompt_predictor.train()
    assert session.prompt_predictor.training is None
    tuning.cancel(keep=True)
    bench.pump(lambda: tuning.training is None)
    assert tuning.paused
    assert session.prompt_predictor.cannot_train == ""
    again = make_bench(project)
    later = again.session.tuning
    assert later.training is None  # it rests
    later.train()
    again.pump(lambda: later.training.step > 0)
    assert later.training.resumed
    later.cancel()
    again.pump(lambda: later.training is None)
    models = again.session.store.models_folder
    assert not (models / "tuning").exists()
    assert not later.paused
    assert [item.number for item in later.versions] == [1]
    assert later.current.number == 1


def test_a_tuning_that_is_killed_goes_on_by_itself_and_nothing_is_lost(project, make_bench):
    bench = make_bench(project)
    tuning = bench.session.tuning
    tuning.train()
    bench.pump(lambda: tuning.training.step > 3)  # the first of three folds is done
    os.kill(bench.trainings.process_id, getattr(signal, "SIGKILL", signal.SIGTERM))
    bench.pump(lambda: tuning.training.resumed)
    assert any("ended from outside" in text for _, text in bench.notes)
    steps = []
    tuning.changed.connect(lambda: steps.append(tuning.training and tuning.training.step))
    bench.pump(lambda: tuning.training is None)
    assert tuning.running.failure == ""
    assert [item.number for item in tuning.versions] == [1, 2]
    assert tuning.versions[1].images == 3


def test_a_closed_window_ends_it_and_opening_goes_on_where_it_was(project, make_bench):
    bench = make_bench(project)
    bench.session.tuning.train()
    bench.pump(lambda: bench.session.tuning.training.step > 0)
    bench.close()
    again = make_bench(project)
    tuning = again.session.tuning
    assert tuning.training.resumed
    assert again.session.prompt_predictor.cannot_train == tuning.busy
    again.pump(lambda: tuning.training.step > 0)
    tuning.cancel()
    again.pump(lambda: tuning.training is None)
    assert again.session.prompt_predictor.cannot_train == ""

"""Semi-autonomous: a person's box and what was learned, in the way that was measured best."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from napari_usgseg.annotation.settings import Mode
from napari_usgseg.core.types import Prompts
from napari_usgseg.gui.canvas.tools import Tool
from napari_usgseg.io.images import read_image
from napari_usgseg.jobs.loaded_models import LoadedModels
from napari_usgseg.models.ppn.model import load_ppn
from napari_usgseg.models.registry import load_segmenter
from napari_usgseg.segmentation.postprocess import postprocess
from tests.support import loop_bench
from tests.support.hand import press_button

pytestmark = pytest.mark.gui

A, B = (30, 25), (95, 75)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with three accepted images of four, and where its trained version is in it."""
    folder = tmp_path_factory.mktemp("semi") / "images"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("USGSEG_TRAINING_NICE", "0")
        return folder, _trained_in(folder).relative_to(folder)


def _trained_in(folder):
    truths = loop_bench.write_phantoms(folder, 4)
    bench = loop_bench.LoopBench(LoadedModels(), steps=6)
    bench.session.navigation.open_folder(folder)
    bench.session.editing.rename_class(1, "zygomatic arch")  # the text prompt refuses it
    for number in range(3):
        bench.accept(f"{number:02d}", truths[number])
    bench.train()
    predictor = bench.session.prompt_predictor
    predictor.choose(1)  # six steps beat nothing
    version = predictor.current
    assert version is not None, predictor.verdict
    assert "Your prompts beside what was learned" in predictor.verdict
    bench.session.set_settings(replace(bench.session.settings, mode=Mode.SEMI))
    bench.close()
    return version.folder


@pytest.fixture
def project(trained, tmp_path):
    """A copy of that folder, and of its version."""
    folder, version = trained
    copy = shutil.copytree(folder, tmp_path / "images")
    return copy, copy / version


@pytest.mark.parametrize("way", ["plain", "joined"])
def test_a_box_is_answered_in_the_way_that_the_version_measured_best(person, project, way):
    folder, version = project
    card = json.loads((version / "ppn.json").read_text())
    measured = {"plain": 0.2, "joined": 0.3, "cut": 0.1} | {way: 0.9}
    card["scores"]["ways"] = {"1": {"box": measured}}
    (version / "ppn.json").write_text(json.dumps(card))
    person.open(folder)
    session = person.session
    assert session.prompt_predictor.mode is Mode.SEMI
    while session.record.image_id != "03":
        session.navigation.step(1)
        person.settle()
    assert not session.proposal.objects, "nothing is shown by itself"
    press_button(person, person.widget.correct.tools[Tool.BOX])
    person.drag(A, B)
    person.settle()
    (item,) = session.proposal.objects

    segmenter = load_segmenter("nano")
    embedding = segmenter.embed(read_image(folder / "03.png"))
    prompts = Prompts(box=np.asarray(item.prompts.box))
    answer = load_ppn(version, segmenter).answer(embedding, 1, prompts, way)
    expected = postprocess(answer.masks[0], session.settings.cleaning, prompts)
    assert np.mean(item.proposal.mask != expected) < 0.002

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_usgseg.annotation.regions import lasso_mask
from napari_usgseg.core.errors import ModelError
from napari_usgseg.core.types import Detections
from napari_usgseg.jobs.inference import segment_prompt
from napari_usgseg.models.grounding.phrases import FOREIGN


def ring(x: float, y: float, radius: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1).astype(np.float32)


def test_a_lasso_is_a_box_and_a_mask_for_the_segmenter(session):
    session.prompting.add_lasso(ring(40, 30, 12))
    (item,) = session.proposal.objects
    assert item.has_mask
    assert np.allclose(item.prompts.box, (28, 18, 52, 42), atol=1)
    assert (item.prompts.mask_input > 0).sum() == pytest.approx(np.pi * 144, rel=0.12)
    assert not session.labels.any()


def test_a_lasso_elsewhere_is_another_object(session):
    session.prompting.add_lasso(ring(20, 20, 8))
    session.prompting.add_lasso(ring(60, 40, 8))
    assert len(session.proposal.objects) == 2


def test_a_lasso_over_a_part_adds_it_and_a_negative_one_takes_it_away(session):
    session.prompting.add_box((20, 15), (50, 45))
    before = session.proposal.objects[0].proposal.mask
    session.prompting.add_lasso(ring(52, 30, 8))
    (item,) = session.proposal.objects
    assert item.prompts.point_labels.tolist() == [1]
    x, y = item.prompts.point_coords[0]
    assert not before[int(y), int(x)], "the point lies in the part that is added"
    assert item.prompts.box[2] > 50
    session.undo()
    session.prompting.add_lasso(ring(24, 30, 8), positive=False)
    (item,) = session.proposal.objects
    assert np.array_equal(item.proposal.mask, before & ~lasso_mask(ring(24, 30, 8), before.shape))


def test_a_lasso_round_a_whole_object_draws_it_anew(session):
    session.prompting.add_point(40, 30)
    session.prompting.add_lasso(ring(40, 30, 15))
    (item,) = session.proposal.objects
    assert len(item.prompts.point_coords) == 0
    assert np.allclose(item.prompts.box, (25, 15, 55, 45), atol=1)


def test_a_negative_lasso_over_a_whole_object_drops_it(session):
    session.prompting.add_point(40, 30)
    session.prompting.add_lasso(ring(40, 30, 15), positive=False)
    assert not session.proposal.objects
    assert not session.proposal.pending
    session.undo()
    assert len(session.proposal.objects) == 1


def test_a_negative_lasso_over_nothing_is_explained(session):
    session.prompting.add_lasso(ring(40, 30, 15), positive=False)
    assert not session.proposal.objects
    assert "find or draw an object first" in session.status.text


def test_a_lasso_that_leaves_the_image_is_cut_off_there(session):
    session.prompting.add_lasso(ring(0, 0, 20))
    assert session.proposal.objects[0].prompts.box[:2].tolist() == [0, 0]
    session.prompting.clear_prompts()
    session.prompting.add_lasso(ring(300, 300, 20))
    assert not session.proposal.objects


def test_a_lasso_of_the_real_model_follows_the_object(nano_segmenter, tmp_path):
    from scipy import ndimage
    from skimage.measure import find_contours

    from napari_usgseg.annotation.commands.prompts import add_lasso
    from napari_usgseg.annotation.regions import pieces
    from napari_usgseg.annotation.state import AnnotationState
    from napari_usgseg.core.metrics import dice
    from napari_usgseg.core.types import ImageRecord
    from napari_usgseg.phantoms.phantom import make_phantom
    from napari_usgseg.segmentation.postprocess import PostprocessSettings
    from napari_usgseg.segmentation.propose import propose_prompts

    scores = []
    for seed in range(3):
        phantom = make_phantom(seed, kind="breast")
        mask = pieces(phantom.labels == 1)[0]
        around = ndimage.binary_dilation(np.pad(mask, 9), iterations=5)
        outline = max(find_contours(around, 0.5), key=len)[::12, ::-1] - 9
        record = ImageRecord("a", tmp_path / "a.png", None, mask.shape)
        state = AnnotationState(record=record, labels=np.zeros(mask.shape, np.uint8))
        (item,) = add_lasso(state, outline.astype(np.float32)).edit.proposal[1].objects
        embedding = nano_segmenter.embed(phantom.image)
        settings = PostprocessSettings()
        found = propose_prompts(nano_segmenter, embedding, item.prompts, settings, drawn=item.drawn)
        scores.append(dice(mask, found.mask))
    assert np.mean(scores) > 0.8


@pytest.mark.parametrize("ask", ["point", "lasso", "box", "scribble", "find", "settings"])
def test_cancel_leaves_the_proposal_as_it_was(bench, ask):
    session = bench.session
    session.prompting.find("cyst")
    session.prompting.add_point(60, 40)
    before, steps = session.proposal, session.undo_stack.position
    bench.hold = True
    match ask:
        case "point":
            session.prompting.add_point(62, 40)
            session.prompting.add_point(20, 20, positive=False)
        case "lasso":
            session.prompting.add_lasso(ring(62, 40, 8))
        case "box":
            session.prompting.add_box((50, 30), (70, 50))
        case "scribble":
            session.prompting.add_scribble(np.array([[55, 38], [66, 41]], np.float32))
        case "find":
            session.prompting.find("nodule")
        case "settings":
            cleaning = replace(session.settings.cleaning, dilation=2)
            session.set_settings(replace(session.settings, cleaning=cleaning))
    assert session.is_waiting
    session.prompting.cancel()
    assert session.proposal is before
    bench.release()
    assert session.proposal is before
    assert session.undo_stack.position == steps
    assert not session.is_waiting
    session.prompting.add_point(62, 42)
    assert session.proposal.has_masks, "the next prompt works"


def test_cancel_after_an_undo_that_asks_again_keeps_the_other_objects(bench):
    session = bench.session
    session.prompting.find("cyst")
    bench.hold = True
    session.prompting.add_point(60, 40)
    session.prompting.add_point(64, 40)
    newest = bench.held_for(segment_prompt)[-1]
    bench.held.clear()
    bench.answer(newest)
    session.undo()
    assert session.proposal.pending, "the first click never had an answer"
    session.prompting.cancel()
    assert [item.proposal.phrase for item in session.proposal.objects] == ["cyst"]
    assert not session.proposal.pending


class CountingDetector:
    """Fails, or says that it does not know a phrase, or finds what it is asked for."""

    model_id = "counting"

    def __init__(self, how: str) -> None:
        self.how, self.asked = how, 0

    def detect(self, image, prompt):
        self.asked += 1
        if self.how == "fails":
            raise ModelError("no room on the disk; free some")
        notes = (f"'{prompt.text}' {FOREIGN} (kidney). Draw a box.",)
        if self.how == "foreign":
            return Detections(
                np.zeros((0, 4), np.float32), np.zeros(0, np.float32), (), notes=notes
            )
        boxes = np.array([[10, 10, 30, 30]], np.float32)
        return Detections(boxes, np.array([0.9], np.float32), (prompt.text,))


@pytest.mark.parametrize("how", ["fails", "foreign"])
def test_a_phrase_that_failed_is_not_looked_for_on_the_next_images_until_a_person_asks(bench, how):
    session = bench.session
    bench.detector = detector = CountingDetector(how)
    session.prompting.find("zygomatic arch")
    assert detector.asked == 1
    session.navigation.step(1)
    session.navigation.step(1)
    assert detector.asked == 1
    assert "press Find to try again" in session.status.text
    detector.how = "finds"
    session.navigation.step(-1)
    assert detector.asked == 1
    session.prompting.find("zygomatic arch")
    assert session.proposal.has_masks
    session.navigation.step(-1)
    assert detector.asked == 3, "what was found is looked for by itself again"


def test_another_phrase_is_looked_for_though_the_one_before_failed(bench):
    session = bench.session
    bench.detector = detector = CountingDetector("foreign")
    session.prompting.find("zygomatic arch")
    session.set_settings(replace(session.settings, phrase="cyst"))
    session.navigation.step(1)
    assert detector.asked == 2


def test_a_word_of_size_chooses_and_the_class_is_that_of_the_noun(bench):
    session = bench.session
    session.prompting.find("cyst")
    (cyst,) = {item.class_id for item in session.proposal.objects}
    session.prompting.find("largest cyst")
    (item,) = session.proposal.objects
    assert item.class_id == cyst
    assert session.table.get(cyst).name == "cyst"

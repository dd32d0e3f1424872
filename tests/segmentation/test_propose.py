from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_usgseg.core.types import Prompts, TextPrompt
from napari_usgseg.segmentation.postprocess import PostprocessSettings
from napari_usgseg.segmentation.propose import Proposal, compose, propose_prompts, propose_text

CLEANING = PostprocessSettings()
BOX = (10, 20, 29, 39)


def _proposal(mask, score, phrase="cyst"):
    return Proposal(mask, np.zeros(4, np.float32), score, phrase, score)


def test_a_phrase_becomes_a_mask_for_each_box_best_first(plain_segmenter, make_detector, image):
    detector = make_detector([("cyst", BOX, 0.4), ("cyst", (40, 0, 59, 9), 0.8)])
    found = propose_text(plain_segmenter, detector, image, TextPrompt("cyst"), CLEANING)
    assert [item.score for item in found.items] == pytest.approx([0.8, 0.4])
    assert found.items[1].mask.sum() == 20 * 20
    assert found.items[1].mask[20:40, 10:30].all()
    assert {item.phrase for item in found.items} == {"cyst"}
    assert found.notes == ()
    assert found.embedding.model_id == plain_segmenter.model_id


def test_the_thresholds_reach_the_detector(plain_segmenter, make_detector, image):
    detector = make_detector([("cyst", BOX, 0.4)])
    propose_text(plain_segmenter, detector, image, TextPrompt("cyst", 0.3, 0.2), CLEANING)
    assert (detector.asked[0].box_threshold, detector.asked[0].text_threshold) == (0.3, 0.2)


def test_a_dense_prior_is_fed_back_only_where_it_is_wanted(plain_segmenter, make_detector, image):
    priors = np.full((1, 8, 8), 3.0, np.float32)
    detector = make_detector([("cyst", BOX, 0.4)], priors)
    for use_priors in (True, False):
        propose_text(
            plain_segmenter, detector, image, TextPrompt("cyst"), CLEANING, use_priors=use_priors
        )
    first, second = plain_segmenter.asked
    assert first.mask_input is not None
    np.testing.assert_array_equal(first.mask_input, priors[0])
    assert second.mask_input is None


def test_an_embedding_in_hand_is_not_made_again(plain_segmenter, make_detector, image):
    embedding = plain_segmenter.embed(image, "mine")
    detector = make_detector([("cyst", BOX, 0.4)])
    found = propose_text(plain_segmenter, detector, image, TextPrompt("cyst"), CLEANING, embedding)
    assert found.embedding is embedding


def test_a_phrase_without_a_box_is_explained(plain_segmenter, make_detector, image):
    detector = make_detector([("cyst", BOX, 0.4)])
    found = propose_text(
        plain_segmenter, detector, image, TextPrompt("Cyst. Fetal head."), CLEANING
    )
    assert len(found.items) == 1
    assert found.notes == (
        "No 'fetal head' found in this image. Draw a box, or lower the threshold.",
    )


def test_a_detectors_own_note_is_passed_on_and_not_repeated(plain_segmenter, make_detector, image):
    note = "'kidney' is not among what this model was trained on."
    found = propose_text(
        plain_segmenter, make_detector(notes=(note,)), image, TextPrompt("kidney"), CLEANING
    )
    assert found.items == ()
    assert found.notes == (note,)


def test_the_masks_are_cleaned_as_asked(plain_segmenter, make_detector, image):
    detector = make_detector([("cyst", BOX, 0.4)])
    grown = propose_text(
        plain_segmenter, detector, image, TextPrompt("cyst"), PostprocessSettings(dilation=2)
    )
    assert grown.items[0].mask.sum() > 20 * 20


def test_a_persons_prompts_give_a_proposal_and_logits_for_the_next_click(plain_segmenter, image):
    embedding = plain_segmenter.embed(image)
    prompts = Prompts(np.array([[40, 30]], np.float32), np.ones(1, np.int32))
    proposal = propose_prompts(plain_segmenter, embedding, prompts, CLEANING)
    prediction = plain_segmenter.predict(embedding, prompts)
    assert proposal.mask[30, 40]
    np.testing.assert_array_equal(proposal.box, [28, 18, 52, 42])
    assert proposal.score == pytest.approx(0.9)
    np.testing.assert_array_equal(proposal.low_res_logits, prediction.low_res_logits[0])


@settings(deadline=None, max_examples=30)
@given(st.permutations([0.2, 0.5, 0.9]), st.sampled_from([(1, 2, 3), (7, 300, 2)]))
def test_where_proposals_overlap_the_higher_score_wins_in_any_order(scores, class_ids):
    whole = np.ones((4, 6), bool)
    proposals = [_proposal(whole, score) for score in scores]
    labels = compose(proposals, class_ids, (4, 6))
    assert (labels == class_ids[int(np.argmax(scores))]).all()
    assert labels.dtype == (np.uint16 if max(class_ids) > 255 else np.uint8)


MASKS = hnp.arrays(bool, (5, 7))
OWNED = st.lists(st.tuples(MASKS, st.floats(0, 1), st.integers(1, 4)), max_size=6)


@settings(deadline=None, max_examples=80)
@given(OWNED)
def test_every_pixel_has_the_label_of_the_best_scored_mask_over_it(owned):
    labels = compose([_proposal(m, s) for m, s, _ in owned], [c for *_, c in owned], (5, 7))
    for place in np.ndindex(5, 7):
        claims = [(score, label) for mask, score, label in owned if mask[place]]
        best = max((score for score, _ in claims), default=0)
        expected = next((label for score, label in claims if score == best), 0)
        assert labels[place] == expected


def test_an_object_that_two_phrases_claim_is_the_better_ones(plain_segmenter, make_detector, image):
    nearly = (10, 20, 29, 38)
    inside = (12, 22, 20, 30)
    found = propose_text(
        plain_segmenter,
        make_detector([("cyst", BOX, 0.4), ("vessel", nearly, 0.7), ("wall", inside, 0.3)]),
        image,
        TextPrompt("cyst. vessel. wall"),
        CLEANING,
    )
    assert [item.phrase for item in found.items] == ["vessel", "wall"]
    assert found.notes == ("What might be 'cyst' scores better as 'vessel'.",)


def test_two_boxes_of_one_phrase_are_both_kept(plain_segmenter, make_detector, image):
    detector = make_detector([("cyst", BOX, 0.4), ("cyst", BOX, 0.5)])
    found = propose_text(plain_segmenter, detector, image, TextPrompt("cyst"), CLEANING)
    assert len(found.items) == 2


def test_nothing_proposed_is_an_empty_label_map():
    labels = compose([], [], (4, 6))
    assert labels.shape == (4, 6)
    assert not labels.any()


def test_a_word_of_place_chooses_among_the_candidates_and_is_no_part_of_their_name(
    plain_segmenter,
):
    """The detector is asked for the noun alone, and both windows of it are the picture's."""
    from napari_usgseg.core.types import Detections

    asked = []

    class Two:
        model_id = "two"

        def detect(self, image, prompt):
            asked.append(prompt.text)
            boxes = np.array([[2, 2, 20, 20], [60, 30, 70, 40]], np.float32)
            return Detections(boxes, np.array([0.5, 0.9], np.float32), ("cyst", "cyst"))

    image = np.zeros((60, 80, 3), np.uint8)
    for text, box in (("largest cyst", 2), ("rightmost cyst", 60)):
        found = propose_text(plain_segmenter, Two(), image, TextPrompt(text), PostprocessSettings())
        (item,) = found.items
        assert (item.phrase, item.box[0]) == ("cyst", box)
        assert any("1 of 2 found" in note for note in found.notes)
    both = propose_text(
        plain_segmenter, Two(), image, TextPrompt("left cyst. right cyst"), PostprocessSettings()
    )
    assert {item.phrase: item.box[0] for item in both.items} == {"left cyst": 2, "right cyst": 60}
    assert set(asked) == {"cyst"}

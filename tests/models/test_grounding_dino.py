"""Grounding DINO on a small random checkpoint in the real on-disk format."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from napari_usgseg.core.errors import CheckpointError, ModelError, ModelNotFoundError, PromptError
from napari_usgseg.core.geometry import box_iou
from napari_usgseg.core.types import TextPrompt
from napari_usgseg.models.grounding.grounding_dino import (
    NMS_IOU,
    GroundingDino,
    load_grounding_dino,
)
from napari_usgseg.models.lora.card import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from napari_usgseg.models.registry import load_detector

SIZE_HW = (120, 200)
EVERYTHING = {"box_threshold": 0.0, "text_threshold": 0.0}


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), np.uint8)


@pytest.fixture(scope="module")
def detector(dino_folder) -> GroundingDino:
    return load_grounding_dino(dino_folder)


def test_every_box_has_one_whole_phrase_a_score_and_lies_inside_the_image(detector, image):
    found = detector.detect(image, TextPrompt("Kidney. renal medulla", **EVERYTHING))
    assert len(found) > 2
    assert set(found.phrases) == {"kidney", "renal medulla"}
    assert found.boxes.shape == (len(found), 4)
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert (np.diff(found.scores) <= 0).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert found.boxes.min() >= 0
    assert (found.boxes[:, 2:].max(axis=0) <= [SIZE_HW[1] - 1, SIZE_HW[0] - 1]).all()


def test_boxes_and_scores_are_those_of_transformers_own_post_processing(
    detector, dino_folder, image
):
    from transformers import GroundingDinoProcessor

    processor = GroundingDinoProcessor.from_pretrained(dino_folder)
    inputs = processor(images=image, text="renal medulla.", return_tensors="pt")
    with torch.inference_mode():
        output = detector.model(**inputs)
    theirs = processor.post_process_grounded_object_detection(
        output, threshold=0.0, target_sizes=[SIZE_HW]
    )[0]
    ours = detector.detect(image, TextPrompt("renal medulla", **EVERYTHING))
    limit = np.tile([SIZE_HW[1] - 1, SIZE_HW[0] - 1], 2)
    candidates = theirs["boxes"].numpy().clip(0, limit)
    scores = output.logits[0, :, 1:3].sigmoid().amax(1).numpy()
    for box, score in zip(ours.boxes, ours.scores, strict=True):
        nearest = np.abs(candidates - box).max(axis=1).argmin()
        np.testing.assert_allclose(candidates[nearest], box, atol=1e-3)
        np.testing.assert_allclose(scores[nearest], score, atol=1e-5)


def test_the_prompts_case_and_last_full_stop_do_not_matter(detector, image):
    one, other = (
        detector.detect(image, TextPrompt(text, **EVERYTHING))
        for text in ("kidney. renal medulla.", "  KIDNEY .Renal  medulla ")
    )
    assert one.phrases == other.phrases
    np.testing.assert_array_equal(one.boxes, other.boxes)


def test_a_point_between_digits_is_part_of_its_phrase(detector, image):
    found = detector.detect(image, TextPrompt("2.5 cm kidney. renal medulla", 0.0, 0.0))
    assert set(found.phrases) <= {"2.5 cm kidney", "renal medulla"}
    assert len(found)


def test_another_phrase_gives_other_scores(detector, image):
    one, other = (
        detector.detect(image, TextPrompt(text, **EVERYTHING)) for text in ("kidney", "breast")
    )
    assert not np.array_equal(one.scores[:3], other.scores[:3])


def test_boxes_of_one_phrase_do_not_overlap_beyond_the_limit(detector, image):
    found = detector.detect(image, TextPrompt("kidney. breast tumor", **EVERYTHING))
    for phrase in set(found.phrases):
        boxes = found.boxes[[name == phrase for name in found.phrases]]
        overlap = box_iou(boxes, boxes) - np.eye(len(boxes), dtype=np.float32)
        assert overlap.max() <= NMS_IOU


@pytest.mark.parametrize("which", ["box_threshold", "text_threshold"])
def test_either_threshold_takes_the_lower_scores_away(detector, image, which):
    everything = detector.detect(image, TextPrompt("kidney", **EVERYTHING))
    middle = float(np.median(everything.scores))
    some = detector.detect(image, TextPrompt("kidney", **{**EVERYTHING, which: middle}))
    assert 0 < len(some) < len(everything)
    assert some.scores.min() >= middle
    nothing = detector.detect(image, TextPrompt("kidney", 1.0, 1.0))
    assert len(nothing) == 0
    assert nothing.boxes.shape == (0, 4)


def test_a_checkpoint_can_bring_its_own_thresholds(dino_folder, image, tmp_path):
    folder = shutil.copytree(dino_folder, tmp_path / "strict")
    card = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**card, "box_threshold": 1.0}))
    assert len(load_grounding_dino(folder).detect(image, TextPrompt("kidney"))) == 0
    assert len(load_grounding_dino(dino_folder).detect(image, TextPrompt("kidney"))) > 0
    (folder / "config.json").write_text(json.dumps({**card, "box_threshold": 1.5}))
    with pytest.raises(PromptError, match="between 0 and 1"):
        load_grounding_dino(folder).detect(image, TextPrompt("kidney"))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (TextPrompt(""), "prompt is empty"),
        (TextPrompt(" . ? "), "prompt is empty"),
        (TextPrompt("kidney " * 40), "this model takes 32"),
    ],
)
def test_a_prompt_that_cannot_be_used_is_refused_with_the_reason(detector, image, prompt, message):
    with pytest.raises(PromptError, match=message):
        detector.detect(image, prompt)


def test_an_image_that_is_not_rgb_uint8_is_refused(detector):
    with pytest.raises(ModelError, match="to_rgb_uint8"):
        detector.detect(np.zeros((8, 8), np.uint8), TextPrompt("kidney"))


def test_a_lora_adapter_changes_the_boxes_and_the_model_id(
    detector, dino_folder, lora_folder, image
):
    tuned = detector.with_adapter(lora_folder)
    assert tuned.model_id.startswith(f"{detector.model_id}+my-organ-")
    plain, other = (d.detect(image, TextPrompt("kidney", **EVERYTHING)) for d in (detector, tuned))
    assert len(plain) != len(other) or np.abs(plain.boxes - other.boxes).max() > 1


def test_a_missing_folder_or_adapter_is_named(detector, tmp_path):
    with pytest.raises(ModelNotFoundError, match="nowhere"):
        load_grounding_dino(tmp_path / "nowhere")
    with pytest.raises(ModelNotFoundError, match=r"nowhere.*grounding-dino-tiny"):
        load_detector(tmp_path / "nowhere")
    with pytest.raises(ModelNotFoundError, match=ADAPTER_CONFIG):
        detector.with_adapter(tmp_path)


def test_an_adapter_of_another_model_is_refused(detector, lora_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(lora_folder, tmp_path / "other")
    tensors = load_file(folder / ADAPTER_WEIGHTS)
    renamed = {name.replace("text_projection", "no_such"): t for name, t in tensors.items()}
    save_file(renamed, folder / ADAPTER_WEIGHTS)
    with pytest.raises(CheckpointError, match=r"do not fit this model.*no_such|text_projection"):
        detector.with_adapter(folder)
    save_file({name: t[:1].contiguous() for name, t in tensors.items()}, folder / ADAPTER_WEIGHTS)
    with pytest.raises(CheckpointError, match="not an adapter of this model"):
        detector.with_adapter(folder)


def test_only_safetensors_are_read(dino_folder, tmp_path):
    folder = shutil.copytree(dino_folder, tmp_path / "pickled")
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*missing"):
        load_grounding_dino(folder)


def test_weights_that_are_missing_from_the_file_are_not_made_up(dino_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(dino_folder, tmp_path / "holes")
    tensors = load_file(folder / "model.safetensors")
    gone = next(name for name in tensors if "text_projection" in name)
    del tensors[gone]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="1 weights are missing"):
        load_grounding_dino(folder)


def test_a_truncated_checkpoint_and_another_models_folder_are_refused(dino_folder, tmp_path):
    folder = shutil.copytree(dino_folder, tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cut"):
        load_grounding_dino(folder)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="model_type"):
        load_grounding_dino(folder)

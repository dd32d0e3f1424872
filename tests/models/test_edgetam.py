"""EdgeTAM in transformers' own format, beside transformers' own answers with the same weights."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_usgseg.core.errors import CheckpointError
from napari_usgseg.core.types import Prompts
from napari_usgseg.models.registry import SEGMENTERS, load_segmenter
from napari_usgseg.models.sam.edgetam import EdgeTamSegmenter
from tests.support.edgetam import SIDE, write_edgetam


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_edgetam(tmp_path_factory.mktemp("edgetam") / "small-edgetam")


@pytest.fixture(scope="module")
def segmenter(folder) -> EdgeTamSegmenter:
    return load_segmenter(folder)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (70, 110, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def transformers_answer(folder, image):
    """Low-resolution logits, IoU predictions and full-size logits of transformers' own pipeline."""
    from transformers import EdgeTamModel, Sam2ImageProcessor, Sam2Processor

    model = EdgeTamModel.from_pretrained(folder).eval()
    side = {"height": SIDE, "width": SIDE}
    processor = Sam2Processor(Sam2ImageProcessor(size=side), target_size=SIDE)

    def answer(multimask: bool, prompts: Prompts):
        given = {}
        if len(prompts.point_coords):
            given["input_points"] = [[prompts.point_coords.tolist()]]
            given["input_labels"] = [[prompts.point_labels.tolist()]]
        if prompts.box is not None:
            given["input_boxes"] = [[prompts.box.tolist()]]
        inputs = processor(image, return_tensors="pt", **given)
        sizes = inputs.pop("original_sizes")
        inputs = {k: v.float() if v.dtype == torch.float64 else v for k, v in inputs.items()}
        if prompts.mask_input is not None:
            inputs["input_masks"] = torch.from_numpy(prompts.mask_input)[None, None]
        with torch.inference_mode():
            found = model(**inputs, multimask_output=multimask)
        full = processor.post_process_masks(found.pred_masks, sizes, binarize=False)[0]
        return found.pred_masks[0, 0].numpy(), found.iou_scores[0, 0].numpy(), full[0].numpy()

    return answer


TWO = Prompts(np.array([[40.0, 30.0], [90.0, 60.0]], np.float32), np.array([1, 0], np.int32))
BOX = np.array([10.0, 12.0, 80.0, 55.0], np.float32)
LOGITS = np.random.default_rng(0).normal(0, 4, (SIDE // 4, SIDE // 4)).astype(np.float32)


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize(
    "prompts",
    [
        Prompts(TWO.point_coords[:1], TWO.point_labels[:1]),
        TWO,
        Prompts(box=BOX),
        Prompts(TWO.point_coords, TWO.point_labels, box=BOX),
        Prompts(TWO.point_coords, TWO.point_labels, mask_input=LOGITS),
        Prompts(mask_input=LOGITS),
    ],
    ids=["a click", "two clicks", "a box", "a box and clicks", "clicks and a mask", "a mask"],
)
def test_answers_are_those_of_transformers(
    segmenter, transformers_answer, image, prompts, multimask
):
    low_res, iou, full = transformers_answer(multimask, prompts)
    found = segmenter.predict(segmenter.embed(image), prompts, multimask=multimask)
    order = np.argsort(-iou, kind="stable")
    assert np.ptp(low_res) > 0.1, "the model must say something"
    np.testing.assert_allclose(found.low_res_logits, low_res[order], atol=1e-4)
    np.testing.assert_allclose(found.iou_predictions, iou[order], atol=1e-4)
    sure = np.abs(full[order]) > 1e-3
    assert np.array_equal(found.masks[sure], (full[order] > 0)[sure])


def test_it_is_in_the_catalogue_and_its_folder_or_file_is_known_by_what_it_holds(folder):
    model = SEGMENTERS["edgetam"]
    assert (model.source, model.licence) == ("hub", "Apache-2.0")
    one, other = load_segmenter(folder), load_segmenter(folder / model.weights)
    assert one.model_id == other.model_id
    assert one.model_id.startswith("small-edgetam-")


def test_its_weights_are_not_there_twice(segmenter):
    decoder = segmenter.net.mask_decoder
    assert decoder.iou_token.weight.data_ptr() == (
        segmenter.net.video.mask_decoder.iou_token.weight.data_ptr()
    )


def test_a_file_that_lacks_a_weight_is_refused(folder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    tensors = load_file(broken / "model.safetensors")
    tensors.pop("no_object_pointer")
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="no_object_pointer"):
        load_segmenter(broken)

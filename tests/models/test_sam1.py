from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from napari_usgseg.core.errors import CheckpointError, ModelError, ModelNotFoundError
from napari_usgseg.core.types import Prompts
from napari_usgseg.models.embedding_cache import decode, encode
from napari_usgseg.models.registry import SEGMENTERS, load_segmenter
from napari_usgseg.models.sam.sam1 import Sam1Segmenter, load_sam1

SIDE = 128


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SAM of random weights, as ``save_pretrained`` of transformers writes it."""
    from transformers import SamConfig, SamModel

    torch.manual_seed(0)
    config = SamConfig(
        vision_config={
            "hidden_size": 32,
            "output_channels": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "mlp_dim": 64,
            "window_size": 4,
            "global_attn_indexes": [1],
            "num_pos_feats": 32,
        },
        prompt_encoder_config={
            "hidden_size": 64,
            "image_size": SIDE,
            "mask_input_channels": 16,
        },
        mask_decoder_config={
            "hidden_size": 64,
            "mlp_dim": 128,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": 48,
            "iou_head_depth": 4,
        },
    )
    model = SamModel(config)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "norm" not in name and tensor.ndim > 1 and "shared" not in name:
                tensor.mul_(8)
    out = tmp_path_factory.mktemp("sam") / "small-sam"
    model.save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def segmenter(folder: Path) -> Sam1Segmenter:
    return load_sam1(folder)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (70, 110, 3), dtype=np.uint8)


def test_a_folder_that_bears_a_name_of_the_hub_is_read(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "sam-vit-huge")
    monkeypatch.chdir(tmp_path)
    assert isinstance(load_segmenter("./sam-vit-huge"), Sam1Segmenter)


def transformers_answer(folder: Path, image: np.ndarray, multimask: bool, prompts: Prompts):
    """Low-resolution logits, IoU predictions and full-size logits of transformers' own pipeline."""
    from transformers import SamImageProcessor, SamModel, SamProcessor

    size, pad = {"longest_edge": SIDE}, {"height": SIDE, "width": SIDE}
    masks = {"mask_size": {"longest_edge": 32}, "mask_pad_size": {"height": 32, "width": 32}}
    processor = SamProcessor(SamImageProcessor(size=size, pad_size=pad, **masks))
    given_prompts = {}
    if len(prompts.point_coords):
        given_prompts["input_points"] = [[prompts.point_coords.tolist()]]
        given_prompts["input_labels"] = [[prompts.point_labels.tolist()]]
    if prompts.box is not None:
        given_prompts["input_boxes"] = [[prompts.box.tolist()]]
    inputs = processor(image, return_tensors="pt", **given_prompts)
    sizes = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
    if prompts.mask_input is not None:
        inputs["input_masks"] = torch.from_numpy(prompts.mask_input)[None, None]
    model = SamModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        inputs = {k: v.float() if v.dtype == torch.float64 else v for k, v in inputs.items()}
        answer = model(**inputs, multimask_output=multimask)
    full = processor.image_processor.post_process_masks(
        answer.pred_masks, *sizes, binarize=False, pad_size=pad
    )[0]
    return answer.pred_masks[0, 0].numpy(), answer.iou_scores[0, 0].numpy(), full[0].numpy()


POINT = Prompts(np.array([[40.0, 30.0]], np.float32), np.array([1], np.int32))
TWO = Prompts(np.array([[40.0, 30.0], [90.0, 60.0]], np.float32), np.array([1, 0], np.int32))
BOX = np.array([10.0, 12.0, 80.0, 55.0], np.float32)


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize(
    "prompts",
    [
        POINT,
        TWO,
        Prompts(box=BOX),
        Prompts(TWO.point_coords, TWO.point_labels, box=BOX),
        Prompts(
            POINT.point_coords,
            POINT.point_labels,
            mask_input=np.random.default_rng(0).normal(0, 4, (32, 32)).astype(np.float32),
        ),
    ],
    ids=["a click", "two clicks", "a box", "a box and clicks", "a click and a mask"],
)
def test_answers_are_those_of_transformers(folder, segmenter, image, prompts, multimask):
    low_res, iou, full = transformers_answer(folder, image, multimask, prompts)
    found = segmenter.predict(segmenter.embed(image), prompts, multimask=multimask)
    order = np.argsort(-iou, kind="stable")
    assert np.ptp(low_res) > 0.1, "the model must say something"
    np.testing.assert_allclose(found.low_res_logits, low_res[order], atol=1e-4)
    np.testing.assert_allclose(found.iou_predictions, iou[order], atol=1e-4)
    sure = np.abs(full[order]) > 1e-3
    assert np.array_equal(found.masks[sure], (full[order] > 0)[sure])
    assert found.masks.shape[1:] == image.shape[:2]


@settings(max_examples=25, deadline=None)
@given(st.integers(8, 200), st.integers(8, 200))
def test_an_image_of_any_shape_keeps_its_shape_and_its_place(segmenter, height, width):
    image = np.full((height, width, 3), 90, np.uint8)
    pixels, covered = segmenter._on_square(image)
    rows, columns = (round(share * SIDE) for share in covered)
    assert pixels.shape == (1, 3, SIDE, SIDE)
    assert max(rows, columns) == SIDE
    assert abs(rows / columns - height / width) <= (1 / columns + 1 / width) * max(
        1, rows / columns
    )
    assert (pixels[..., rows:, :] == 0).all()
    assert (pixels[..., :, columns:] == 0).all()
    assert (pixels[..., :rows, :columns] != 0).all()


def test_logits_fed_back_are_those_that_came_out(segmenter, image):
    embedding = segmenter.embed(image)
    first = segmenter.predict(embedding, POINT)
    again = segmenter.predict(
        embedding, Prompts(TWO.point_coords, TWO.point_labels, mask_input=first.low_res_logits[0])
    )
    assert again.masks.shape == (1, 70, 110)


def test_a_mask_of_the_whole_image_is_put_where_the_image_is(segmenter, image):
    from napari_usgseg.models.sam.sam import prompt_logits

    embedding = segmenter.embed(image)
    given_mask = np.full(image.shape[:2], 5.0, np.float32)
    placed = prompt_logits(given_mask, (32, 32), embedding.covered)[0, 0]
    rows = round(embedding.covered[0] * 32)
    assert (placed[:rows] > 4).all()
    assert (placed[rows:] <= 0).all()


def test_an_embedding_survives_the_cache_with_its_place_on_the_square(segmenter, image):
    embedding = segmenter.embed(image, "one")
    again = decode(encode(embedding), "one", segmenter.model_id)
    assert again is not None
    assert again.covered == embedding.covered
    before, after = (segmenter.predict(e, POINT).masks for e in (embedding, again))
    assert (before == after).mean() > 0.99


def test_a_folder_is_loaded_by_the_registry(folder, image):
    segmenter = load_segmenter(folder)
    assert isinstance(segmenter, Sam1Segmenter)
    assert segmenter.model_id.startswith("small-sam-")
    assert load_segmenter(folder / "model.safetensors").model_id == segmenter.model_id


def test_the_published_sizes_have_names():
    assert {"sam-vit-base", "sam-vit-large", "sam-vit-huge", "medsam-vit-base"} <= set(SEGMENTERS)


def test_a_folder_of_another_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="model_type is not 'sam'"):
        load_segmenter(tmp_path)
    with pytest.raises(ModelNotFoundError, match="nowhere: no such folder"):
        load_sam1(tmp_path / "nowhere")


def test_a_folder_without_weights_or_with_torn_ones_is_refused(folder, tmp_path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match=r"model\.safetensors: missing"):
        load_sam1(tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_sam1(tmp_path)


def test_weights_with_a_hole_are_refused(folder, tmp_path):
    state = load_file(folder / "model.safetensors")
    gone = next(key for key in state if "mask_decoder" in key and "mask_tokens" in key)
    save_file({k: v for k, v in state.items() if k != gone}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match="mask_tokens"):
        load_sam1(tmp_path)


def test_what_is_no_image_is_refused(segmenter):
    with pytest.raises(ModelError, match=r"\(H, W, 3\)"):
        segmenter.embed(np.zeros((4, 4), np.uint8))

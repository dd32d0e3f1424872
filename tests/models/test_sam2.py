"""Our path against the sam2 package's own predictor, on the same random SAM 2.1 tiny."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from sam2.build_sam import build_sam2 as official_build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor

from napari_usgseg.core.errors import CheckpointError, ModelNotFoundError
from napari_usgseg.core.types import Prompts
from napari_usgseg.models.registry import load_segmenter
from napari_usgseg.models.sam.sam2 import (
    SAM2_VARIANTS,
    Sam2Net,
    build_sam2,
    infer_variant,
    load_sam2_checkpoint,
)

SIZE_HW = (300, 470)
POINTS = np.array([[120.0, 80.5], [300, 200], [20, 250]], np.float32)
LABELS = np.array([1, 0, 1], np.int32)
BOX = np.array([60, 40, 320.5, 250], np.float32)


@pytest.fixture(scope="session")
def official():
    torch.manual_seed(0)
    return official_build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu")


@pytest.fixture(scope="session")
def checkpoint(official, tmp_path_factory) -> Path:
    """The random weights in the format of the official checkpoints."""
    path = tmp_path_factory.mktemp("sam2") / "sam2.1_hiera_tiny.pt"
    torch.save({"model": official.state_dict()}, path)
    return path


@pytest.fixture(scope="session")
def image() -> np.ndarray:
    rows, columns = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    disc = 120.0 * ((rows - 140) ** 2 + (columns - 200) ** 2 < 90**2)
    noise = np.random.default_rng(0).integers(0, 100, (*SIZE_HW, 3))
    return (disc[..., None] + noise).astype(np.uint8)


@pytest.fixture(scope="session")
def predictor(official, image) -> SAM2ImagePredictor:
    predictor = SAM2ImagePredictor(official)
    predictor.set_image(image)
    return predictor


@pytest.fixture(scope="session")
def segmenter(checkpoint):
    return load_sam2_checkpoint(checkpoint)


@pytest.fixture(scope="session")
def embedding(segmenter, image):
    return segmenter.embed(image)


def test_the_embedding_is_the_predictors(predictor, embedding):
    theirs = predictor._features
    high_res_0, high_res_1 = theirs["high_res_feats"]
    expected = {
        "image_embed": theirs["image_embed"],
        "high_res_0": high_res_0,
        "high_res_1": high_res_1,
    }
    assert embedding.features.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(embedding.features[name], tensor, atol=1e-4, rtol=0)


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize(
    "given",
    [
        {"point_coords": POINTS[:1], "point_labels": LABELS[:1]},
        {"point_coords": POINTS, "point_labels": LABELS},
        {"box": BOX},
        {"box": BOX, "point_coords": POINTS, "point_labels": LABELS},
        {"point_coords": POINTS[:1], "point_labels": LABELS[:1], "mask_input": True},
        {"box": BOX, "mask_input": True},
        {"mask_input": True},
    ],
    ids=["click", "clicks", "box", "box+clicks", "click+mask", "box+mask", "mask"],
)
def test_logits_and_masks_are_the_predictors(predictor, segmenter, embedding, given, multimask):
    given = dict(given)
    if "mask_input" in given:
        ramp = np.linspace(-9, 9, 256, dtype=np.float32)
        given["mask_input"] = np.add.outer(ramp, -ramp)
    ours = segmenter.predict(embedding, Prompts(**given), multimask=multimask)
    if "mask_input" in given:
        given["mask_input"] = given["mask_input"][None]
    masks, iou, logits = predictor.predict(**given, multimask_output=multimask)
    order = np.argsort(-iou, kind="stable")
    np.testing.assert_allclose(ours.low_res_logits, logits[order], atol=1e-4, rtol=0)
    np.testing.assert_allclose(ours.iou_predictions, iou[order], atol=1e-4, rtol=0)
    assert ours.masks.shape == (3 if multimask else 1, *SIZE_HW)
    assert (ours.masks == (masks[order] > 0)).mean() > 0.9999


def test_the_random_weights_tell_the_prompts_apart(segmenter, embedding):
    """Else the comparison above would pass for a decoder that reads no prompt."""
    one, other = (
        segmenter.predict(embedding, Prompts(POINTS[i : i + 1], LABELS[i : i + 1]), multimask=True)
        for i in (0, 1)
    )
    assert np.abs(one.low_res_logits - other.low_res_logits).max() > 0.01


def test_the_model_id_names_the_size_and_the_content(segmenter, checkpoint):
    assert segmenter.model_id.startswith("sam2.1-hiera-tiny-")
    assert load_sam2_checkpoint(checkpoint).model_id == segmenter.model_id


def test_feature_sizes_are_the_models_own_not_those_of_1024_pixels():
    net = Sam2Net(build_sam2(SAM2_VARIANTS["sam2.1-hiera-tiny"], image_size=256)).eval()
    with torch.inference_mode():
        image_embed, high_res = net.encode(torch.zeros(1, 3, 256, 256))
    assert [tuple(t.shape[-2:]) for t in (image_embed, *high_res)] == [(16, 16), (64, 64), (32, 32)]


@pytest.mark.parametrize("name", sorted(SAM2_VARIANTS))
def test_a_checkpoint_tells_its_size(name):
    assert infer_variant(build_sam2(SAM2_VARIANTS[name]).state_dict()).name == name


def test_building_needs_nothing_of_hydras_global_state():
    saved = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        model = build_sam2(SAM2_VARIANTS["sam2.1-hiera-tiny"])
    finally:
        GlobalHydra.instance().hydra = saved
    assert model.sam_mask_decoder.dynamic_multimask_via_stability


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"nowhere\.pt"):
        load_sam2_checkpoint(tmp_path / "nowhere.pt")


def test_a_truncated_checkpoint_names_the_file(checkpoint, tmp_path):
    path = tmp_path / "cut.pt"
    path.write_bytes(checkpoint.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match=r"cut\.pt.*download it again"):
        load_sam2_checkpoint(path)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "evil.pt"
    torch.save({"model": print}, path)
    with pytest.raises(CheckpointError, match=r"evil\.pt"):
        load_sam2_checkpoint(path)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    path = tmp_path / "resnet.pt"
    torch.save({"model": {"conv1.weight": torch.zeros(3)}}, path)
    with pytest.raises(CheckpointError, match=r"not a SAM 2\.1 checkpoint"):
        load_sam2_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="tensors under 'model'"):
        load_sam2_checkpoint(path)


def test_a_checkpoint_with_a_tensor_too_few_is_refused(official, tmp_path):
    state = official.state_dict()
    state.pop("no_mem_embed")
    path = tmp_path / "short.pt"
    torch.save({"model": state}, path)
    with pytest.raises(CheckpointError, match=r"short\.pt.*no_mem_embed"):
        load_sam2_checkpoint(path)


def test_a_checkpoint_of_sam_2_0_is_told_apart(official, tmp_path):
    state = official.state_dict()
    state.pop("no_obj_embed_spatial")
    path = tmp_path / "old.pt"
    torch.save({"model": state}, path)
    with pytest.raises(CheckpointError, match=r"SAM 2\.0"):
        load_sam2_checkpoint(path)


def test_medsam2s_file_is_seen_at_the_half_of_sam_2s_side(checkpoint, image, tmp_path):
    path = tmp_path / "MedSAM2_latest.pt"
    path.hardlink_to(checkpoint)
    medical = load_segmenter(path)
    assert medical.model_id.startswith("medsam2-")
    assert medical.net.image_size == 512
    found = medical.predict(
        medical.embed(image), Prompts(box=np.array([20, 20, 90, 80], np.float32))
    )
    assert found.masks.shape[1:] == image.shape[:2]

"""The nano segmenter's file: written, read, refused."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from napari_usgseg.core.errors import CheckpointError, ModelNotFoundError
from napari_usgseg.core.types import Prompts
from napari_usgseg.models.checkpoints import read_checksums, sha256_of, write_checksums
from napari_usgseg.models.sam.nano import NanoSam, load_nano_segmenter, save_nano_segmenter
from napari_usgseg.models.sam.sam import SamSegmenter


@pytest.fixture(scope="module")
def net() -> NanoSam:
    torch.manual_seed(0)
    return NanoSam(64).eval()


@pytest.fixture
def path(net, tmp_path):
    path = tmp_path / "nano.safetensors"
    save_nano_segmenter(net, path, {"seed": "0"})
    return path


def test_a_saved_segmenter_predicts_as_before_within_half_precision(net, path):
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    prompts = Prompts(box=np.array([5, 5, 40, 30], np.float32))
    before, after = (
        segmenter.predict(segmenter.embed(image), prompts)
        for segmenter in (SamSegmenter(net, "before"), load_nano_segmenter(path))
    )
    np.testing.assert_allclose(after.low_res_logits, before.low_res_logits, atol=0.05)


def test_the_file_is_half_precision_with_a_header_and_the_model_id_is_its_hash(path):
    with safe_open(path, framework="pt") as handle:
        header = handle.metadata()
        weight = handle.get_tensor("trunk.conv_stem.weight")
        statistics = handle.get_tensor("trunk.bn1.running_var")
    assert header == {"seed": "0", "arch": "nano-sam-1", "image_size": "64"}
    assert (weight.dtype, statistics.dtype) == (torch.float16, torch.float32)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_nano_segmenter(path).model_id == f"nano-{digest[:8]}"
    assert sha256_of(path) == digest


def test_loaded_weights_are_single_precision(path):
    segmenter = load_nano_segmenter(path)
    dtypes = {parameter.dtype for parameter in segmenter.net.mask_decoder.parameters()}
    assert dtypes == {torch.float32}


def test_saving_leaves_no_temporary_file_and_replaces_the_old_one(net, path):
    path.write_bytes(b"old")
    save_nano_segmenter(net, path, {})
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    load_nano_segmenter(path)


def test_weights_that_half_precision_cannot_hold_are_not_written(tmp_path):
    net = NanoSam(64)
    with torch.no_grad():
        net.mask_decoder.iou_token.weight[0, 0] = 1e6
    with pytest.raises(CheckpointError, match=r"mask_decoder\.iou_token"):
        save_nano_segmenter(net, tmp_path / "big.safetensors", {})
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_named_with_the_cure(tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"gone\.safetensors.*reinstall"):
        load_nano_segmenter(tmp_path / "gone.safetensors")


def test_a_truncated_file_is_refused(path):
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"nano\.safetensors"):
        load_nano_segmenter(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"arch": "resnet", "image_size": "64"}, "header says 'resnet'"),
        ({}, "header says None"),
        ({"arch": "nano-sam-1", "image_size": "65"}, "multiple of 32"),
        ({"arch": "nano-sam-1", "image_size": "big"}, "multiple of 32"),
    ],
)
def test_a_file_of_another_network_or_size_is_refused(path, header, message):
    save_file(load_file(path), path, metadata=header)
    with pytest.raises(CheckpointError, match=message):
        load_nano_segmenter(path)


def test_a_file_with_a_tensor_too_few_is_refused(path):
    tensors = load_file(path)
    del tensors["mask_decoder.iou_token.weight"]
    save_file(tensors, path, metadata={"arch": "nano-sam-1", "image_size": "64"})
    with pytest.raises(CheckpointError, match=r"mask_decoder\.iou_token"):
        load_nano_segmenter(path)


def test_checksums_cover_every_file_of_the_folder_but_their_own_list(tmp_path):
    (tmp_path / "nano-dino").mkdir()
    (tmp_path / "nano-dino" / "config.json").write_text("{}")
    (tmp_path / "a.safetensors").write_bytes(b"weights")
    (tmp_path / "._a.safetensors").write_bytes(b"written by macOS")
    write_checksums(tmp_path)
    write_checksums(tmp_path)
    sums = read_checksums(tmp_path)
    assert sums.keys() == {"a.safetensors", "nano-dino/config.json"}
    assert sums["a.safetensors"] == hashlib.sha256(b"weights").hexdigest()


def test_no_list_of_checksums_is_an_empty_one_and_a_damaged_one_is_refused(tmp_path):
    assert read_checksums(tmp_path) == {}
    (tmp_path / "SHA256SUMS.json").write_text("{")
    with pytest.raises(CheckpointError, match="SHA256SUMS"):
        read_checksums(tmp_path)

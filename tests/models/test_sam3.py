"""SAM 3 and MM Grounding DINO on small random checkpoints in the real on-disk formats."""

from __future__ import annotations

import json
import string
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_usgseg.core.errors import CheckpointError, ModelError, PromptError
from napari_usgseg.core.types import TextPrompt
from napari_usgseg.models.grounding.grounding_dino import GroundingDino
from napari_usgseg.models.grounding.sam3 import Sam3Detector, load_sam3
from napari_usgseg.models.registry import DETECTORS, load_detector
from tests.models.conftest import bert_vocabulary

SIZE_HW = (120, 200)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), np.uint8)


@pytest.fixture(scope="module")
def sam3_folder(tmp_path_factory) -> Path:
    """Random weights, written by transformers itself as the published checkpoint is."""
    from transformers import CLIPTokenizerFast, Sam3Config, Sam3ImageProcessor, Sam3Model

    torch.manual_seed(0)
    part = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
    trunk = {"model_type": "sam3_vit_model", "image_size": 56, "pretrain_image_size": 56}
    trunk |= {"window_size": 2, "global_attn_indexes": [1], "num_hidden_layers": 2}
    letters = [c + end for c in string.ascii_lowercase for end in ("", "</w>")]
    words = {c: n for n, c in enumerate((*letters, "<|startoftext|>", "<|endoftext|>"))}
    config = Sam3Config(
        vision_config={
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            "backbone_config": trunk | part,
        },
        text_config={
            **part,
            "vocab_size": len(words),
            "projection_dim": 16,
            "num_hidden_layers": 1,
            "max_position_embeddings": 32,
            "bos_token_id": len(words) - 2,
            "eos_token_id": len(words) - 1,
        },
        geometry_encoder_config={"num_layers": 1, **part},
        detr_encoder_config={"num_layers": 1, **part},
        detr_decoder_config={"num_layers": 2, "num_queries": 8, **part},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2},
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-sam3"
    model = Sam3Model(config)
    for head in model.detr_decoder.box_head.modules():
        if isinstance(head, torch.nn.Linear):
            torch.nn.init.normal_(head.weight, std=0.5)  # so that no two boxes are alike
    model.save_pretrained(folder)
    size = {"height": 56, "width": 56}
    Sam3ImageProcessor(size=size).save_pretrained(folder)
    CLIPTokenizerFast(vocab=words, merges=[]).save_pretrained(folder)
    card = {"processor_class": "Sam3Processor", "target_size": 56}
    (folder / "processor_config.json").write_text(json.dumps(card))
    return folder


@pytest.fixture(scope="module")
def sam3(sam3_folder) -> Sam3Detector:
    return load_sam3(sam3_folder)


def test_each_phrase_has_boxes_in_the_image_with_scores_and_masks(sam3, image):
    found = sam3.detect(image, TextPrompt("Kidney. renal medulla", 0.0))
    assert set(found.phrases) == {"kidney", "renal medulla"}
    assert found.boxes.shape == (len(found), 4)
    assert (np.diff(found.scores) <= 0).all()
    assert found.boxes.min() >= 0
    assert (found.boxes[:, 2:].max(axis=0) <= [SIZE_HW[1] - 1, SIZE_HW[0] - 1]).all()
    assert found.priors is not None
    assert found.priors.shape == (len(found), 16, 16)
    assert len(sam3.detect(image, TextPrompt("kidney", 1.0))) == 0


def test_boxes_and_scores_are_those_of_transformers_own_post_processing(sam3, image):
    inputs = sam3.processor(images=image, text="kidney", return_tensors="pt")
    with torch.inference_mode():
        output = sam3.model(
            **{k: inputs[k] for k in ("pixel_values", "input_ids", "attention_mask")}
        )
    theirs = sam3.processor.post_process_instance_segmentation(
        output, threshold=0.0, target_sizes=[SIZE_HW]
    )[0]
    limit = np.tile([SIZE_HW[1] - 1, SIZE_HW[0] - 1], 2)
    candidates = theirs["boxes"].numpy().clip(0, limit)
    ours = sam3.detect(image, TextPrompt("kidney", 0.0))
    assert len(ours)
    for box, score in zip(ours.boxes, ours.scores, strict=True):
        nearest = np.abs(candidates - box).max(axis=1).argmin()
        np.testing.assert_allclose(candidates[nearest], box, atol=1e-3)
        np.testing.assert_allclose(theirs["scores"][nearest], score, atol=1e-5)


def test_a_box_around_an_example_asks_for_what_is_like_it(sam3, image):
    one = sam3.detect_like(image, np.array([[20, 20, 80, 90]]), box_threshold=0.0)
    other = sam3.detect_like(image, np.array([[120, 60, 190, 110]]), box_threshold=0.0)
    assert set(one.phrases) == {"visual"}
    assert not np.array_equal(one.scores[:3], other.scores[:3])


def test_a_phrase_beyond_its_words_is_a_prompt_error(sam3, image):
    with pytest.raises(PromptError, match="too long"):
        sam3.detect(image, TextPrompt("kidney " * 40))


def test_the_catalogue_loads_its_folder_and_puts_no_adapter_on_it(sam3_folder, lora_folder):
    assert isinstance(load_detector(sam3_folder), Sam3Detector)
    with pytest.raises(ModelError, match="no LoRA adapter"):
        load_detector(sam3_folder, adapter=lora_folder)


def test_weights_that_are_missing_are_an_error_not_made_up(sam3_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    for path in sam3_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop(next(name for name in tensors if "mask_decoder" in name))
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="weights are missing"):
        load_sam3(tmp_path)


def test_an_mm_grounding_dino_is_asked_and_answers_as_a_grounding_dino_does(tmp_path, image):
    from transformers import (
        BertTokenizerFast,
        GroundingDinoImageProcessor,
        MMGroundingDinoConfig,
        MMGroundingDinoForObjectDetection,
    )

    torch.manual_seed(0)
    swin = {"model_type": "swin", "image_size": 64, "embed_dim": 16, "depths": [1, 1, 1, 1]}
    swin |= {"num_heads": [1, 2, 2, 4], "window_size": 4}
    swin |= {"out_features": ["stage2", "stage3", "stage4"]}
    text = {"model_type": "bert", "vocab_size": 1100, "hidden_size": 32, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64}
    small = {"encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2}
    small |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    config = MMGroundingDinoConfig(
        backbone_config=swin, text_config=text, d_model=32, num_queries=12, max_text_len=32, **small
    )
    MMGroundingDinoForObjectDetection(config).save_pretrained(tmp_path)
    size = {"shortest_edge": 64, "longest_edge": 96}
    GroundingDinoImageProcessor(size=size).save_pretrained(tmp_path)
    BertTokenizerFast(vocab=bert_vocabulary()).save_pretrained(tmp_path)
    detector = load_detector(tmp_path)
    assert isinstance(detector, GroundingDino)
    assert type(detector.model) is MMGroundingDinoForObjectDetection
    found = detector.detect(image, TextPrompt("Kidney. renal medulla", 0.0, 0.0))
    assert len(found)
    assert set(found.phrases) <= {"kidney", "renal medulla"}
    assert DETECTORS["mm-grounding-dino-tiny"].repo.startswith("openmmlab-community/")

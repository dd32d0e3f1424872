"""A prompt predictor on every kind of segmenter: sizes are the model's, places are the image's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_usgseg.core.errors import CheckpointError
from napari_usgseg.core.types import Prompts
from napari_usgseg.learning.labelled import LabelledImage
from napari_usgseg.learning.ppn import PpnSettings, PpnTraining, ViewCache, train_ppn
from napari_usgseg.models.ppn.model import FrozenDecoder, load_ppn, new_prompter, presence
from napari_usgseg.models.sam.nano import NanoSam
from napari_usgseg.models.sam.sam import SamSegmenter, feature_list, image_logits
from napari_usgseg.models.sam.sam1 import Sam1Net, Sam1Segmenter
from napari_usgseg.models.sam.sam2 import SAM2_VARIANTS, Sam2Net, build_sam2
from napari_usgseg.phantoms.phantom import make_phantom


def nano() -> SamSegmenter:
    return SamSegmenter(NanoSam(128), "nano-00000001")


def sam2(size: str) -> SamSegmenter:
    variant = SAM2_VARIANTS[f"sam2.1-hiera-{size}"]
    return SamSegmenter(Sam2Net(build_sam2(variant, 128)), f"{variant.name}-00000001")


def sam1() -> Sam1Segmenter:
    from transformers import SamConfig, SamModel

    config = SamConfig(
        vision_config={
            "hidden_size": 32, "output_channels": 96, "num_hidden_layers": 2, "image_size": 128,
            "num_attention_heads": 2, "mlp_dim": 64, "window_size": 4,
            "global_attn_indexes": [1], "num_pos_feats": 48,
        },
        prompt_encoder_config={"hidden_size": 96, "image_size": 128},
        mask_decoder_config={"hidden_size": 96, "mlp_dim": 64, "num_attention_heads": 4},
    )  # fmt: skip
    return Sam1Segmenter(Sam1Net(SamModel(config)), "sam-small-00000001")


KINDS = {"nano": nano, "SAM 2.1 tiny": lambda: sam2("tiny"), "SAM": sam1}


@pytest.fixture(scope="module", params=KINDS)
def segmenter(request) -> SamSegmenter:
    torch.manual_seed(5)
    return KINDS[request.param]()


def phantoms(count: int) -> list[LabelledImage]:
    made = [make_phantom(index, (72, 128), "breast") for index in range(count)]
    return [LabelledImage(f"p{i}", f"g{i}", p.image, p.labels) for i, p in enumerate(made)]


def test_training_lowers_the_loss_and_changes_the_prompt_predictor_only(tmp_path, segmenter):
    before = {name: tensor.clone() for name, tensor in segmenter.net.state_dict().items()}
    losses: list[float] = []
    settings = PpnSettings(steps=20, lr=2e-3, task=PpnTraining(batch=2, views=0, click_share=0))
    model = train_ppn(
        phantoms(2), {1: "tumor"}, segmenter, tmp_path, settings,
        progress=lambda step, steps, figures: losses.append(figures["loss"]),
    )  # fmt: skip
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    after = segmenter.net.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())

    image = phantoms(3)[2].image
    embedding = segmenter.embed(image)
    prediction = model.predict(embedding)[1]
    assert prediction.masks.shape == (1, *image.shape[:2])
    assert np.isfinite(prediction.object_score)
    again = load_ppn(tmp_path, segmenter)
    assert np.array_equal(again.predict(embedding)[1].masks, prediction.masks)
    refined = again.for_class(1).predict(
        embedding, Prompts(np.array([[60.0, 30.0]], np.float32), np.array([1], np.int32))
    )
    assert refined.masks.shape == (1, *image.shape[:2])
    segmenter_of_others = nano() if segmenter.model_id != "nano-00000001" else sam1()
    with pytest.raises(CheckpointError, match="segmenter"):
        load_ppn(tmp_path, segmenter_of_others)


def test_a_target_comes_back_to_where_it_was_in_an_image_that_is_not_square(segmenter):
    labels = np.zeros((60, 128), np.uint8)
    labels[36:56, 88:120] = 1
    image = np.full((60, 128, 3), 80, np.uint8)
    views = ViewCache(segmenter, [LabelledImage("a", "a", image, labels)], [1], seed=0)
    targets = views.get(0, 0).targets.float() / 255
    embedding = segmenter.embed(image)
    back = image_logits(targets - 0.5, embedding, int(segmenter.net.image_size))[0] > 0
    overlap = (back.numpy() & (labels == 1)).sum() / (back.numpy() | (labels == 1)).sum()
    assert overlap > 0.8


def test_bent_views_of_a_padding_segmenter_keep_the_image_s_shape():
    segmenter = sam1()
    views = ViewCache(segmenter, phantoms(1), [1], seed=0)
    bare = views.get(0, 1).targets[0]
    rows = round(bare.shape[0] * 72 / 128)
    assert not bare[rows + 1 :].any(), "nothing is marked beside the image"


@pytest.mark.parametrize("size", ["tiny", "small", "base-plus", "large"])
def test_sizes_are_read_from_the_model(size):
    segmenter = sam2(size)
    features = feature_list(segmenter.embed(np.zeros((40, 64, 3), np.uint8)))
    for levels in range(1, len(features) + 1):
        prompter = new_prompter(segmenter, 2, levels)
        encoder = segmenter.net.prompt_encoder
        with torch.inference_mode():
            learned = prompter(encoder, features)
        assert learned.mask_logits.shape[-2:] == tuple(encoder.mask_input_size)
        assert learned.boxes.shape == (2, 4)


def test_without_an_object_score_the_iou_estimate_says_whether_it_is_there():
    torch.manual_seed(1)
    segmenter = sam1()
    decoder = FrozenDecoder(segmenter)
    features = [f.clone() for f in feature_list(segmenter.embed(phantoms(1)[0].image))]
    sparse = torch.randn(3, 4, 96)
    dense = decoder.embed_masks(torch.randn(3, 1, 32, 32))
    decoded = decoder(features, sparse, dense)
    torch.testing.assert_close(decoded.object_score, presence(decoded.iou))
    assert (presence(torch.tensor([0.4, 0.5, 0.6])).sign() == torch.tensor([-1.0, 0, 1])).all()
    with_score = FrozenDecoder(nano())
    assert with_score.mask_decoder.pred_obj_scores

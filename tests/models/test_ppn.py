"""The prompt predictor: the published arithmetic, its files, and its answers on a segmenter."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sam2.modeling.sam.prompt_encoder import PromptEncoder

from napari_usgseg.core.errors import CheckpointError, ModelError, ModelNotFoundError
from napari_usgseg.core.types import Prediction, Prompts
from napari_usgseg.models.ppn.card import PpnCard, read_card
from napari_usgseg.models.ppn.model import (
    FrozenDecoder,
    PpnModel,
    agreement,
    join,
    load_ppn,
    save_ppn,
)
from napari_usgseg.models.ppn.network import ClassPrompter, PpnShape, PromptPredictor
from napari_usgseg.models.ppn.published import load_published, shape_of
from napari_usgseg.models.sam.sam import SamSegmenter, feature_list

PARITY = Path(__file__).resolve().parents[3] / "shared" / "parity" / "ppn_reference.safetensors"


@pytest.fixture(scope="module")
def reference() -> dict[str, torch.Tensor]:
    if not PARITY.is_file():
        pytest.skip(f"no parity vectors at {PARITY}")
    return load_file(PARITY)


def nano_of(seed: int, size: int = 128) -> SamSegmenter:
    from napari_usgseg.models.sam.nano import NanoSam

    torch.manual_seed(seed)
    return SamSegmenter(NanoSam(size), f"nano-{seed:08x}")


@pytest.fixture(scope="module")
def segmenter() -> SamSegmenter:
    return nano_of(1)


@pytest.fixture(scope="module")
def model(segmenter) -> PpnModel:
    torch.manual_seed(2)
    prompter = ClassPrompter(PpnShape((256, 64), mlp_dim=64), 2, 6)
    card = PpnCard({1: "nerve", 4: "vessel"}, segmenter.model_id, {})
    return PpnModel(segmenter, prompter, card)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)


def predictor_and_encoder(reference):
    weights = {n.removeprefix("weights."): t for n, t in reference.items() if "weights." in n}
    predictor, tensors = load_published(weights)
    encoder = PromptEncoder(256, (8, 8), (128, 128), 16)
    encoder.load_state_dict(tensors)
    return predictor, encoder.eval()


def test_published_weights_give_the_published_outputs(reference):
    predictor, encoder = predictor_and_encoder(reference)
    features = [reference[f"input.features.stride{stride}"] for stride in (4, 8, 16)]
    with torch.inference_mode():
        learned = predictor(encoder, features, reference["input.queries"])
    for ours, theirs in (
        (learned.sparse, "sparse_embeddings"),
        (learned.dense, "dense_embeddings"),
        (learned.mask_logits, "mask_prompt_logits"),
        (learned.boxes, "boxes_xyxy_normalised"),
    ):
        torch.testing.assert_close(ours, reference[f"output.{theirs}"], atol=1e-4, rtol=0)


def test_the_callers_features_are_only_read(reference):
    predictor, encoder = predictor_and_encoder(reference)
    features = [reference[f"input.features.stride{stride}"].clone() for stride in (4, 8, 16)]
    order, before = list(map(id, features)), [f.clone() for f in features]
    with torch.inference_mode():
        predictor(encoder, features, reference["input.queries"])
    assert list(map(id, features)) == order
    assert all(torch.equal(now, then) for now, then in zip(features, before, strict=True))


@pytest.mark.parametrize(
    "shape",
    [
        PpnShape((256, 64, 32), mlp_dim=96),
        PpnShape((64, 16), embed_dim=64, mlp_dim=48, mask_hidden=12, mask_layers=3),
        PpnShape((32,), embed_dim=32, downsample=1, box_hidden=40, box_layers=3, num_heads=8),
        PpnShape((64, 64, 24, 8), embed_dim=64, mlp_dim=16, downsample=4, num_heads=4),
    ],
)
def test_every_size_is_read_from_the_state_dict(shape):
    assert shape_of(PromptPredictor(shape).state_dict(), shape.num_heads) == shape


def test_a_foreign_state_dict_is_named():
    with pytest.raises(CheckpointError, match="HighResPPN"):
        shape_of({"conv.weight": torch.zeros(1)})
    state = PromptPredictor(PpnShape((32,), embed_dim=32)).state_dict()
    state["layers.0.norm1.weight"] = torch.zeros(5)
    with pytest.raises(CheckpointError, match="do not fit"):
        load_published(state)


def test_classes_do_not_look_at_one_another(segmenter, image):
    torch.manual_seed(0)
    prompter = ClassPrompter(PpnShape((256, 64), mlp_dim=64), 3, 6).eval()
    encoder = FrozenDecoder(segmenter).prompt_encoder
    features = [f.clone() for f in feature_list(segmenter.embed(image))]
    with torch.inference_mode():
        together = prompter(encoder, features)
        alone = prompter(encoder, features, torch.tensor([2]))
    torch.testing.assert_close(together.mask_logits[2:], alone.mask_logits, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(together.boxes[2:], alone.boxes, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(together.boxes[0], together.boxes[1])


def test_several_images_give_what_each_gives_alone(segmenter, image):
    torch.manual_seed(0)
    prompter = ClassPrompter(PpnShape((256, 64, 32), mlp_dim=64), 2, 6).eval()
    decoder = FrozenDecoder(segmenter)
    one = feature_list(segmenter.embed(image))
    other = feature_list(segmenter.embed(image[::-1].copy()))
    both = [torch.cat(pair) for pair in zip(one, other, strict=True)]
    with torch.inference_mode():
        learned = prompter(decoder.prompt_encoder, both)
        decoded = decoder(both, learned.sparse, learned.dense)
        second = prompter(decoder.prompt_encoder, other)
        alone = decoder(other, second.sparse, second.dense)
    torch.testing.assert_close(decoded.logits[2:], alone.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(decoded.object_score[2:], alone.object_score, atol=1e-4, rtol=1e-4)


def test_predictions_have_the_images_size_and_a_score_for_every_class(model, image):
    answers = model.predict(model.segmenter.embed(image))
    assert list(answers) == [1, 4]
    for answer in answers.values():
        assert answer.masks.shape == (1, 90, 120)
        assert 0 <= answer.iou_predictions[0] <= 1
        assert np.isfinite(answer.object_score)


def test_without_a_persons_prompt_refining_is_predicting(model, image):
    embedding = model.segmenter.embed(image)
    refined = model.for_class(4).predict(embedding, Prompts())
    np.testing.assert_allclose(
        refined.low_res_logits, model.predict(embedding)[4].low_res_logits, atol=1e-4
    )


@pytest.mark.parametrize(
    "prompts",
    [
        Prompts(np.array([[40.0, 30.0]], np.float32), np.array([1], np.int32)),
        Prompts(box=np.array([10.0, 10.0, 60.0, 50.0], np.float32)),
        Prompts(scribbles=((np.array([[5.0, 5.0], [50.0, 40.0]], np.float32), 0),)),
        Prompts(mask_input=np.full((32, 32), 9.0, np.float32)),
    ],
    ids=["click", "box", "scribble", "mask"],
)
def test_every_kind_of_prompt_changes_the_answer(model, image, prompts):
    embedding = model.segmenter.embed(image)
    features = feature_list(embedding)
    with torch.inference_mode():
        learned = model._prompter(model._decoder.prompt_encoder, features, torch.tensor([0]))
        sparse, dense, _ = join(model._decoder, learned, prompts, embedding)
        before = model._decoder(features, learned.sparse, learned.dense).logits
        after = model._decoder(features, sparse, dense).logits
    assert (after - before).abs().max() > 1e-3


def test_a_person_is_not_fought_by_what_was_learnt_wrongly(model, image):
    """Untrained prompts say nothing sensible: no answer may agree with fewer clicks than the
    segmenter's without them on the predicted mask.
    """
    embedding = model.segmenter.embed(image)
    rng = np.random.default_rng(0)
    for _ in range(5):
        coords = rng.uniform((0, 0), (119, 89), (2, 2)).astype(np.float32)
        prompts = Prompts(coords, np.array([1, 0], np.int32))
        predicted = model.for_class(1).predict(embedding, Prompts())
        on_top = replace(prompts, mask_input=predicted.low_res_logits[0])
        plain = model.segmenter.predict(embedding, on_top)
        joined = model.for_class(1).predict(embedding, prompts)
        assert agreement(joined, prompts) >= agreement(plain, prompts)


def test_agreement_is_the_share_of_points_on_their_side():
    mask = np.zeros((1, 10, 10), bool)
    mask[0, :5] = True
    answer = Prediction(mask, np.ones(1, np.float32), np.zeros((1, 4, 4), np.float32))
    line = np.array([[1.0, 1.0], [1.0, 8.0]], np.float32)
    prompts = Prompts(
        np.array([[2.0, 2.0], [3.0, 9.0]], np.float32), np.array([1, 0], np.int32),
        scribbles=((line, 1),),
    )  # fmt: skip
    assert agreement(answer, prompts) == 0.75
    assert agreement(answer, Prompts()) == 1.0


def test_an_embedding_of_another_segmenter_is_refused(model, image):
    with pytest.raises(ModelError, match="embed it again"):
        model.predict(nano_of(5).embed(image))


def test_an_unknown_class_is_named_with_the_known_ones(model):
    with pytest.raises(ModelError, match="no class 2, only 1 \\(nerve\\), 4 \\(vessel\\)"):
        model.for_class(2)


def test_a_checkpoint_comes_back_as_it_was(tmp_path, model, segmenter, image):
    card = replace(model.card, source="clinic", images=("a", "b"), seed=3, scores={"dice": 0.5})
    saved = save_ppn(tmp_path, model._prompter, card, FrozenDecoder(segmenter))
    assert read_card(tmp_path) == saved
    assert json.loads((tmp_path / "ppn.json").read_text())["segmenter"] == {
        "id": "nano-00000001",
        "name": "nano",
        "hash": "00000001",
    }
    again = load_ppn(tmp_path, segmenter)
    embedding = segmenter.embed(image)
    for value, answer in again.predict(embedding).items():
        np.testing.assert_array_equal(
            answer.low_res_logits, model.predict(embedding)[value].low_res_logits
        )


def test_lora_on_the_decoder_is_kept_in_the_checkpoint(tmp_path, model, segmenter, image):
    decoder = FrozenDecoder(segmenter)
    torch.manual_seed(0)
    for matrix in decoder.add_lora(2).values():
        torch.nn.init.normal_(matrix, std=0.3)
    save_ppn(tmp_path, model._prompter, replace(model.card, lora_rank=2), decoder)
    embedding = segmenter.embed(image)
    tuned = PpnModel(segmenter, model._prompter, model.card, decoder).predict(embedding)[1]
    again = load_ppn(tmp_path, segmenter).predict(embedding)[1]
    np.testing.assert_allclose(again.low_res_logits, tuned.low_res_logits, atol=1e-5)
    plain = model.predict(embedding)[1].low_res_logits
    assert np.abs(again.low_res_logits - plain).max() > 1e-3


def test_a_checkpoint_of_another_segmenter_says_which_one_it_wants(tmp_path, model, segmenter):
    save_ppn(tmp_path, model._prompter, model.card, FrozenDecoder(segmenter))
    with pytest.raises(CheckpointError, match="nano-00000001, not on nano-00000007"):
        load_ppn(tmp_path, nano_of(7))


def test_damage_is_noticed(tmp_path, model, segmenter):
    with pytest.raises(ModelNotFoundError, match="usgseg train ppn"):
        load_ppn(tmp_path, segmenter)
    save_ppn(tmp_path, model._prompter, model.card, FrozenDecoder(segmenter))
    weights = tmp_path / "ppn.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match="not the weights"):
        load_ppn(tmp_path, segmenter)
    weights.unlink()
    with pytest.raises(CheckpointError, match="missing"):
        load_ppn(tmp_path, segmenter)
    (tmp_path / "ppn.json").write_text("{}")
    with pytest.raises(CheckpointError, match="train again"):
        read_card(tmp_path)


def test_it_works_on_sam2_of_another_size(image):
    from napari_usgseg.models.ppn.model import new_prompter
    from napari_usgseg.models.sam.sam2 import SAM2_VARIANTS, Sam2Net, build_sam2

    torch.manual_seed(0)
    sam = build_sam2(SAM2_VARIANTS["sam2.1-hiera-tiny"], image_size=128)
    segmenter = SamSegmenter(Sam2Net(sam), "sam2.1-hiera-tiny-00000000")
    prompter = new_prompter(segmenter, 1, levels=3)
    assert prompter.predictor.shape.channels == (256, 64, 32)
    model = PpnModel(segmenter, prompter, PpnCard({1: "kidney"}, segmenter.model_id, {}))
    answer = model.predict(segmenter.embed(image))[1]
    assert answer.masks.shape == (1, 90, 120)
    assert answer.low_res_logits.shape == (1, 32, 32)


def test_a_segmenter_that_is_no_sam_is_refused():
    class Plain:
        model_id = "plain-1"

    with pytest.raises(ModelError, match="SAM's kind"):
        FrozenDecoder(Plain())  # type: ignore[arg-type]

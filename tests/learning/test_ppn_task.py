"""Training a prompt predictor: what it learns, what it leaves alone, and that it can be stopped."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from napari_usgseg.core.errors import Cancelled, CheckpointError, DatasetError
from napari_usgseg.learning.labelled import LabelledImage
from napari_usgseg.learning.ppn import (
    PpnSettings,
    PpnTask,
    PpnTraining,
    ViewCache,
    box_loss,
    choose_rows,
    cross_entropy,
    dice_loss,
    focal_loss,
    mean_dice,
    train_ppn,
)
from napari_usgseg.models.ppn.card import read_card
from napari_usgseg.models.ppn.model import (
    FrozenDecoder,
    begin_at_the_mean,
    boxes_of,
    load_ppn,
    new_prompter,
)
from napari_usgseg.models.sam.nano import NanoSam
from napari_usgseg.models.sam.sam import SamSegmenter, feature_list
from napari_usgseg.phantoms.phantom import make_phantom


@pytest.fixture(scope="module")
def tiny() -> SamSegmenter:
    """An untrained nano of 64 pixels: fast, and enough where no skill is asked for."""
    torch.manual_seed(3)
    return SamSegmenter(NanoSam(64), "nano-00000003")


def phantoms(count: int, first: int = 0, kind: str = "breast") -> list[LabelledImage]:
    made = [make_phantom(first + index, (96, 128), kind) for index in range(count)]
    return [
        LabelledImage(f"p{first + i}", f"g{first + i}", p.image, p.labels)
        for i, p in enumerate(made)
    ]


def small(steps: int = 4, **changes) -> PpnSettings:
    return PpnSettings(steps=steps, task=PpnTraining(batch=2, views=2), **changes)


def weights_of(folder) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "ppn.safetensors")


def test_training_changes_no_tensor_of_the_segmenter(tmp_path, tiny):
    before = {name: tensor.clone() for name, tensor in tiny.net.state_dict().items()}
    train_ppn(phantoms(2), {1: "tumor"}, tiny, tmp_path, small())
    after = tiny.net.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(parameter.grad is None for parameter in tiny.net.parameters())
    assert all(name.startswith(("predictor.", "queries")) for name in weights_of(tmp_path))


def test_with_lora_only_its_matrices_join_the_checkpoint(tmp_path, tiny):
    before = {name: tensor.clone() for name, tensor in tiny.net.state_dict().items()}
    train_ppn(phantoms(2), {1: "tumor"}, tiny, tmp_path, small(lora_rank=2))
    assert all(torch.equal(tiny.net.state_dict()[name], t) for name, t in before.items())
    moved = [t for n, t in weights_of(tmp_path).items() if n.endswith("lora_B.default.weight")]
    assert moved
    assert any(tensor.abs().max() > 0 for tensor in moved)  # they start at zero
    assert read_card(tmp_path).lora_rank == 2


def test_a_cancelled_and_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path, tiny
):
    images, classes = phantoms(3), {1: "tumor"}
    train_ppn(images, classes, tiny, tmp_path / "whole", small(6))
    done: list[int] = []
    with pytest.raises(Cancelled):
        train_ppn(
            images, classes, tiny, tmp_path / "parts", small(6),
            progress=lambda step, steps, figures: done.append(step),
            cancelled=lambda: len(done) == 3,
        )  # fmt: skip
    assert not (tmp_path / "parts" / "ppn.json").exists()
    train_ppn(images, classes, tiny, tmp_path / "parts", small(6), resume=True)
    expected, found = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


def test_measuring_on_the_way_changes_nothing(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr("napari_usgseg.learning.ppn.CHECK_EVERY", 5)
    images = phantoms(3)
    train_ppn(images, {1: "tumor"}, tiny, tmp_path / "a", small(9))
    said: list[dict[str, float]] = []
    train_ppn(
        images, {1: "tumor"}, tiny, tmp_path / "b", small(9), held_out=phantoms(1, 90),
        progress=lambda step, steps, figures: said.append(figures),
    )  # fmt: skip
    assert [i for i, f in enumerate(said) if "held_out_dice" in f] == [4]
    first, second = weights_of(tmp_path / "a"), weights_of(tmp_path / "b")
    assert all(torch.equal(second[name], tensor) for name, tensor in first.items())


def test_a_finished_training_is_not_done_twice_and_another_one_is_refused(tmp_path, tiny):
    images = phantoms(2)
    train_ppn(images, {1: "tumor"}, tiny, tmp_path, small(), source="clinic")
    steps: list[int] = []
    again = train_ppn(
        images, {1: "tumor"}, tiny, tmp_path, small(), source="clinic", resume=True,
        progress=lambda step, total, figures: steps.append(step),
    )  # fmt: skip
    assert steps == []
    assert again.card == read_card(tmp_path)
    with pytest.raises(CheckpointError, match="differs in images"):
        train_ppn(
            phantoms(2, 5), {1: "tumor"}, tiny, tmp_path, small(), source="clinic", resume=True
        )


def test_the_card_says_what_was_learnt_from_what(tmp_path, tiny):
    model = train_ppn(
        phantoms(2), {1: "tumor"}, tiny, tmp_path, small(10, seed=7),
        source="clinic", held_out=phantoms(2, 50),
    )  # fmt: skip
    card = read_card(tmp_path)
    assert (card.source, card.images, card.seed) == ("clinic", ("p0", "p1"), 7)
    assert card.segmenter == tiny.model_id
    assert card.scores == {
        "held_out_dice": mean_dice(model, phantoms(2, 50)), "held_out_images": 2,
    }  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert all("loss" in line for line in lines)


def test_a_class_that_no_image_has_is_named(tmp_path, tiny):
    with pytest.raises(DatasetError, match="class 9 \\(stent\\) is in none of the 2"):
        train_ppn(phantoms(2), {1: "tumor", 9: "stent"}, tiny, tmp_path, small())
    with pytest.raises(DatasetError, match="no labelled image"):
        train_ppn([], {1: "tumor"}, tiny, tmp_path, small())


def test_a_class_that_is_absent_from_some_images_is_learnt_with_the_others(tmp_path, tiny):
    """Class 2 is in one image only: losses stay finite, both classes get an answer."""
    images = phantoms(2)
    labels = images[0].labels.copy()
    labels[:20, :30] = 2
    images[0] = LabelledImage("p0", "g0", images[0].image, labels)
    losses: list[float] = []
    train_ppn(
        images, {1: "tumor", 2: "cyst"}, tiny, tmp_path, small(8),
        progress=lambda step, steps, figures: losses.append(figures["loss"]),
    )  # fmt: skip
    assert np.isfinite(losses).all()
    model = load_ppn(tmp_path, tiny)
    answers = model.predict(tiny.embed(images[1].image))
    assert list(answers) == [1, 2]
    assert not np.array_equal(answers[1].low_res_logits, answers[2].low_res_logits)


def test_a_handful_of_phantoms_teaches_nano_what_to_segment(tmp_path, nano_segmenter):
    """Four fetal heads, images never learnt from: at least 0.2 Dice above no training at all."""
    images, others = phantoms(4, kind="fetal-head"), phantoms(4, 500, kind="fetal-head")
    classes = {1: "fetal head"}
    how = PpnTraining(batch=2, views=0)
    views = ViewCache(nano_segmenter, images, [1], seed=0)
    before, after = (
        train_ppn(
            images, classes, nano_segmenter, tmp_path / str(steps),
            PpnSettings(steps=steps, lr=lr, task=how), views=views,
        )
        for steps, lr in ((1, 1e-9), (20, 2e-3))
    )  # fmt: skip
    assert mean_dice(after, others) > max(0.6, mean_dice(before, others) + 0.2)


def test_without_augmentation_the_encoder_never_runs(tiny):
    images = [
        LabelledImage(i.image_id, i.group, i.image, i.labels, tiny.embed(i.image))
        for i in phantoms(2)
    ]
    views = ViewCache(tiny, images, [1], seed=0)
    for index in (0, 1, 0):
        views.get(index, 0)
    assert views.encoded == 0


def test_each_view_is_encoded_once_and_does_not_depend_on_when(tiny):
    views = ViewCache(tiny, phantoms(2), [1], seed=0)
    first = views.get(1, 2)
    for view in (0, 1, 2, 1):
        views.get(1, view)
    assert views.encoded == 3
    other = ViewCache(tiny, phantoms(2), [1], seed=0).get(1, 2)
    assert torch.equal(first.targets, other.targets)
    assert all(torch.equal(a, b) for a, b in zip(first.features, other.features, strict=True))
    assert not torch.equal(first.targets, views.get(1, 1).targets)


def test_the_cache_of_views_keeps_to_its_limit(tiny):
    size = ViewCache(tiny, phantoms(1), [1], seed=0).get(0, 0).nbytes
    views = ViewCache(tiny, phantoms(1), [1], seed=0, limit=2 * size)
    for view in (0, 1, 2, 0):
        views.get(0, view)
    assert views.encoded == 4  # view 0 was dropped for view 2
    views.get(0, 2)
    assert views.encoded == 4


def test_a_bent_view_keeps_image_and_mask_together(tiny):
    """The image is its own mask, so in every view bright and covered must be the same place."""

    class Seeing:
        model_id = tiny.model_id

        def embed(self, image, image_id=""):
            self.image = image
            return tiny.embed(image, image_id)

    labels = np.zeros((80, 120), np.uint8)
    labels[20:50, 30:90] = 1
    image = np.repeat((labels * 200)[..., None], 3, axis=2)
    segmenter = Seeing()
    views = ViewCache(segmenter, [LabelledImage("a", "a", image, labels)], [1], seed=1)
    for view in range(6):
        target = views.get(0, view).targets[0].float() / 255
        seen = torch.from_numpy(segmenter.image[..., 0].copy()).float()[None, None]
        small = torch.nn.functional.interpolate(seen, target.shape, mode="area")[0, 0]
        bright = (small > 0.5 * small.max()).float()
        overlap = 2 * (bright * target).sum() / (bright.sum() + target.sum())
        assert overlap > 0.85, f"view {view}: {overlap:.2f}"


def test_classes_that_are_there_are_asked_first():
    targets = torch.zeros(2, 5, 4, 4)
    targets[1, 3] = 1
    rng = np.random.default_rng(0)
    picks = [choose_rows(targets, 1, rng).tolist() for _ in range(200)]
    assert 0.7 < picks.count([3]) / 200 < 0.95
    assert choose_rows(targets, 9, rng).tolist() == [0, 1, 2, 3, 4]


def test_boxes_of_masks_are_tight():
    masks = torch.zeros(2, 1, 8, 10)
    masks[0, 0, 2:6, 5:8] = 1
    torch.testing.assert_close(boxes_of(masks)[0], torch.tensor([0.5, 0.25, 0.8, 0.75]))


def test_the_papers_losses_are_focal_box_and_object_by_ten_one_one(tiny):
    samples = phantoms(2)
    how = PpnTraining(batch=2, views=0).with_paper_losses()
    views = ViewCache(tiny, samples, [1], seed=0)
    task = PpnTask(new_prompter(tiny, 1), FrozenDecoder(tiny), views, how)
    loss, parts = task.loss(0, np.random.default_rng(0))
    expected = 10 * parts["mask"] + parts["box"] + parts["object"]
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert how.batch == 2


def test_losses_are_least_at_the_truth():
    target = torch.zeros(1, 1, 8, 8)
    target[..., 2:6, 2:6] = 1
    right, wrong = (target - 0.5) * 20, (0.5 - target) * 20
    assert focal_loss(right, target) < 1e-6 < focal_loss(wrong, target)
    assert cross_entropy(right, target) < 1e-4 < 1 < cross_entropy(wrong, target)
    assert dice_loss(right, target) < 0.01 < dice_loss(wrong, target)
    box = torch.tensor([[0.2, 0.2, 0.6, 0.7]])
    assert box_loss(box, box) == pytest.approx(0, abs=1e-6)
    far, farther = torch.tensor([[0.7, 0.8, 0.9, 0.9]]), torch.tensor([[0.9, 0.9, 0.95, 0.95]])
    assert 1 < box_loss(box, far) < box_loss(box, farther)  # generalised: also apart


def test_an_untrained_network_begins_at_the_mean_box_with_few_object_pixels(tiny):
    torch.manual_seed(0)
    prompter = new_prompter(tiny, 1, levels=1)
    masks = torch.zeros(2, 1, 16, 16)
    masks[0, 0, 4:12, 2:10] = 1
    masks[1, 0, 4:12, 6:14] = 1
    begin_at_the_mean(prompter, masks)
    features = [f.clone() for f in feature_list(tiny.embed(phantoms(1)[0].image))]
    with torch.no_grad():
        learned = prompter.eval()(FrozenDecoder(tiny).prompt_encoder, features)
    expected = torch.tensor([[0.25, 0.25, 0.75, 0.75]])
    torch.testing.assert_close(learned.boxes, expected, atol=0.1, rtol=0)
    assert 0.1 < float(learned.mask_logits.sigmoid().mean()) < 0.45

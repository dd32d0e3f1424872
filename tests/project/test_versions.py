"""Versions of prompt predictors on disk: there or not there, and which is in use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_usgseg.core.errors import CheckpointError
from napari_usgseg.models.lora.card import AdapterCard, write_adapter_card
from napari_usgseg.models.ppn.card import PpnCard, write_card
from napari_usgseg.project.versions import (
    ModelVersion,
    Shelf,
    number_in,
    read_request,
    readable,
    tuned_number_in,
    write_version,
)

REQUEST = {"annotator": "", "images": ["a", "b"]}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "models")


def finish(shelf: Shelf, promoted: bool = True, dice: float = 0.84) -> None:
    """What a training leaves when it is done."""
    shelf.begin(REQUEST)
    folder = shelf.training
    (folder / "ppn.safetensors").write_bytes(b"weights")
    write_card(folder, PpnCard({1: "nerve"}, "nano-0123abcd", {}))
    version = ModelVersion(
        "ppn",
        0,
        folder,
        {1: "nerve"},
        24,
        {1: 20},
        "nano-0123abcd",
        dice,
        "measured",
        promoted,
        1.0,
    )
    write_version(folder, version)


def test_a_training_that_is_done_gets_the_next_number(shelf):
    assert shelf.read().items == ()
    finish(shelf)
    assert shelf.read().items == ()
    versions = shelf.settle()
    assert [item.number for item in versions.items] == [1]
    assert versions.current == 1
    assert versions.items[0].badge == "PPN v1, held-out Dice 0.84, 24 images"
    assert versions.items[0].per_class == {1: 20}
    assert versions.unfinished is None
    finish(shelf)
    assert [item.number for item in shelf.settle().items] == [1, 2]
    assert shelf.settle() == shelf.read()


def test_the_newest_promoted_one_is_in_use_until_another_is_chosen(shelf):
    for promoted in (True, True, False):
        finish(shelf, promoted)
        shelf.settle()
    assert shelf.read().current == 2
    assert shelf.choose(1).current == 1
    assert shelf.choose(None).current is None
    assert shelf.choose(3).current == 3  # not promoted, but the person wants it
    finish(shelf, promoted=False)
    assert shelf.settle().current == 3
    finish(shelf, promoted=True)
    assert shelf.settle().current == 5
    with pytest.raises(CheckpointError, match="no PPN v9 here"):
        shelf.choose(9)


def test_an_unfinished_training_rests_goes_on_or_is_given_up(shelf):
    versions = shelf.begin(REQUEST)
    assert (versions.unfinished.images, versions.unfinished.paused) == (2, False)
    (shelf.training / "training.pt").write_bytes(b"state")
    assert shelf.pause().unfinished.paused
    assert not shelf.resume({}).unfinished.paused
    assert (shelf.training / "training.pt").exists()
    assert shelf.discard().unfinished is None
    assert list(shelf.folder.iterdir()) == []
    with pytest.raises(CheckpointError, match="train again"):
        shelf.pause()


def test_beginning_another_training_keeps_one_that_is_done(shelf):
    finish(shelf)
    shelf.begin(REQUEST)
    assert [item.number for item in shelf.read().items] == [1]


@pytest.mark.parametrize("name", ["version.json", "ppn.json", "ppn.safetensors"])
@pytest.mark.parametrize("damage", ["torn", "gone"])
def test_a_damaged_version_is_named_and_the_others_are_there(shelf, name, damage):
    for _ in range(2):
        finish(shelf)
        shelf.settle()
    path = shelf.folder / "ppn-v0002" / name
    if damage == "gone":
        path.unlink()
    elif name.endswith(".json"):
        path.write_text('{"schema": 1, "classes": [')
    else:
        pytest.skip("weights are looked into when they are used")
    versions = shelf.read()
    assert [item.number for item in versions.items] == [1]
    assert versions.current == 1
    assert len(versions.problems) == 1
    assert name in versions.problems[0]


def test_a_version_that_was_in_use_and_is_gone_is_a_sentence(shelf):
    for _ in range(2):
        finish(shelf)
        shelf.settle()
    shelf.choose(1)
    (shelf.folder / "ppn-v0001").rename(shelf.folder / "elsewhere")
    versions = shelf.read()
    assert versions.current is None
    assert "PPN v1 was in use and is gone or damaged" in versions.problems[0]


def test_damaged_notes_are_sentences_too(shelf):
    finish(shelf)
    shelf.settle()
    (shelf.folder / "chosen.json").write_text('{"number": 1, "newest": "one"}')
    assert "choose a version again" in shelf.read().problems[0]
    (shelf.folder / "chosen.json").write_text("[1")
    shelf.begin(REQUEST)
    (shelf.training / "request.json").write_text(json.dumps({"schema": 7}))
    versions = shelf.read()
    assert versions.current == 1
    assert versions.unfinished is None
    assert len(versions.problems) == 2
    assert "choose a version again" in versions.problems[0]
    assert "train again" in versions.problems[1]


@pytest.mark.parametrize(
    ("model_id", "number"),
    [("ppn-v3@nano-01", 3), ("ppn-v12@x", 12), ("nano-01", 0), ("nano + nano-1", 0), ("", 0)],
)
def test_the_number_of_a_version_is_in_the_id_of_its_proposals(model_id, number):
    assert number_in(model_id) == number


def test_what_a_killed_training_or_removal_left_behind_is_cleared_away(shelf):
    finish(shelf)
    (shelf.training / "fold-1").mkdir()
    (shelf.training / "labels.npz").write_bytes(b"maps")
    (shelf.folder / ".training-123" / "fold-1").mkdir(parents=True)
    (version,) = shelf.settle().items
    assert not list(version.folder.glob("fold-*"))
    assert not (version.folder / "labels.npz").exists()
    shelf.discard()
    assert not list(shelf.folder.glob(".training-*"))
    assert shelf.settle().items == (version,)  # no second one


def finish_tuning(shelf: Shelf) -> None:
    """What the training of an adapter leaves when it is done."""
    shelf.begin(REQUEST)
    folder = shelf.training
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).write_bytes(b"peft")
    (folder / "last").mkdir()
    write_adapter_card(folder, AdapterCard("nano", "nano-0123abcd"))
    version = ModelVersion("lora", 0, folder, {1: "nerve"}, 1, {1: 1}, "nano", 0.7, "-", True, 1.0)
    write_version(folder, version)


def test_adapters_and_prompt_predictors_are_beside_each_other_and_do_not_meet(shelf):
    tuned = Shelf(shelf.folder, "lora")
    finish_tuning(tuned)
    shelf.begin(REQUEST)
    assert tuned.settle().items[0].badge == "Tuned v1, held-out Dice 0.70, 1 image"
    assert tuned.choose(None).current is None
    finish(shelf)
    assert [item.name for item in shelf.settle().items] == ["ppn-v1"]
    assert [item.name for item in tuned.read().items] == ["lora-v1"]
    assert (shelf.read().current, tuned.read().current) == (1, None)
    tuned.begin(REQUEST)
    assert shelf.read().unfinished is None
    assert tuned.read().unfinished.folder.name == "tuning"
    assert not (shelf.folder / "lora-v0001" / "last").exists()


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_that_lacks_a_file_is_named(shelf, name):
    tuned = Shelf(shelf.folder, "lora")
    finish_tuning(tuned)
    tuned.settle()
    (shelf.folder / "lora-v0001" / name).unlink()
    versions = tuned.read()
    assert (versions.items, versions.current) == ((), None)
    assert name in versions.problems[0]


def test_a_version_of_before_is_read_though_its_base_had_another_name(shelf):
    finish(shelf)
    shelf.settle()
    path = shelf.folder / "ppn-v0001" / "version.json"
    entry = json.loads(path.read_text())
    del entry["kind"]
    entry["segmenter"] = entry.pop("base")
    path.write_text(json.dumps(entry))
    assert shelf.read().items[0].base == "nano-0123abcd"
    assert shelf.read().problems == ()


def test_who_found_a_proposal_is_read_from_its_id():
    model_id = "nano-0123abcd+lora-v0012-89ef + nano-7654fedc"
    assert tuned_number_in(model_id) == 12
    assert readable(model_id) == "Tuned v12 + nano-7654fedc"
    for other in ("nano-0123abcd + nano-7654fedc", "nano-01+kidneys-89ef + nano-76", "ppn-v3@nano"):
        assert tuned_number_in(other) == 0
        assert readable(other) == other


def test_a_training_that_rested_is_compared_with_what_is_in_use_when_it_goes_on(shelf):
    chosen = {"segmenter": "nano", "detector": "nano"}
    shelf.begin({**REQUEST, **chosen, "adapter": None, "against": None})
    shelf.pause()
    shelf.resume({**chosen, "adapter": 1, "against": 2})
    request = read_request(shelf.training)
    assert (request["adapter"], request["against"], request["paused"]) == (1, 2, False)
    shelf.resume({**chosen, "detector": "nano-dino", "adapter": None, "against": None})
    assert read_request(shelf.training) == request

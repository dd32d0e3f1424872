"""Versions of prompt predictors on disk: there or not there, and which is in use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_usgseg.errors import CheckpointError
from napari_usgseg.models.ppn_card import PpnCard, write_card
from napari_usgseg.store.shelf import Shelf, write_version
from napari_usgseg.store.versions import ModelVersion, number_in

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
    assert not shelf.pause(False).unfinished.paused
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

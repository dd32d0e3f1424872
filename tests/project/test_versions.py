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
    VersionStore,
    model_name,
    number_in,
    read_request,
    tuned_number_in,
    write_version,
)

REQUEST = {"annotator": "", "images": ["a", "b"]}


@pytest.fixture
def version_store(tmp_path: Path) -> VersionStore:
    return VersionStore(tmp_path / "models")


def finish(version_store: VersionStore, promoted: bool = True, dice: float = 0.84) -> None:
    """What a training leaves when it is done."""
    version_store.begin(REQUEST)
    folder = version_store.training
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


def test_a_training_that_is_done_gets_the_next_number(version_store):
    assert version_store.read().items == ()
    finish(version_store)
    assert version_store.read().items == ()
    versions = version_store.register()
    assert [item.number for item in versions.items] == [1]
    assert versions.current == 1
    assert versions.items[0].badge == "PPN v1, held-out Dice 0.84, 24 images"
    assert versions.items[0].per_class == {1: 20}
    assert versions.unfinished is None
    finish(version_store)
    assert [item.number for item in version_store.register().items] == [1, 2]
    assert version_store.register() == version_store.read()


def test_the_newest_promoted_one_is_in_use_until_another_is_chosen(version_store):
    for promoted in (True, True, False):
        finish(version_store, promoted)
        version_store.register()
    assert version_store.read().current == 2
    assert version_store.choose(1).current == 1
    assert version_store.choose(None).current is None
    assert version_store.choose(3).current == 3  # not promoted, but the person wants it
    finish(version_store, promoted=False)
    assert version_store.register().current == 3
    finish(version_store, promoted=True)
    assert version_store.register().current == 5
    with pytest.raises(CheckpointError, match="no PPN v9 here"):
        version_store.choose(9)


def test_an_unfinished_training_rests_goes_on_or_is_given_up(version_store):
    versions = version_store.begin(REQUEST)
    assert (versions.unfinished.images, versions.unfinished.paused) == (2, False)
    (version_store.training / "training.pt").write_bytes(b"state")
    assert version_store.pause().unfinished.paused
    assert not version_store.resume({}).unfinished.paused
    assert (version_store.training / "training.pt").exists()
    assert version_store.discard().unfinished is None
    assert list(version_store.folder.iterdir()) == []
    with pytest.raises(CheckpointError, match="train again"):
        version_store.pause()


def test_beginning_another_training_keeps_one_that_is_done(version_store):
    finish(version_store)
    version_store.begin(REQUEST)
    assert [item.number for item in version_store.read().items] == [1]


@pytest.mark.parametrize("name", ["version.json", "ppn.json", "ppn.safetensors"])
@pytest.mark.parametrize("damage", ["torn", "gone"])
def test_a_damaged_version_is_named_and_the_others_are_there(version_store, name, damage):
    for _ in range(2):
        finish(version_store)
        version_store.register()
    path = version_store.folder / "ppn-v0002" / name
    if damage == "gone":
        path.unlink()
    elif name.endswith(".json"):
        path.write_text('{"schema": 1, "classes": [')
    else:
        pytest.skip("weights are looked into when they are used")
    versions = version_store.read()
    assert [item.number for item in versions.items] == [1]
    assert versions.current == 1
    assert len(versions.problems) == 1
    assert name in versions.problems[0]


def test_a_version_that_was_in_use_and_is_gone_is_a_sentence(version_store):
    for _ in range(2):
        finish(version_store)
        version_store.register()
    version_store.choose(1)
    (version_store.folder / "ppn-v0001").rename(version_store.folder / "elsewhere")
    versions = version_store.read()
    assert versions.current is None
    assert "PPN v1 was in use and is gone or damaged" in versions.problems[0]


def test_damaged_notes_are_sentences_too(version_store):
    finish(version_store)
    version_store.register()
    (version_store.folder / "chosen.json").write_text('{"number": 1, "newest": "one"}')
    assert "choose a version again" in version_store.read().problems[0]
    (version_store.folder / "chosen.json").write_text("[1")
    version_store.begin(REQUEST)
    (version_store.training / "request.json").write_text(json.dumps({"schema": 7}))
    versions = version_store.read()
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


def test_what_a_killed_training_or_removal_left_behind_is_cleared_away(version_store):
    finish(version_store)
    (version_store.training / "fold-1").mkdir()
    (version_store.training / "labels.npz").write_bytes(b"maps")
    (version_store.folder / ".training-123" / "fold-1").mkdir(parents=True)
    (version,) = version_store.register().items
    assert not list(version.folder.glob("fold-*"))
    assert not (version.folder / "labels.npz").exists()
    version_store.discard()
    assert not list(version_store.folder.glob(".training-*"))
    assert version_store.register().items == (version,)  # no second one


def finish_tuning(version_store: VersionStore) -> None:
    """What the training of an adapter leaves when it is done."""
    version_store.begin(REQUEST)
    folder = version_store.training
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).write_bytes(b"peft")
    (folder / "last").mkdir()
    write_adapter_card(folder, AdapterCard("nano", "nano-0123abcd"))
    version = ModelVersion("lora", 0, folder, {1: "nerve"}, 1, {1: 1}, "nano", 0.7, "-", True, 1.0)
    write_version(folder, version)


def test_adapters_and_prompt_predictors_are_beside_each_other_and_do_not_meet(version_store):
    tuned = VersionStore(version_store.folder, "lora")
    finish_tuning(tuned)
    version_store.begin(REQUEST)
    assert tuned.register().items[0].badge == "Tuned v1, held-out Dice 0.70, 1 image"
    assert tuned.choose(None).current is None
    finish(version_store)
    assert [item.name for item in version_store.register().items] == ["ppn-v1"]
    assert [item.name for item in tuned.read().items] == ["lora-v1"]
    assert (version_store.read().current, tuned.read().current) == (1, None)
    tuned.begin(REQUEST)
    assert version_store.read().unfinished is None
    assert tuned.read().unfinished.folder.name == "tuning"
    assert not (version_store.folder / "lora-v0001" / "last").exists()


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_that_lacks_a_file_is_named(version_store, name):
    tuned = VersionStore(version_store.folder, "lora")
    finish_tuning(tuned)
    tuned.register()
    (version_store.folder / "lora-v0001" / name).unlink()
    versions = tuned.read()
    assert (versions.items, versions.current) == ((), None)
    assert name in versions.problems[0]


def test_a_version_of_before_is_read_though_its_base_had_another_name(version_store):
    finish(version_store)
    version_store.register()
    path = version_store.folder / "ppn-v0001" / "version.json"
    entry = json.loads(path.read_text())
    del entry["kind"]
    entry["segmenter"] = entry.pop("base")
    path.write_text(json.dumps(entry))
    assert version_store.read().items[0].base == "nano-0123abcd"
    assert version_store.read().problems == ()


def test_who_found_a_proposal_is_read_from_its_id():
    model_id = "nano-0123abcd+lora-v0012-89ef + nano-7654fedc"
    assert tuned_number_in(model_id) == 12
    assert model_name(model_id) == "Tuned v12 + nano"
    for other, name in (
        ("nano-0123abcd + nano-7654fedc", "nano"),
        ("nano-dino-0123abcd + sam2.1-hiera-tiny-7654fedc", "nano-dino + sam2.1-hiera-tiny"),
        ("nano-01+kidneys-89ef + nano-76", "nano-01+kidneys-89ef + nano-76"),
        ("ppn-v0003@nano-0123abcd", "PPN v3"),
        ("", ""),
    ):
        assert tuned_number_in(other) == 0
        assert model_name(other) == name


def test_a_training_that_rested_is_compared_with_what_is_in_use_when_it_goes_on(version_store):
    chosen = {"segmenter": "nano", "detector": "nano"}
    version_store.begin({**REQUEST, **chosen, "adapter": None, "against": None})
    version_store.pause()
    version_store.resume({**chosen, "adapter": 1, "against": 2})
    request = read_request(version_store.training)
    assert (request["adapter"], request["against"], request["paused"]) == (1, 2, False)
    version_store.resume({**chosen, "detector": "nano-dino", "adapter": None, "against": None})
    assert read_request(version_store.training) == request

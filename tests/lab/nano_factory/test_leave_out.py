"""Leaving out: every data set is held once, with all of its organ, and never seen then."""

import pytest

from napari_usgseg.core.errors import DatasetError
from napari_usgseg.lab.nano_factory.leave_out import leave_out
from napari_usgseg.phantoms.phantom import write_phantom_dataset


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    for name, kind in (("a", "breast"), ("b", "liver"), ("c", "cysts-and-vessels")):
        write_phantom_dataset(root / name, 1, seed=1, kind=kind, size_hw=(48, 64))
    return [root / name for name in "abc"]


def test_every_set_is_held_once_and_the_others_are_seen(folders):
    trainings = leave_out(folders, "set")
    assert [each.held for each in trainings] == [(folder,) for folder in folders]
    for each in trainings:
        assert set(each.held) | set(each.kept) == set(folders)
        assert not set(each.held) & set(each.kept)


def test_sets_of_one_organ_are_held_together(folders):
    held = {each.name: each.held for each in leave_out(folders, "organ")}
    assert held == {"breast": (folders[0],), "liver": tuple(folders[1:])}


def test_a_single_organ_cannot_be_left_out(folders):
    with pytest.raises(DatasetError, match="only organ"):
        leave_out(folders[1:], "organ")

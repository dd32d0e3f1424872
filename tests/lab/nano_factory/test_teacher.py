from __future__ import annotations

from napari_usgseg.lab.nano_factory.materials import cache_path


def test_what_the_teacher_said_is_kept_inside_its_folder_by_data_set_and_item(tmp_path):
    assert cache_path(tmp_path, "BUSI", "case7.10") == tmp_path / "BUSI" / "case7.10.npz"
    names = [(d, i) for d in ("a", "../a", "/a", "..") for i in ("b", "../b", "c/b", "/b", "")]
    places = {cache_path(tmp_path, *name) for name in names}
    assert len(places) == len(names)
    assert {place.resolve().parent.parent for place in places} == {tmp_path.resolve()}

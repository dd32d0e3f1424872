"""Which images are among files and folders, and what is said of the rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_usgseg.io.reading.files import is_dicom
from napari_usgseg.io.search import LeftOut, left_out, search_images

DICOM = b"\0" * 128 + b"DICM"
SEARCH = "--recursive searches them too"


@pytest.fixture
def mixed(tmp_path) -> Path:
    folder = tmp_path / "scans"
    for name in ("a.png", "b.TXT", "c.txt", "d.pdf", "._a.png", ".DS_Store", "Thumbs.db"):
        _write(folder / name)
    _write(folder / "IM0001")
    for name in ("patient 2/g.png", "patient 10/g.png", "patient 2/deep/h.tif"):
        _write(folder / name)
    return folder


def _write(path: Path, data: bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_what_is_left_out_is_counted_by_suffix_and_said_with_the_cure(mixed):
    others = left_out(mixed)
    assert others == LeftOut({".txt": 2, ".pdf": 1, "": 1}, ("patient 2", "patient 10"))
    files, folders = others.sentences(SEARCH)
    assert files.startswith("4 other files were left out (2 .txt, 1 .pdf, 1 without a suffix)")
    assert "DICOM, PNG, JPEG" in files
    assert folders == f"2 folders were not searched (patient 2, patient 10): {SEARCH}."


def test_a_folder_of_images_alone_needs_no_word(tmp_path):
    _write(tmp_path / "a.png")
    assert left_out(tmp_path).sentences(SEARCH) == []


def test_many_suffixes_and_folders_are_counted_and_a_few_named(tmp_path):
    for index in range(9):
        _write(tmp_path / f"f{index}" / "a.png")
        _write(tmp_path / f"a.s{index}")
    files, folders = left_out(tmp_path).sentences(SEARCH)
    assert "9 other files" in files
    assert ".s0" in files
    assert "and 3 more" in files
    assert folders.startswith("9 folders were not searched (f0, f1, f2, f3, f4, f5, and 3 more)")


def test_what_the_program_wrote_is_no_image_of_the_persons(tmp_path):
    _write(tmp_path / "a.png")
    for name in ("out/run.json", "out/classes.json", "out/a.png", "usgseg/project.sqlite"):
        _write(tmp_path / name)
    _write(tmp_path / "usgseg" / "labels" / "a.png")
    for recursive in (False, True):
        found = search_images([tmp_path], recursive=recursive)
        assert found.files == (tmp_path / "a.png",)
        assert found.left_out == LeftOut()


def test_a_folder_with_one_file_of_a_name_that_we_use_is_searched(tmp_path):
    for name in ("p/run.json", "p/a.png", "q/classes.json", "q/a.png"):
        _write(tmp_path / name)
    assert len(search_images([tmp_path], recursive=True).files) == 2


def test_folders_below_are_searched_where_asked_for_and_are_the_group(mixed):
    found = search_images([mixed], recursive=True)
    names = [path.relative_to(mixed).as_posix() for path in found.files]
    assert names == ["a.png", "patient 2/g.png", "patient 2/deep/h.tif", "patient 10/g.png"]
    assert [found.groups.get(path, "") for path in found.files] == [
        "", "patient 2", "patient 2/deep", "patient 10",
    ]  # fmt: skip
    assert found.left_out.folders == ()


def test_links_to_folders_are_followed_once_and_never_in_a_circle(tmp_path):
    _write(tmp_path / "scans" / "a.png")
    _write(tmp_path / "elsewhere" / "b.png")
    (tmp_path / "scans" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "scans" / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "scans")
    found = search_images([tmp_path / "scans"], recursive=True)
    assert [path.name for path in found.files] == ["a.png", "b.png"]
    assert found.problems == ()


def test_a_folder_that_was_searched_after_all_is_not_said_to_be_left_out(mixed):
    inputs = [mixed, mixed / "patient 2", mixed / "patient 10", mixed]
    found = search_images(inputs)
    assert len(found.files) == 3
    assert found.left_out.folders == ("deep",)
    assert sum(found.left_out.suffixes.values()) == 4, "no file is counted twice"


def test_one_file_by_several_ways_is_one_and_two_files_are_two(mixed, tmp_path):
    (tmp_path / "way").symlink_to(mixed)
    ways = [mixed / "a.png", mixed / ".." / "scans" / "a.png", tmp_path / "way" / "a.png"]
    assert search_images(ways).files == (mixed / "a.png",)
    os.link(mixed / "a.png", mixed / "copy.png")
    assert len(search_images([mixed]).files) == 2


def test_names_that_differ_in_case_are_two_files(tmp_path):
    for name in ("a.png", "A.png"):
        _write(tmp_path / name)
    if len(os.listdir(tmp_path)) < 2:
        pytest.skip("this file system ignores case")
    assert {path.name for path in search_images([tmp_path]).files} == {"a.png", "A.png"}


def test_what_cannot_be_read_is_named_and_the_rest_is_found(tmp_path, monkeypatch):
    _write(tmp_path / "a.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "closed").mkdir()
    listed = Path.iterdir

    def iterdir(folder):
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    found = search_images([tmp_path, tmp_path / "absent.png"], recursive=True)
    assert found.files == (tmp_path / "a.png",)
    said = "\n".join(map(str, found.problems))
    assert "gone.png: a link to" in said
    assert "closed: the folder cannot be read" in said
    assert "absent.png: no such file or folder" in said
    assert len(found.problems) == 3


def test_dicom_is_known_by_its_content_where_its_name_says_nothing(tmp_path):
    old = b"\x08\0\x05\0" + b"CS\x0a\0ISO_IR 100" + bytes(99)  # without a preamble
    for name, data, truth in (
        ("a", DICOM, True), ("1.2.840.17", DICOM, True), ("old", old, True), ("b", b"DICM", False),
        ("c", b"", False), ("DICOMDIR", DICOM, True),
    ):  # fmt: skip
        _write(tmp_path / name, data)
        assert is_dicom(tmp_path / name) is truth
    assert not is_dicom(tmp_path / "absent")
    found = search_images([tmp_path])
    assert [path.name for path in found.files] == ["1.2.840.17", "a", "old"]
    assert found.left_out.suffixes == {"": 3}


def test_loops_and_volumes_are_images_too(tmp_path):
    names = ["a.dcm", "b.mp4", "c.GIF", "d.nii.gz", "e.mha", "f.webm", "g.nrrd", "h.webp"]
    for name in (*names, "i.gz"):
        _write(tmp_path / name)
    found = search_images([tmp_path])
    assert [path.name for path in found.files] == names
    assert found.left_out.suffixes == {".gz": 1}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(["x.png", "y.JPG", "z.gif", "w.dcm", "v", "u.tar.gz"])))
def test_every_file_is_an_image_or_left_out(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("any")
    for name in names:
        _write(folder / name)
    found = search_images([folder])
    assert len(found.files) + sum(found.left_out.suffixes.values()) == len(set(names))

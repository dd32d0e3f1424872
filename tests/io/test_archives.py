"""Images in ZIP archives: all that is one comes in, and nothing else comes out."""

from __future__ import annotations

import os
import stat
import struct
import time
import zipfile
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_usgseg.core.errors import ImageReadError
from napari_usgseg.io import archives
from napari_usgseg.io.archives import by_archive, is_archive, located, names_in, unpacked
from napari_usgseg.io.images import read_image
from napari_usgseg.io.outputs import CACHE_VARIABLE
from napari_usgseg.io.search import search_images
from tests.support.dicom import write_dicom

PICTURE = np.arange(60 * 80, dtype=np.uint8).reshape(60, 80)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def png(value: int = 0) -> bytes:
    file = BytesIO()
    Image.fromarray(PICTURE + np.uint8(value)).save(file, "PNG")
    return file.getvalue()


def packed(path, members, method=zipfile.ZIP_DEFLATED):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def study(tmp_path):
    """A study as archives send it: DICOM without suffix in folders, and what is none of it."""
    dicom = write_dicom(tmp_path / "IM1", PICTURE[None]).read_bytes()
    return packed(
        tmp_path / "sent" / "study.zip",
        {
            "DICOM/A/IM0001": dicom, "DICOM/A/IM0002": dicom, "DICOMDIR": dicom,
            "b.png": png(), "README.txt": "x", "__MACOSX/._b.png": "x", ".hidden.png": png(),
            "more.zip": b"PK\3\4",
        },
    )  # fmt: skip


def test_all_images_of_a_study_come_in_and_nothing_is_written_beside_it(study):
    before = sorted(study.parent.iterdir())
    found = search_images([study])
    assert [path.name for path in found.files] == ["IM0001", "IM0002", "b.png"]
    assert [found.groups.get(path) for path in found.files] == ["DICOM/A", "DICOM/A", None]
    for path in found.files:
        np.testing.assert_array_equal(read_image(path)[..., 0], PICTURE)
    assert found.left_out.suffixes == {".txt": 1, ".zip": 1, "": 1}
    assert found.problems == ()
    assert sorted(study.parent.iterdir()) == before


def test_an_archive_in_a_folder_is_as_a_folder_that_is_searched(study):
    (study.parent / "a.png").write_bytes(png())
    found = search_images([study.parent])
    assert [path.name for path in found.files] == ["a.png", "IM0001", "IM0002", "b.png"]
    assert list(found.groups.values()) == ["study/DICOM/A", "study/DICOM/A", "study"]


def test_it_is_unpacked_once_and_again_where_the_cache_was_emptied(study, cache):
    first = unpacked(study)
    times = [path.stat().st_mtime_ns for path in first.files]
    archives._unpacked.cache_clear()  # as another process
    assert unpacked(study) == first
    assert [path.stat().st_mtime_ns for path in first.files] == times
    first.files[0].unlink()
    archives._unpacked.cache_clear()
    assert unpacked(study) == first
    assert first.files[0].is_file()
    if os.name == "posix":
        assert stat.S_IMODE((cache / "archives").stat().st_mode) == 0o700


def test_what_was_not_used_for_long_is_removed(study, cache):
    old = unpacked(study)
    card = old.folder.parent / "archive.json"
    long_ago = time.time() - 86_400 * (archives.KEPT_DAYS + 1)
    os.utime(card, (long_ago, long_ago))
    unpacked(packed(study.with_name("other.zip"), {"a.png": png()}))
    assert not old.folder.parent.exists()


NAMES = ("../../out.png", "/etc/out.png", "C:\\out.png", "..\\..\\out.png", "a/./../b.png",
         "con.png", "a\0b.png", "\0.png", "x" * 300 + ".png", "ä/ö.png", "A.png",
         "a.png")  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(NAMES) | st.text(max_size=12).map(lambda t: f"{t}.png"), max_size=6)
)
def test_no_name_leads_out_of_the_cache_and_no_two_files_are_one(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("zip")
    path = folder / "a.zip"
    kept = [n for n in names if n.encode("utf-8", "ignore").decode() == n]
    with zipfile.ZipFile(path, "w") as archive:
        for index, name in enumerate(kept):
            archive.writestr(zipfile.ZipInfo(name), bytes([index]))
    found = unpacked(path)
    assert len({os.path.normcase(file) for file in found.files}) == len(found.files)
    for file in found.files:
        assert file.resolve().is_relative_to(found.folder.resolve())
        assert file.is_file()
    assert [file.name for file in folder.iterdir()] == ["a.zip"]


def test_a_damaged_or_encrypted_file_costs_itself_alone(tmp_path):
    path = packed(
        tmp_path / "a.zip", {n: png(i) for i, n in enumerate(("a.png", "b.png", "c.png"))}, 0
    )
    data = bytearray(path.read_bytes())
    at = data.index(b"IDAT")
    data[at + 10] ^= 255  # of a.png
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        found = [i for i in range(len(data)) if data[i : i + 4] == mark]
        data[found[1] + place] |= 1  # of b.png
    path.write_bytes(data)
    result = search_images([path])
    assert [file.name for file in result.files] == ["c.png"]
    said = [str(problem).removeprefix(f"{path}/") for problem in result.problems]
    assert said == [
        "a.png: is damaged in the archive; pack or copy it again",
        "b.png: is encrypted; unpack the archive with its password, give the folder",
    ]


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_a_file_that_is_torn_costs_itself_alone_however_it_is_packed(tmp_path, method):
    path = packed(tmp_path / "a.zip", {"a.png": png(), "b.png": png(1)}, method)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        size = archive.infolist()[0].compress_size
    for number, at in enumerate(np.linspace(2, size - 8, 9).astype(int)):
        data = bytearray(whole)
        data[35 + at] ^= 255  # behind its header of 30 bytes and its name; LZMA ignores two more
        torn = tmp_path / str(number) / "a.zip"
        torn.parent.mkdir()
        torn.write_bytes(data)
        result = search_images([torn])
        assert [file.name for file in result.files] == ["b.png"], at
        assert ["is damaged in the archive" in str(each) for each in result.problems] == [True]
    torn.write_bytes(whole)
    assert len(search_images([torn]).files) == 2, "it was copied again"


def test_a_link_in_an_archive_stays_packed(tmp_path):
    link = zipfile.ZipInfo("a.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert unpacked(tmp_path / "a.zip").files == ()


def test_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch, cache):
    bomb = packed(tmp_path / "a.zip", {"a.dcm": bytes(2**25), "b.png": png()})
    found = unpacked(bomb)
    assert [file.name for file in found.files] == ["b.png"]
    assert "bomb" in found.problems["a.dcm"]
    monkeypatch.setattr(archives, "MAX_BYTES", 3 * len(png()))
    many = packed(tmp_path / "many.zip", {f"{n}.png": png(n) for n in range(9)})
    with pytest.raises(ImageReadError, match="bytes would come out of it"):
        unpacked(many)
    monkeypatch.setattr(archives, "MAX_FILES", 8)
    more = packed(tmp_path / "more.zip", {f"{n}.txt": "" for n in range(9)})
    with pytest.raises(ImageReadError, match="more than the 8 files"):
        unpacked(more)


def test_a_list_that_claims_too_much_is_not_read(tmp_path):
    path = packed(tmp_path / "a.zip", {"a.png": png()})
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\5\6")
    struct.pack_into("<I", data, at + 12, 2**31)
    path.write_bytes(data)
    with pytest.raises(ImageReadError, match="split it"):
        unpacked(path)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.binary(min_size=1, max_size=4))
def test_a_damaged_archive_is_an_error_and_never_a_fault(tmp_path_factory, at, noise):
    path = packed(tmp_path_factory.mktemp("zip") / "a.zip", {"a.png": png(), "d/b": b"x" * 50})
    data = bytearray(path.read_bytes())
    at = len(data) - 1 - at % len(data)
    data[at : at + len(noise)] = noise
    path.write_bytes(data)
    found = search_images([path])
    assert len(found.files) + len(found.problems) <= 4


def test_a_file_that_only_ends_in_zip_is_none(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no archive")
    assert not is_archive(tmp_path / "a.zip")
    assert search_images([tmp_path]).left_out.suffixes == {".zip": 1}


def test_a_name_through_an_archive_leads_to_the_file_and_back(study):
    files = unpacked(study).files
    names = names_in(study.parent, files)
    assert list(names.values()) == [
        "study.zip/DICOM/A/IM0001", "study.zip/DICOM/A/IM0002", "study.zip/b.png",
    ]  # fmt: skip
    assert [located(study.parent, name) for name in names.values()] == list(files)


def test_a_person_reads_the_archives_name_and_no_place_in_the_cache(study, cache):
    file = unpacked(study).files[0]
    said = by_archive(f"{file}: is damaged; {file}\n{cache / 'archives'}, {study}")
    inside = file.relative_to(unpacked(study).folder).as_posix()
    assert said == (
        f"study.zip/{inside}: is damaged; study.zip/{inside}\n{cache / 'archives'}, {study}"
    )

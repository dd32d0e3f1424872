"""Images are deleted, renamed, changed and added underneath; the folder moves."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_usgseg.core.errors import DatasetError, ImageReadError
from napari_usgseg.io.archives import _unpacked
from napari_usgseg.io.names import same_name_key
from napari_usgseg.io.outputs import CACHE_VARIABLE
from napari_usgseg.project import images
from napari_usgseg.project.images import beside_images, unique_ids
from napari_usgseg.project.label_files import LabelFiles
from napari_usgseg.project.project import Project
from napari_usgseg.project.records import EventKind, ImageState
from tests.support.dicom import write_dicom
from tests.support.labelling import SIZE_HW, accept_labels, label_path, some_labels


def labelled(folder: Path) -> None:
    """Label image 2, which is read before, as in the window."""
    store = Project(folder)
    store.read_image(store.records[1])
    accept_labels(store, store.records[1], some_labels())
    store.close()


def test_a_second_opening_reads_no_header_and_no_pixels(folder: Path, monkeypatch) -> None:
    Project(folder).close()

    def never(path: Path) -> None:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(images, "frame_sizes", never)
    monkeypatch.setattr(images, "content_hash", never)
    store = Project(folder)
    assert [record.size_hw for record in store.records] == [SIZE_HW] * 3


def test_a_renamed_image_keeps_its_id_its_labels_and_its_state(folder: Path) -> None:
    labelled(folder)
    content = (folder / "2.png").read_bytes()
    (folder / "2.png").unlink()
    (folder / "patient 7.png").write_bytes(content)  # another time, the same content
    store = Project(folder)
    record = next(item for item in store.records if item.path.name == "patient 7.png")
    assert record.image_id == "2"
    assert store.states()["2"] is ImageState.ACCEPTED
    assert np.array_equal(store.read_labels(record), some_labels())
    (event,) = [event for event in store.events() if event.kind is EventKind.IMAGE]
    assert event.body == {"path": "patient 7.png", "was": "2.png"}


def test_an_image_that_was_never_read_is_known_by_its_size_and_time(folder: Path) -> None:
    store = Project(folder)
    accept_labels(store, store.records[0], some_labels())
    store.close()
    (folder / "1.png").rename(folder / "first.png")
    store = Project(folder)
    assert {record.image_id: record.path.name for record in store.records}["1"] == "first.png"


def test_another_image_of_the_same_size_is_not_taken_for_the_one_that_is_gone(
    folder: Path,
) -> None:
    labelled(folder)
    status = (folder / "2.png").stat()
    (folder / "2.png").unlink()
    other = np.full(SIZE_HW, 7, np.uint8)
    Image.fromarray(other).save(folder / "other.png")
    assert (folder / "other.png").stat().st_size == status.st_size
    os.utime(folder / "other.png", ns=(status.st_mtime_ns, status.st_mtime_ns))
    store = Project(folder)
    assert "2" not in store.states()
    assert store.states()["other"] is ImageState.UNTOUCHED


def test_the_labels_of_a_deleted_image_are_kept_and_it_is_said(folder: Path) -> None:
    labelled(folder)
    content = (folder / "2.png").read_bytes()
    (folder / "2.png").unlink()
    store = Project(folder)
    assert [record.image_id for record in store.records] == ["1", "10"]
    assert any("2.png" in problem and "put the image back" in problem for problem in store.problems)
    assert label_path(store, "2").is_file()
    store.close()
    (folder / "2.png").write_bytes(content)
    again = Project(folder)
    assert not again.problems
    assert np.array_equal(again.read_labels(again.records[1]), some_labels())


def test_an_image_deleted_while_it_is_open_is_a_clear_error(folder: Path) -> None:
    store = Project(folder)
    (folder / "2.png").unlink()
    with pytest.raises(ImageReadError, match="no such file"):
        store.read_image(store.records[1])
    accept_labels(store, store.records[1], some_labels())
    assert np.array_equal(store.read_labels(store.records[1]), some_labels())


def test_an_image_that_was_changed_keeps_its_labels_and_it_is_said(folder: Path) -> None:
    labelled(folder)
    Image.fromarray(np.full(SIZE_HW, 9, np.uint8)).save(folder / "2.png")
    store = Project(folder)
    store.read_image(store.records[1])
    (warning,) = store.take_warnings()
    assert "2.png" in warning
    assert "labels are kept" in warning
    assert np.array_equal(store.read_labels(store.records[1]), some_labels())
    store.read_image(store.records[1])
    assert not store.take_warnings(), "it is said once"
    assert [event.body["path"] for event in store.events() if event.kind is EventKind.IMAGE]


def test_an_image_that_has_another_size_while_it_is_open_is_a_clear_error(folder: Path) -> None:
    store = Project(folder)
    Image.new("L", (7, 5)).save(folder / "1.png")
    with pytest.raises(ImageReadError, match=r"7 x 5 pixels now, not 30 x 20"):
        store.read_image(store.records[0])


def test_labels_of_an_image_that_has_another_size_by_now_are_kept_while_new_ones_are_made(
    folder: Path,
) -> None:
    labelled(folder)
    Image.new("L", (12, 10)).save(folder / "2.png")
    store = Project(folder)
    record = store.records[1]
    with pytest.raises(ImageReadError, match=r"30 x 20 pixels.*12 x 10"):
        store.read_labels(record)
    new = np.ones((10, 12), np.uint8)
    accept_labels(store, record, new)
    assert np.array_equal(store.read_labels(record), new)
    first = next(event for event in store.events() if event.image_id == "2")
    old = store.log.decoder.patch(first.body["patch"])
    assert np.array_equal(old.applied(np.zeros(SIZE_HW, np.uint8)), some_labels())


def test_a_file_that_joins_later_changes_no_id(folder: Path) -> None:
    labelled(folder)
    Image.new("L", (8, 8)).save(folder / "2.jpg")
    store = Project(folder)
    ids = {record.path.name: record.image_id for record in store.records}
    assert ids["2.png"] == "2"
    assert ids["2.jpg"] == "2.jpg"


def test_a_stem_that_joins_later_is_told_from_the_one_that_is_known(folder: Path) -> None:
    """Also where the new one is first by name, and where the known one is gone by then."""
    Image.new("L", (8, 8)).save(folder / "b.png")
    Project(folder).close()
    Image.new("L", (9, 9)).save(folder / "b.bmp")
    store = Project(folder)
    assert {r.path.name: r.image_id for r in store.records}["b.png"] == "b"
    store.close()
    (folder / "b.png").unlink()
    Image.new("L", (5, 5)).save(folder / "b.tif")
    store = Project(folder)
    ids = {record.path.name: record.image_id for record in store.records}
    assert (ids["b.bmp"], ids["b.tif"]) == ("b.bmp", "b.tif")


def write_pages(path: Path, *sizes_hw: tuple[int, int]) -> None:
    with tifffile.TiffWriter(path) as tiff:
        for number, size_hw in enumerate(sizes_hw):
            tiff.write(np.full(size_hw, number, np.uint8), photometric="minisblack")


def test_each_page_of_a_tiff_has_its_own_size(tmp_path: Path) -> None:
    sizes = [(24, 32), (12, 16), (40, 8), (24, 32)]
    write_pages(tmp_path / "m.tif", *sizes)
    for store in (Project(tmp_path), Project(tmp_path)):  # the second from its tables
        assert [record.size_hw for record in store.records] == sizes
        assert [store.read_image(record).shape[:2] for record in store.records] == sizes
    labels = np.ones((12, 16), np.uint8)
    accept_labels(store, store.records[1], labels)
    assert np.array_equal(store.read_labels(store.records[1]), labels)


def test_sizes_that_an_older_version_kept_are_read_anew_at_the_next_opening(tmp_path: Path) -> None:
    write_pages(tmp_path / "m.tif", (24, 32), (12, 16))
    store = Project(tmp_path)
    with store._database.transaction():
        store._database.execute("UPDATE image SET height = 24, width = 32")
    store.close()
    store = Project(tmp_path)
    with pytest.raises(ImageReadError, match=r"16 x 12 pixels now, not 32 x 24; open the folder"):
        store.read_image(store.records[1])
    assert store.read_image(store.records[0]).shape[:2] == (24, 32)
    store.close()
    store = Project(tmp_path)
    assert [store.read_image(r).shape[:2] for r in store.records] == [(24, 32), (12, 16)]


def touch_latin(folder: Path, name: bytes) -> Path:
    path = folder / os.fsdecode(name)
    try:
        Image.new("L", (8, 9)).save(path, format="PNG")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    return path


@pytest.mark.parametrize("name", [b"latin\xe9.png", b"\xff\xfe.png", b"line\n\xa0.PNG"])
def test_a_name_that_is_no_utf8_is_told_and_the_others_open(folder: Path, name: bytes) -> None:
    path = touch_latin(folder, name)
    store = Project(folder)
    assert [record.image_id for record in store.records] == ["1", "2", "10"]
    (problem,) = store.problems
    shown = name.decode("ascii", "backslashreplace").replace("\n", "\\n")
    assert problem.startswith(f"{folder / shown}: its name is no UTF-8")
    assert "rename the file" in problem
    store.close()
    path.rename(folder / "renamed.png")
    store = Project(folder)
    assert not store.problems
    assert "renamed" in {record.image_id for record in store.records}


def test_an_image_that_gets_such_a_name_keeps_its_labels_for_a_better_one(folder: Path) -> None:
    labelled(folder)
    odd = folder / os.fsdecode(b"2\xe9.png")
    try:
        (folder / "2.png").rename(odd)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    store = Project(folder)
    assert len(store.problems) == 2
    store.close()
    odd.rename(folder / "two.png")
    store = Project(folder)
    record = next(item for item in store.records if item.path.name == "two.png")
    assert np.array_equal(store.read_labels(record), some_labels())


def test_a_folder_whose_name_is_no_utf8_is_labelled_and_found_again(tmp_path: Path) -> None:
    folder, project = tmp_path / os.fsdecode(b"pati\xe9nt"), tmp_path / "project"
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    Image.new("L", (30, 20)).save(folder / "1.png")
    store = Project(folder, project)
    assert store.name == r"pati\xe9nt"
    accept_labels(store, store.records[0], some_labels())
    store.close()
    again = Project(project)
    assert again.folder.resolve() == folder.resolve()
    assert np.array_equal(again.read_labels(again.records[0]), some_labels())
    again.close()
    folder.rename(tmp_path / "gone")
    with pytest.raises(DatasetError, match=r"pati\\xe9nt") as caught:
        Project(project)
    assert str(caught.value).encode()


@pytest.mark.parametrize("stem", ["x" * 250, "\u00fc" * 120, "con", "a\nb", "a:b", "50 %"])
def test_an_image_of_any_name_can_be_labelled(tmp_path: Path, stem: str) -> None:
    try:
        Image.new("L", (30, 20)).save(tmp_path / f"{stem}.png", format="PNG")
        Image.new("L", (30, 20)).save(tmp_path / f"{stem}.jpg", format="PNG")
    except OSError:
        pytest.skip("this file system does not take the name")
    store = Project(tmp_path)
    for value, record in enumerate(store.records, 1):
        accept_labels(store, record, some_labels(value))
    again = Project(tmp_path)
    assert [again.read_labels(r).max() for r in again.records] == [1, 2]


def test_the_label_map_of_an_id_never_leaves_its_folder(tmp_path: Path) -> None:
    files = LabelFiles(tmp_path, "Ana")
    for image_id in ("../x", "/x", "a/b", "..", "."):
        path = files.path(image_id)
        assert path.resolve().parent == files.folder.resolve()
        files.write(image_id, some_labels())
        assert files.keep(image_id).parent == files.folder / "backup"
    assert files.path("1.2 \u00fc") == files.folder / "1.2 \u00fc.png"


def test_frames_of_a_file_share_no_id_with_another_file(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((8, 9), value, np.uint8)) for value in (10, 200)]
    frames[0].save(tmp_path / "cine.tif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "cine_0000.png")
    store = Project(tmp_path)
    assert len({record.image_id for record in store.records}) == 3
    store.close()
    again = Project(tmp_path)
    assert [r.image_id for r in again.records] == [r.image_id for r in store.records]


def test_the_folder_can_be_moved_with_all_that_is_in_it(folder: Path, tmp_path: Path) -> None:
    labelled(folder)
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    store = Project(moved)
    assert np.array_equal(store.read_labels(store.records[1]), some_labels())
    assert store.read_image(store.records[1]).shape == (*SIZE_HW, 3)


def test_a_project_is_opened_by_its_own_folder_too_also_where_it_lies_elsewhere(
    folder: Path, tmp_path: Path
) -> None:
    project = tmp_path / "projects" / "cysts"
    store = Project(folder, project)
    accept_labels(store, store.records[0], some_labels())
    store.close()
    again = Project(project)
    assert again.folder.resolve() == folder.resolve()
    assert np.array_equal(again.read_labels(again.records[0]), some_labels())
    again.close()
    together = tmp_path / "moved together"
    together.mkdir()
    folder.rename(together / folder.name)
    (tmp_path / "projects").rename(together / "projects")
    store = Project(together / "projects" / "cysts")
    assert store.folder.resolve() == (together / folder.name).resolve()


def test_a_project_whose_images_are_gone_says_where_they_were(folder: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    Project(folder, project).close()
    folder.rename(tmp_path / "hidden")
    with pytest.raises(DatasetError, match="images of a person"):
        Project(project)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["a", "A", "b", "a-2", "a.png", "\u00fc", "u\u0308", "x" * 240]).flatmap(
            lambda stem: st.sampled_from([f"{stem}.png", f"{stem}.jpg", f"{stem}.PNG"])
        ),
        unique=True,
    ),
    st.lists(st.sampled_from(["a", "b", "a.png-2"]), unique=True),
)
def test_no_two_files_share_an_id_whatever_their_names(names: list[str], taken: list[str]) -> None:
    ids = [*taken, *unique_ids([Path(name) for name in names], taken)]
    keys = {same_name_key(image_id, ignore_case=True) for image_id in ids}
    assert len(keys) == len(names) + len(taken)


def test_an_id_is_the_stem_and_the_whole_name_where_stems_collide() -> None:
    files = [Path("a.png"), Path("a.jpg"), Path("b.png")]
    assert unique_ids(files) == ["a.png", "a.jpg", "b"]


def test_the_frames_of_a_loop_are_images_and_a_broken_file_is_named(folder: Path) -> None:
    loop = np.stack([np.full((24, 32), 30 * k, np.uint8) for k in range(3)])
    write_dicom(folder / "IM0001", loop)
    (folder / "IM0002").write_bytes(bytes(128) + b"DICM")
    store = Project(folder)
    frames = [record for record in store.records if record.path.name == "IM0001"]
    assert [record.image_id for record in frames] == [f"IM0001_{k:04d}" for k in range(3)]
    assert [record.size_hw for record in frames] == [(24, 32)] * 3
    for index in (2, 0, 1):
        np.testing.assert_array_equal(store.read_image(frames[index])[..., 0], loop[index])
    assert any("IM0002: a DICOM file without a picture" in said for said in store.problems)
    store.close()


def test_images_of_an_archive_in_a_folder_are_images_of_it_for_good(
    folder: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    with zipfile.ZipFile(folder / "study.zip", "w") as archive:
        archive.write(folder / "2.png", "A/scan.png")
    store = Project(folder)
    assert [record.image_id for record in store.records] == ["1", "2", "10", "scan"]
    record = store.records[3]
    accept_labels(store, record, some_labels())
    store.close()
    shutil.rmtree(tmp_path / "cache")
    _unpacked.cache_clear()  # as another process
    again = Project(folder)
    assert again.states()["scan"] is ImageState.ACCEPTED
    assert again.records[3].path == record.path
    np.testing.assert_array_equal(again.read_image(record), again.read_image(again.records[1]))
    again.close()
    with pytest.raises(DatasetError, match="open its folder"):
        Project(folder / "study.zip")


def test_patients_and_studies_below_a_folder_are_opened_with_it(tmp_path: Path) -> None:
    for place in ("patient 1/study 1", "patient 1/study 2", "patient 2"):
        (tmp_path / "all" / place).mkdir(parents=True, exist_ok=True)
        write_dicom(tmp_path / "all" / place / "IM1", np.zeros((1, 20, 30), np.uint8))
    (tmp_path / "all" / "patient 2" / "a.png").write_bytes(b"none of a study")
    store = Project(tmp_path / "all")
    assert [record.path.relative_to(tmp_path / "all").as_posix() for record in store.records] == [
        "patient 1/study 1/IM1", "patient 1/study 2/IM1", "patient 2/IM1",
    ]  # fmt: skip
    assert len({record.image_id for record in store.records}) == 3
    assert beside_images(store.folder) == (
        "1 image in the folders below is no DICOM and was left out: open its folder by itself.",
    )
    store.close()

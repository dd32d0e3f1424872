from __future__ import annotations

import os
from pathlib import Path

import pytest

from napari_usgseg.core.errors import LabelWriteError
from napari_usgseg.io import outputs
from napari_usgseg.io.atomic import write_new
from napari_usgseg.io.outputs import (
    PROJECT_FILE,
    RECORD_FILE,
    OutputFolder,
    check_model_folder,
    output_file,
    project_around,
)


def test_what_the_program_wrote_is_replaced_only_where_that_is_asked_for(tmp_path):
    path = tmp_path / "masks" / "a.png"
    OutputFolder(tmp_path).write(path, b"first")
    with pytest.raises(LabelWriteError, match="from an earlier run"):
        OutputFolder(tmp_path).write(path, b"second")
    assert path.read_bytes() == b"first"
    OutputFolder(tmp_path, overwrite=True).write(path, b"second")
    assert path.read_bytes() == b"second"


def test_a_file_that_a_person_wrote_or_changed_is_never_replaced(tmp_path):
    folder = OutputFolder(tmp_path, overwrite=True)
    stranger, changed = tmp_path / "notes.txt", tmp_path / "a.json"
    stranger.write_bytes(b"mine")
    folder.write(changed, b"{}")
    changed.write_bytes(b"{ }")
    for path in (stranger, changed):
        before = path.read_bytes()
        with pytest.raises(LabelWriteError, match="left as it is"):
            OutputFolder(tmp_path, overwrite=True).write(path, b"new")
        folder.remove(path)
        assert path.read_bytes() == before


def test_what_was_written_is_known_after_a_crash_between_record_and_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    OutputFolder(tmp_path).write(path, b"old")

    def crash(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_usgseg.io.outputs.write_atomically", crash)
    with pytest.raises(KeyboardInterrupt):
        OutputFolder(tmp_path, overwrite=True).write(path, b"new")
    monkeypatch.undo()
    with (tmp_path / RECORD_FILE).open("ab") as file:
        file.write(b'{"path": "b.js')  # cut off in the middle of a line
    again = OutputFolder(tmp_path, overwrite=True)
    assert again.is_own(path)
    again.write(path, b"new")
    again.write(tmp_path / "b.json", b"{}")
    assert OutputFolder(tmp_path).is_own(tmp_path / "b.json")


@pytest.mark.parametrize("name", ["same", "other name", "symbolic link", "hard link", "dots"])
def test_a_file_that_is_read_is_refused_under_any_name(tmp_path, name):
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / "report.json"
    OutputFolder(source.parent).write(source, b"read")
    link = tmp_path / "link"
    link.symlink_to(source.parent, target_is_directory=True)
    path = {
        "same": source,
        "other name": link / "report.json",
        "symbolic link": tmp_path / "s.json",
        "hard link": tmp_path / "h.json",
        "dots": tmp_path / "in" / ".." / "in" / "report.json",
    }[name]
    if name == "symbolic link":
        path.symlink_to(source)
    if name == "hard link":
        os.link(source, path)
    folder = OutputFolder(path.parent, reads=[source], overwrite=True)
    with pytest.raises(LabelWriteError, match="is read by this command"):
        folder.write(path, b"written")
    assert source.read_bytes() == b"read"


def test_nothing_is_written_into_a_project_nor_below_it(tmp_path):
    project = tmp_path / "scans" / "usgseg"
    (project / "labels").mkdir(parents=True)
    (project / PROJECT_FILE).write_bytes(b"history")
    link = tmp_path / "link"
    link.symlink_to(project / "labels", target_is_directory=True)
    for root in (project, project / "labels", project / "new" / "deeper", link):
        assert project_around(root) == project
        with pytest.raises(LabelWriteError, match="project keeps its labels"):
            OutputFolder(root)
        with pytest.raises(LabelWriteError, match="project keeps its labels"):
            check_model_folder(root, resume=True)
    beside = OutputFolder(project.parent)
    with pytest.raises(LabelWriteError, match="project's own folder"):
        beside.write(project / "labels" / "a.png", b"x")
    beside.write(project.parent / "report.json", b"{}")


def test_a_folder_of_anything_else_is_refused_and_one_that_file_managers_left_traces_in_is_not(
    tmp_path,
):
    OutputFolder(tmp_path / "new").check_only_own()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / ".DS_Store").write_bytes(b"")
    folder = OutputFolder(tmp_path / "set", overwrite=True)
    folder.check_only_own()
    folder.write(tmp_path / "set" / "images" / "a.png", b"1")
    folder.check_only_own()
    with pytest.raises(LabelWriteError, match="holds an earlier result"):
        OutputFolder(tmp_path / "set").check_only_own()
    (tmp_path / "set" / "images" / "scan.tif").write_bytes(b"2")
    with pytest.raises(LabelWriteError, match=r"holds other files \(images.scan.tif\)"):
        folder.check_only_own()


def test_what_an_earlier_run_left_behind_goes_and_what_a_person_changed_stays(tmp_path):
    first = OutputFolder(tmp_path)
    for name in ("a", "gone/deep/b", "kept/c", "changed/d"):
        first.write(tmp_path / name, name.encode())
    OutputFolder(tmp_path / "gone" / "own").write(tmp_path / "gone" / "own" / "e", b"e")
    (tmp_path / "changed" / "d").write_bytes(b"by hand")
    (tmp_path / "notes").write_bytes(b"mine")
    second = OutputFolder(tmp_path)
    second.remove_others()  # not to be overwritten
    assert (tmp_path / "gone" / "deep" / "b").is_file()
    second = OutputFolder(tmp_path, overwrite=True)
    second.write(tmp_path / "a", b"new")
    second.remove_others(tmp_path / "kept")
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert left == {RECORD_FILE, "a", "kept", "kept/c", "changed", "changed/d", "notes"}


def test_what_is_read_is_not_removed_as_a_rest_of_an_earlier_run(tmp_path):
    OutputFolder(tmp_path).write(tmp_path / "a", b"1")
    folder = OutputFolder(tmp_path, reads=[tmp_path / "a"], overwrite=True)
    folder.remove_others()
    folder.remove(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"1"
    with pytest.raises(LabelWriteError, match="holds what this command reads"):
        folder.check_only_own()
    with pytest.raises(LabelWriteError, match="holds what this command reads"):
        OutputFolder(tmp_path, reads=[tmp_path], overwrite=True).check_only_own()


def test_what_a_block_wrote_that_failed_is_taken_back_and_nothing_else(tmp_path):
    OutputFolder(tmp_path).write(tmp_path / "old", b"1")
    folder = OutputFolder(tmp_path)
    folder.write(tmp_path / "before", b"1")

    def write_both():
        with folder.all_or_nothing():
            folder.write(tmp_path / "new", b"2")
            folder.write(tmp_path / "old", b"2")

    with pytest.raises(LabelWriteError, match="is there already"):
        write_both()
    assert (tmp_path / "old").read_bytes() == b"1"
    assert (tmp_path / "before").is_file()
    assert not (tmp_path / "new").exists()
    folder.write(tmp_path / "new", b"3")


def test_a_link_is_never_the_programs_own(tmp_path):
    folder = OutputFolder(tmp_path, overwrite=True)
    folder.write(tmp_path / "a", b"1")
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    with pytest.raises(LabelWriteError, match="left as it is"):
        folder.write(tmp_path / "a", b"2")
    assert (tmp_path / "b").read_bytes() == b"1"


def test_what_is_own_stays_so_when_the_folder_moves(tmp_path):
    OutputFolder(tmp_path / "one").write(tmp_path / "one" / "x" / "a", b"1")
    (tmp_path / "one").rename(tmp_path / "two")
    assert OutputFolder(tmp_path / "two").is_own(tmp_path / "two" / "x" / "a")
    assert OutputFolder(tmp_path / "two" / "x").is_own(tmp_path / "two" / "x" / "a")


def test_an_earlier_report_is_replaced_and_a_strangers_file_is_not(tmp_path):
    report = tmp_path / "out" / "report.json"
    for data in (b"1", b"2"):
        output_file(report).write(report, data)
    assert report.read_bytes() == b"2"
    report.write_bytes(b"edited")
    with pytest.raises(LabelWriteError, match="left as it is"):
        output_file(report)
    with pytest.raises(LabelWriteError, match="is a folder"):
        output_file(tmp_path / "out")


def test_a_training_is_gone_on_with_only_where_that_is_asked_for(tmp_path):
    check_model_folder(tmp_path / "new")
    check_model_folder(tmp_path / "new", resume=True)
    (tmp_path / "training.json").write_bytes(b"{}")
    with pytest.raises(LabelWriteError, match="holds a training"):
        check_model_folder(tmp_path)
    check_model_folder(tmp_path, resume=True)
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "a.png").write_bytes(b"")
    for resume in (False, True):
        with pytest.raises(LabelWriteError, match="holds other files"):
            check_model_folder(scans, resume=resume)


def test_a_file_that_appears_while_another_is_written_stays(tmp_path, monkeypatch):
    path = tmp_path / "a"
    link = os.link

    def late(source: str, target: str) -> None:
        path.write_bytes(b"theirs")
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(LabelWriteError, match="is there already"):
        write_new(path, b"ours")
    assert path.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["a"]


def test_a_number_on_the_disk_that_a_vanished_image_left_makes_no_new_file_one_that_is_read(
    tmp_path, monkeypatch
):
    image = tmp_path / "a.png"
    image.write_bytes(b"image")
    folder = OutputFolder(tmp_path / "out", reads=[image])
    number = image.stat().st_ino
    image.unlink()
    identities = outputs.file_identities

    def with_its_number(path):  # as file systems give it to the next file
        found = identities(path)
        return found | {(tmp_path.stat().st_dev, number)} if Path(path).is_file() else found

    monkeypatch.setattr(outputs, "file_identities", with_its_number)
    folder.write(tmp_path / "out" / "b.txt", b"b")
    folder.write(tmp_path / "out" / "c.txt", b"c")
    assert (tmp_path / "out" / "c.txt").read_bytes() == b"c"


def test_many_files_at_the_same_time_are_each_whole_and_remembered(tmp_path):
    folder = OutputFolder(tmp_path / "out", overwrite=True)
    files = [(tmp_path / "out" / f"{n}.png", bytes([n]) * 1000) for n in range(40)]
    folder.write_all(files)
    assert all(path.read_bytes() == data and folder.is_own(path) for path, data in files)
    files[7][0].write_bytes(b"a person's")
    with pytest.raises(LabelWriteError, match=r"7\.png"):
        folder.write_all([(path, b"new") for path, _ in files])
    assert files[7][0].read_bytes() == b"a person's"

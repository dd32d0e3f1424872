from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_usgseg.core.errors import DatasetError, PromptError
from napari_usgseg.core.types import ImageRecord
from napari_usgseg.io.groups import default_groups, group_images

FOLDER = Path("/data/scans")


def records(*names: str) -> list[ImageRecord]:
    """Images by path below FOLDER; "a.tif:3" is a file of three frames."""
    found = []
    for name in names:
        path, _, frames = name.partition(":")
        stem = path.rpartition(".")[0].replace("/", "-")
        if not frames:
            found.append(ImageRecord(stem, FOLDER / path, None, (4, 4)))
        found += [
            ImageRecord(f"{stem}_{frame:04d}", FOLDER / path, frame, (4, 4))
            for frame in range(int(frames or 0))
        ]
    return found


def table(tmp_path: Path, text: str, name: str = "groups.csv") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_without_a_rule_a_patient_s_folder_and_a_loop_s_frames_stay_together():
    images = records("a.png", "loop.tif:2", "P1/x.png", "P1/day 2/y.tif:2", "P2/x.png")
    assert list(group_images(images, FOLDER).of.values()) == [
        "a", "loop", "loop", "P1", "P1", "P1", "P2",
    ]  # fmt: skip
    assert list(default_groups(images[:2]).values()) == ["a", "loop"]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("folder", ["a_P1_1", "a_P1_2", "P7", "P7/b"]),
        ("prefix:_", ["a", "a", "x", "loop"]),
        ("prefix:_P", ["a", "a", "P7", "P7"]),
        (r"_(P\d+)_", ["P1", "P1", "P7", "P7"]),
        (r"(?:^P|_P)(\d+)", ["1", "1", "7", "7"]),
        (r"(a)_|(P\d)/", ["a", "a", "P7", "P7"]),
    ],
)
def test_a_rule_names_the_groups_from_paths(rule, expected):
    images = records("a_P1_1.png", "a_P1_2.png", "P7/x_1.png", "P7/b/loop_1.tif:2")
    found = group_images(images, FOLDER, rule)
    assert list(found.of.values()) == [*expected, expected[-1]]


def test_images_that_a_rule_does_not_fit_are_named_and_grouped_as_without_it():
    images = records("P1_a.png", "b.png", "loop.tif:2")
    found = group_images(images, FOLDER, r"(P\d)_")
    assert found.of == {"P1_a": "P1", "b": "b", "loop_0000": "loop", "loop_0001": "loop"}
    (said,) = found.missing(["P1_a", "b", "loop_0000"])
    assert "2 images (b, loop_0000)" in said
    assert found.missing(["P1_a"]) == []


@pytest.mark.parametrize("rule", ["P1", "(", "prefix:", "folders", "", "no file.txt"])
def test_what_is_no_rule_is_refused_with_what_was_expected(rule):
    with pytest.raises(PromptError, match=r"expected folder, prefix:_ .*CSV"):
        group_images(records("P1.png"), FOLDER, rule)


@pytest.mark.parametrize(
    "header", ["image,group", "File Name;Patient-ID", "id,case", "\ufeffImage_ID,loop", "x,Patient"]
)
def test_a_table_is_read_whatever_its_columns_are_called(tmp_path, header):
    between = ";" if ";" in header else ","
    rows = [header, f"a.png{between}Anna", f"loop.tif{between}Bert"]
    found = group_images(records("a.png", "loop.tif:2"), FOLDER, table(tmp_path, "\n".join(rows)))
    assert found.of == {"a": "Anna", "loop_0000": "Bert", "loop_0001": "Bert"}
    assert (found.missing(found.of), found.strangers()) == ([], [])


@pytest.mark.parametrize(
    "name",
    ["P1-a", "P1/a.png", "P1\\a.png", "./P1/a.png", "scans/P1/a.png", "/data/scans/P1/a.png",
     "a.png", "a", "A.PNG"],
)  # fmt: skip
def test_an_image_is_found_by_id_path_or_file_name(tmp_path, name):
    rule = table(tmp_path, f"file,group\n{name},G\n")
    assert group_images(records("P1/a.png", "P2/b.png"), FOLDER, rule).of["P1-a"] == "G"


def test_umlauts_are_one_name_however_they_are_written(tmp_path):
    rule = table(tmp_path, "file,group\nu\u0308.png,G\n")
    assert group_images(records("\u00fc.png"), FOLDER, rule).of == {"\u00fc": "G"}


def test_a_name_in_another_folder_is_not_taken_for_the_image(tmp_path):
    rule = table(tmp_path, "file,group\nP2/a.png,G\n")
    found = group_images(records("P1/a.png"), FOLDER, rule)
    assert found.of == {"P1-a": "P1"}
    assert "row 2: P2/a.png" in found.strangers()[0]


def test_what_a_table_and_a_project_lack_of_each_other_is_counted(tmp_path):
    names = [f"s{n}.png" for n in range(15)]
    rows = "".join(f"x{n}.png,G\n" for n in range(12))
    found = group_images(records(*names), FOLDER, table(tmp_path, f"file,group\ns0.png,G\n{rows}"))
    (missing,), (strangers,) = found.missing(found.of), found.strangers()
    assert "14 images (s1, s2" in missing
    assert "and 4 more" in missing
    assert "12 rows (row 3: x0.png" in strangers
    assert "and 2 more" in strangers


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,group\na.png,\n", r"row 2 \(a.png\) has nothing in the column 'group'"),
        ("file,group\n,G\n", "row 2 names no image"),
        ("file,group\nb.png,G\nb.png,H\n", "row 3 gives 'b.png' the group 'H', row 2 the group"),
        ("file,group\nb,G\nb.png,H\n", "row 3 gives"),
        ("file,group\na.png,G\n", r"row 2: 'a.png' could be P1/a.png or P2/a.png"),
        ("one,two\na.png,G\n", "row 1 names the columns one, two; expected one with the image"),
        ("file\na.png\n", "expected one with the image"),
        ("file,group\n", "has no row"),
        ("", "empty table"),
    ],
)
def test_a_table_that_cannot_be_used_is_named_with_its_row(tmp_path, text, words):
    images = records("P1/a.png", "P2/a.png", "b.png")
    if text.startswith("file,group\na.png,\n"):
        images = records("a.png")
    with pytest.raises(DatasetError, match=words) as caught:
        group_images(images, FOLDER, table(tmp_path, text))
    assert caught.value.path.name == "groups.csv"


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"none\.csv"):
        group_images(records("a.png"), FOLDER, str(tmp_path / "none.csv"))


@given(st.lists(st.sampled_from(["a.png", "b.png", "P1/a.png", "P2/l.tif:3"]), unique=True),
       st.sampled_from([None, "folder", "prefix:l", "(P.)", "([ab])"]))  # fmt: skip
def test_every_image_has_a_group_and_a_file_is_never_torn_apart(names, rule):
    images = records(*names)
    groups = group_images(images, FOLDER, rule).of
    assert set(groups) == {image.image_id for image in images}
    assert all(groups.values())
    for image in images:
        of_file = {groups[other.image_id] for other in images if other.path == image.path}
        assert len(of_file) == 1

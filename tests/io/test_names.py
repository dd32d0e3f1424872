from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from napari_usgseg.core.errors import DatasetError, ImageReadError, readable
from napari_usgseg.io import names
from napari_usgseg.io.names import (
    MAX_NAME_BYTES,
    NameFinder,
    hidden_or_appledouble,
    ignores_case,
    safe_file_name,
    safe_file_names,
    same_name_key,
)

SUFFIXES = (".png", ".jpg")
quick = settings(deadline=None, max_examples=300)
ODD = ("", ".", "..", "...", " ", "a/b", "a\\b", "C:x", "con", "NUL.txt", "x.", "x ", "\udce9")
TEXTS = st.one_of(
    st.text(max_size=30),
    st.text(alphabet="aAbBüÜ\u0308./\\: ~\x00\n\udce9%", max_size=8),
    st.sampled_from(ODD),
    st.sampled_from(("com", "lpt", "prn", "aux")).flatmap(
        lambda word: st.sampled_from((word, f"{word}1", f"{word.upper()}.a", f"{word} .b"))
    ),
    st.text(alphabet="äx", min_size=90, max_size=320),
)


@quick
@given(TEXTS)
@example("x/../../../../evil")
def test_a_safe_name_is_one_part_of_a_path_on_every_system(text: str) -> None:
    name = safe_file_name(text)
    assert Path(name).parts == (name,)
    assert PureWindowsPath(name).parts == (name,)
    assert not PureWindowsPath(name).drive
    assert name.strip(". ") == name != ""
    assert len(name.encode()) <= MAX_NAME_BYTES
    assert not any(unicodedata.category(sign) in ("Cc", "Cs", "Cf") for sign in name)
    assert not set(name) & set('<>:"/\\|?*')
    first = name.partition(".")[0].rstrip().casefold()
    assert first not in {"con", "nul", "prn", "aux", "com1", "lpt1"}


@quick
@given(TEXTS, TEXTS)
@example("a/b", "a\\b")
@example("a/b", safe_file_name("a/b"))
@example("a/b", safe_file_name("a/b").upper())
@example("con", "_con")
@example("x" * 300, "x" * 301)
def test_two_texts_never_meet_on_one_safe_name(one: str, other: str) -> None:
    if one == other:
        return
    assert safe_file_name(one) != safe_file_name(other)
    found = safe_file_names([one, other])
    assert set(found) == {one, other}
    keys = {same_name_key(name, ignore_case=True) for name in found.values()}
    assert len(keys) == 2
    if same_name_key(one, ignore_case=True) != same_name_key(other, ignore_case=True):
        assert found == {text: safe_file_name(text) for text in (one, other)}


@pytest.mark.parametrize(
    "text", ["a", "breast tumor (any)", "Schilddrüse", "case7.10", "a.jpg", "IMG_1~2", "console"]
)
def test_a_plain_name_stays_as_it_is(text: str) -> None:
    assert safe_file_name(text) == text
    assert safe_file_name(unicodedata.normalize("NFD", text)) == unicodedata.normalize("NFD", text)


@quick
@given(st.text(max_size=20))
def test_composed_and_decomposed_names_have_one_key(text: str) -> None:
    for ignore_case in (False, True):
        keys = {
            same_name_key(unicodedata.normalize(form, text), ignore_case) for form in ("NFC", "NFD")
        }
        assert len(keys) == 1


def test_case_counts_unless_it_is_ignored() -> None:
    assert same_name_key("Ü") != same_name_key("ü")
    assert same_name_key("U\u0308", ignore_case=True) == same_name_key("ü", ignore_case=True)


@pytest.mark.parametrize("name", ["._x.png", ".x.png", "__MACOSX", "Thumbs.db", "a/.x", ".."])
def test_hidden_names(name: str) -> None:
    assert hidden_or_appledouble(name)
    assert hidden_or_appledouble(Path("somewhere", name))


@pytest.mark.parametrize("name", ["x.png", ".hidden/x.png", "_x.png", "macosx.png"])
def test_names_that_are_not_hidden(name: str) -> None:
    assert not hidden_or_appledouble(name)


def files(folder: Path, *found: str) -> NameFinder:
    for name in found:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return NameFinder(folder, SUFFIXES)


def test_a_file_is_found_by_either_form_of_its_umlauts_and_the_exact_one_first(
    tmp_path: Path,
) -> None:
    composed, parted = "Schilddr\u00fcse.png", "Schilddru\u0308se.png"
    assert files(tmp_path, parted).find(composed) == tmp_path / parted
    if len(os.listdir(files(tmp_path, composed).root)) == 2:
        assert NameFinder(tmp_path, SUFFIXES).find(composed) == tmp_path / composed
        assert NameFinder(tmp_path, SUFFIXES).find(parted) == tmp_path / parted


def test_a_known_suffix_may_have_any_case_and_another_may_not(tmp_path: Path) -> None:
    finder = files(tmp_path, "a.PNG", "b.XYZ")
    assert finder.find("a.png") == tmp_path / "a.PNG"
    if not ignores_case(tmp_path, ["a.PNG"]):
        assert finder.find("A.png") is None
        assert finder.find("b.xyz") is None


def test_where_case_is_ignored_names_are_compared_without_it(tmp_path: Path, monkeypatch) -> None:
    finder = files(tmp_path, "Fall Ü.png", "B.png")
    monkeypatch.setattr(names, "ignores_case", lambda folder, names: True)
    assert finder.find("fall u\u0308.png") == tmp_path / "Fall Ü.png"
    assert finder.find("b.png") == tmp_path / "B.png"


def test_whether_case_is_ignored_is_asked_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "Name").touch()
    (tmp_path / "1").touch()
    assert ignores_case(tmp_path, ["1", "Name"]) is (tmp_path / "nAME").exists()
    assert ignores_case(tmp_path, ["1", "ß"]) is False
    try:
        (tmp_path / "nAME").symlink_to(tmp_path / "Name")
    except FileExistsError:
        return
    assert ignores_case(tmp_path, ["1", "Name"]) is True


def test_names_that_are_meant_alike_are_refused_by_name(tmp_path: Path) -> None:
    finder = files(tmp_path, "a.PNG", "a.Png")
    if len(os.listdir(tmp_path)) == 2:
        with pytest.raises(DatasetError, match=r"a\.PNG: and 'a\.Png'"):
            finder.find("a.png")
    assert finder.find("a.PNG") == tmp_path / "a.PNG"


@pytest.mark.parametrize(
    "name", ["../x.png", "../in/x.png", "/x.png", "./x.png", "a//x.png", "a/../x.png", "", ".", "a"]
)
def test_a_finder_never_leaves_its_folder_and_finds_no_folders(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.png").touch()
    finder = files(tmp_path / "in", "x.png", "a/x.png")
    assert finder.find("a/x.png") == tmp_path / "in" / "a" / "x.png"
    assert finder.find(name) is None


def test_hidden_files_are_not_found(tmp_path: Path) -> None:
    finder = files(tmp_path, "._a.png", ".b/a.png", "__MACOSX/a.png")
    assert [finder.find(name) for name in ("._a.png", ".b/a.png", "__MACOSX/a.png")] == [None] * 3


def test_a_missing_folder_holds_nothing(tmp_path: Path) -> None:
    assert NameFinder(tmp_path / "gone", SUFFIXES).find("a.png") is None


@given(st.text(max_size=20))
def test_a_readable_name_is_one_line_of_utf8(text: str) -> None:
    shown = readable(text)
    assert shown.encode().decode() == shown
    assert len(shown.splitlines()) <= 1


def test_a_message_names_a_file_whose_name_is_no_utf8() -> None:
    path = Path(os.fsdecode(b"a\nlatin\xe9.png"))
    assert str(ImageReadError(path, "is damaged")) == "a\\nlatin\\xe9.png: is damaged"
    assert readable("Schilddrüse \ud800") == "Schilddrüse \\ud800"

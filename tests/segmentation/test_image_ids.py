"""Ids of images: what an earlier run gave stays, and no two are one where case does not count."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_usgseg.io.names import same_name_key
from napari_usgseg.segmentation.batch import ImageId, content_hash, match_ids, unique_ids


def test_files_of_one_stem_get_names_of_their_own():
    paths = [Path("x/a.png"), Path("y/a.png"), Path("x/a.jpg"), Path("x/B.png"), Path("x/c.png")]
    ids = unique_ids(paths)
    assert ids == ["x-a", "y-a", "a.jpg", "B", "c"]
    assert unique_ids(paths[::-1]) == ids[::-1]


def test_names_that_differ_in_case_or_form_only_are_numbered():
    paths = [Path("w/a.png"), Path("w/A.png"), Path("w/b.png")]
    assert unique_ids(paths) == ["a.png-2", "A.png", "b"]
    forms = [Path(unicodedata.normalize(form, "w/ü.png")) for form in ("NFC", "NFD")]
    assert len(_keys(unique_ids(forms))) == 2


def test_the_folder_is_a_part_of_the_id_and_the_id_one_part_of_a_path():
    paths = [Path("w/p 1/b/a.png"), Path("w/p 2/a.png"), Path("w/a.png"), Path("w/p 2-a.png")]
    groups = {paths[0]: "p 1/b", paths[1]: "p 2"}
    ids = unique_ids(paths, groups=groups)
    assert ids == ["p 1-b-a", "p 2-p 2-a", "a", "w-p 2-a"]


def test_an_id_is_safe_on_every_file_system():
    for name in ("CON.png", "a:b.png", " .png", ".hidden.png", "x" * 240 + ".png"):
        (image_id,) = unique_ids([Path("w") / name])
        assert not image_id.startswith(".")
        assert ":" not in image_id
        assert image_id.lower() != "con"
        assert len(image_id.encode()) <= 200


NAMES = st.text("aAbBüÜ.-2 ", min_size=1, max_size=4).map(lambda stem: f"{stem}.png")


@settings(deadline=None, max_examples=150)
@given(st.sets(st.tuples(st.sampled_from("xyX"), NAMES), min_size=1, max_size=6), st.data())
def test_no_two_ids_are_one_in_whatever_order(files, data):
    paths = [Path(folder) / name for folder, name in files]
    taken = data.draw(st.lists(st.sampled_from(["a", "A.png", "b", "x-a"]), unique=True))
    ids = unique_ids(paths, taken)
    assert len(_keys([*ids, *taken])) == len(ids) + len(_keys(taken))
    order = data.draw(st.permutations(range(len(paths))))
    assert unique_ids([paths[i] for i in order], taken) == [ids[i] for i in order]


def _keys(ids):
    return {same_name_key(image_id, ignore_case=True) for image_id in ids}


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_an_image_has_its_id_wherever_it_is_moved_to(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("ids")
    names = data.draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5, unique=True))
    for name in names:
        (folder / name).write_text(f"content of {name}")
    paths = [folder / name for name in names]
    first = [place.image_id for place in match_ids(paths, {}, {}, anew=False)]
    earlier = {
        image_id: {"source": str(path.resolve()), "sha256": content_hash(path)}
        for image_id, path in zip(first, paths, strict=True)
    }
    now = [folder / name for name in data.draw(st.permutations(names))]
    contents = [path.read_text() for path in paths]
    for path, content in zip(now, contents, strict=True):
        path.write_text(content)
    assert match_ids(now, earlier, {}, anew=False) == [ImageId(name, "known") for name in first]
    again = match_ids(now, earlier, {}, anew=True)
    assert [place.image_id for place in again] == [path.name for path in now]


def test_two_images_of_one_content_have_two_ids_and_keep_them(tmp_path):
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for path in paths:
        path.write_text("same")
    earlier = {
        path.stem: {"source": str(path.resolve()), "sha256": content_hash(path)}
        for path in paths[:2]
    }
    found = match_ids(paths[::-1], earlier, {}, anew=False)
    assert found == [ImageId("c", "new"), ImageId("b", "known"), ImageId("a", "known")]
    (tmp_path / "link.png").symlink_to(paths[0])
    found = match_ids([tmp_path / "link.png", *paths], earlier, {}, anew=False)
    assert [place.standing for place in found].count("known") == 2
    assert {place.standing for place in found} == {"known", "new"}

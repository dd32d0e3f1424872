"""A file whose name cannot be kept is named, and the rest of the folder opens."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from napari_usgseg.jobs.files import load_image, open_folder


@pytest.mark.parametrize("name", [b"latin\xe9.png", b"\xc3\xbc\xe4.PNG"])
def test_a_folder_with_a_name_that_is_no_utf8_opens(tmp_path: Path, name: bytes) -> None:
    for each in (b"ok.png", name, "Schilddr\u00fcse.png".encode()):
        try:
            Image.new("L", (12, 9)).save(tmp_path / os.fsdecode(each), format="PNG")
        except OSError:
            pytest.skip("this file system takes UTF-8 only")
    store = open_folder(tmp_path).store
    assert [record.path.name for record in store.records] == ["ok.png", "Schilddr\u00fcse.png"]
    (problem,) = store.problems
    assert problem.encode().count(b"\\x") == 1
    assert "rename the file" in problem
    assert load_image(store, store.records[1]).pixels.shape == (9, 12, 3)
    store.close()

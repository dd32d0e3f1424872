"""Converted networks on disk: whole or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import platformdirs
import pytest
from platformdirs.unix import Unix
from platformdirs.windows import Windows

from napari_usgseg.io.outputs import CACHE_VARIABLE, cache_folder
from napari_usgseg.models.sam.openvino import Conversions


def write(folder: Path) -> None:
    (folder / "net.bin").write_bytes(b"weights")


def test_what_was_put_is_there_for_the_next(tmp_path):
    assert Conversions(tmp_path).get("net-1") is None
    place = Conversions(tmp_path).put("net-1", write)
    assert place == Conversions(tmp_path).get("net-1")
    assert (place / "net.bin").read_bytes() == b"weights"
    assert Conversions(tmp_path).get("net-2") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: (place / "net.bin").write_bytes(b"weighty"),
        lambda place: (place / "net.bin").unlink(),
        lambda place: (place / "SHA256SUMS.json").write_text("{"),
        lambda place: (place / "SHA256SUMS.json").unlink(),
    ],
    ids=["changed", "missing", "checksums torn", "checksums missing"],
)
def test_a_damaged_one_is_not_given_out_and_is_replaced(tmp_path, damage):
    conversions = Conversions(tmp_path)
    damage(conversions.put("net", write))
    assert conversions.get("net") is None
    assert conversions.put("net", write) == conversions.get("net")


def test_a_writer_that_dies_half_way_leaves_nothing(tmp_path):
    def die(folder: Path) -> None:
        write(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Conversions(tmp_path).put("net", die)
    assert not list(tmp_path.iterdir())


def test_several_writers_at_once_leave_one_whole_conversion(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        places = list(pool.map(lambda _: Conversions(tmp_path).put("net", write), range(32)))
    assert set(places) == {tmp_path / "net"} == set(tmp_path.iterdir())
    assert Conversions(tmp_path).get("net") == tmp_path / "net"


def test_a_key_stays_inside_the_folder(tmp_path):
    place = Conversions(tmp_path / "cache").put("../a:b", write)
    assert place.parent == tmp_path / "cache"


def test_the_folder_can_be_chosen_and_else_is_the_systems(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert Conversions().folder == tmp_path / "converted"
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setattr(platformdirs, "PlatformDirs", Unix)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "napari-usgseg"
    monkeypatch.setattr(platformdirs, "PlatformDirs", Windows)
    local = str(tmp_path / "local")
    monkeypatch.setattr("platformdirs.windows.get_win_folder", lambda name: local)
    assert cache_folder() == tmp_path / "local" / "napari-usgseg"

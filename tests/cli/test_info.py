"""``usgseg info``: what a report of a fault needs, and nothing that tells who writes it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from napari_usgseg import __version__
from napari_usgseg.cli import info


def test_versions_devices_models_and_caches_are_told(usgseg, tmp_path, monkeypatch):
    cache = tmp_path / "cache of Jane Doe"
    (cache / "converted").mkdir(parents=True)
    (cache / "converted" / "Doe^Jane.bin").write_bytes(bytes(2_500_000))
    monkeypatch.setenv("USGSEG_CACHE", str(cache))
    outcome = usgseg("info", "--json", tmp_path / "info.json")
    assert (outcome.code, outcome.err) == (0, "")
    told = json.loads((tmp_path / "info.json").read_text())
    assert told["schema"] == 1
    assert (told["napari_usgseg"], told["python"]) == (__version__, platform.python_version())
    assert {"torch", "transformers", "peft", "sam2"} <= set(told["packages"])
    assert told["cpu_cores"] == os.cpu_count()
    assert {("nano", "segmenter"), ("nano", "detector")} <= {
        (model["name"], model["kind"]) for model in told["models"] if model["bytes"] > 0
    }
    assert told["caches"]["converted networks"] == {"files": 1, "bytes": 2_500_000}
    lines = {tuple(line.split(None, 1)) for line in outcome.out.splitlines()}
    assert ("napari-usgseg", __version__) in lines
    assert ("torch", told["packages"]["torch"]) in lines
    assert "1 files, 2.5 MB" in outcome.out
    for text in (outcome.out, (tmp_path / "info.json").read_text()):
        for private in (str(tmp_path), "Doe", str(Path.home()), sys.prefix, platform.node()):
            assert private not in text


def test_a_gpu_is_told_by_its_drivers_own_tool(usgseg, monkeypatch):
    def answer(words, **options):
        return subprocess.CompletedProcess(words, 0, "NVIDIA H100, 81559 MiB, 570.1\n")

    def no_driver(words, **options):
        raise subprocess.CalledProcessError(9, words)

    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr(subprocess, "run", answer)
    assert "NVIDIA H100, 81559 MiB, 570.1" in usgseg("info").out
    monkeypatch.setattr(subprocess, "run", no_driver)
    assert "none that NVIDIA's driver knows" in usgseg("info").out


def test_a_file_that_vanishes_from_a_cache_meanwhile_is_not_counted(monkeypatch, tmp_path):
    (tmp_path / "kept").write_bytes(b"1234")
    (tmp_path / "gone").write_bytes(b"1")
    look = os.lstat

    def vanished(path, *rest):
        if Path(path).name == "gone":
            raise FileNotFoundError(path)
        return look(path, *rest)

    monkeypatch.setattr(os, "lstat", vanished)
    assert info._size(tmp_path) == {"files": 1, "bytes": 4}


def test_nothing_heavy_is_imported_to_tell_it():
    heavy = ("torch", "transformers", "sam2", "timm", "napari", "qtpy", "scipy", "skimage")
    code = (
        "import sys; from napari_usgseg.cli.main import run; run(['info']); "
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "[]"

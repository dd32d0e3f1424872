from __future__ import annotations

import io
import subprocess
import sys
import time

import pytest
from PIL import Image

from napari_usgseg import __version__
from napari_usgseg.core.errors import Cancelled

HEAVY = ("torch", "transformers", "sam2", "timm", "napari", "qtpy", "scipy", "skimage")


def test_the_version_is_printed(usgseg):
    outcome = usgseg("--version")
    assert (outcome.code, outcome.out.strip()) == (0, f"usgseg {__version__}")


@pytest.mark.parametrize(
    "words",
    [
        (), ("segment",), ("evaluate",), ("export",), ("demo",), ("benchmark",), ("models",),
        ("models", "list"), ("models", "download"), ("models", "verify"), ("train",),
        ("train", "nano-segmenter"), ("train", "nano-detector"), ("train", "nano-grounder"),
        ("info",), ("models", "import-ppn"),
    ],
)  # fmt: skip
def test_every_command_explains_itself(usgseg, words):
    outcome = usgseg(*words, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith("Usage: usgseg")
    assert outcome.err == ""


def test_old_names_of_options_and_commands_are_understood_and_not_shown(usgseg, tmp_path):
    for words in (("demo",), ("segment", tmp_path), ("evaluate", tmp_path), ("train", "lora", "x")):
        said = [
            usgseg(*words, "--out", tmp_path / "o", option, "no such detector").err
            for option in ("--detector", "--grounder")
        ]
        assert said[0] == said[1]
        assert "No such option" not in said[0]
        shown = usgseg(*words[:2], "--help").out
        assert "--detector" in shown
        assert "grounder" not in shown
    assert "nano-detector" in usgseg("train", "--help").out
    assert "nano-grounder" not in usgseg("train", "--help").out


def test_no_command_at_all_shows_the_help(usgseg):
    outcome = usgseg()
    assert outcome.code == 0
    assert "segment" in outcome.out


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from napari_usgseg.cli.main import run; run(['--help']); "
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "[]"


@pytest.mark.slow
def test_help_takes_about_a_second_at_most(usgseg_process):
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        assert usgseg_process("--help").code == 0
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1.0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["bogus"], "bogus"),
        (["segment"], "INPUT"),
        (["segment", "x.png", "--out", "o", "--nonsense"], "--nonsense"),
        (["segment", "no such file.png", "--text", "cyst", "--out", "o"], "no such file.png"),
        (["segment", ".", "--out", "o"], "--text"),
        (["segment", ".", "--text", " . ", "--out", "o"], "--text is empty"),
        (["segment", ".", "--box", "1,2,3", "--out", "o"], "1,2,3"),
        (["segment", ".", "--point", "1,2,x", "--out", "o"], "1,2,x"),
        (["segment", ".", "--point", "1,2,-", "--out", "o"], "off the object"),
        (["evaluate", "nowhere", "--prompt", "box"], "nowhere"),
        (["evaluate", "nowhere", "--prompt", "telepathy"], "telepathy"),
        (["evaluate", "nowhere", "--prompt", "text", "--jitter", "0.1"], "--prompt box"),
        (["export", "nowhere", "--out", "o"], "nowhere"),
        (["export", ".", "--out", "o", "--format", "docx"], "docx"),
        (["models", "download", "sam9"], "sam9"),
        (["train"], "command"),
    ],
)
def test_a_wrong_request_is_one_line_on_standard_error_and_code_1(
    usgseg, words, named, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    outcome = usgseg(*words)
    assert outcome.code == 1
    assert len(outcome.err_lines) == 1
    assert outcome.err.startswith("usgseg: ")
    assert named in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, Cancelled])
def test_who_interrupts_is_told_that_it_stopped(usgseg, monkeypatch, interruption):
    def interrupted(*arguments, **options):
        raise interruption

    monkeypatch.setattr("napari_usgseg.models.registry.load_segmenter", interrupted)
    outcome = usgseg("segment", __file__, "--box", "1,1,9,9", "--out", "o")
    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err.strip() == "usgseg: stopped"


def test_names_that_the_output_has_no_letters_for_are_still_told(
    usgseg, checkpoint, tmp_path, monkeypatch
):
    pipe = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")  # as on Windows
    monkeypatch.setattr(sys, "stdout", pipe)
    image = tmp_path / "μαστός.png"
    Image.new("L", (40, 30)).save(image)
    words = ["--box", "5,5,30,20", "--out", tmp_path / "out", "--model", checkpoint]
    outcome = usgseg("segment", image, *words)
    assert (outcome.code, outcome.err) == (0, "")
    pipe.flush()
    assert b"\\u03bc\\u03b1" in pipe.buffer.getvalue()
    assert (tmp_path / "out" / image.name).is_file()


def test_a_wrong_request_has_the_same_code_in_a_process_of_its_own(usgseg_process):
    outcome = usgseg_process("segment", "no such file.png", "--text", "cyst", "--out", "o")
    assert (outcome.code, outcome.out, len(outcome.err_lines)) == (1, "", 1)

"""The README must not promise keys, commands or options that are not there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_keys_is_the_widgets():
    from napari_usgseg.gui.keys import SHORTCUTS

    rows = re.findall(r"^\| (\S.*?) \| (.+?) \|$", README.split("### Keys")[1], re.MULTILINE)
    table = dict(rows[: next(i for i, row in enumerate(rows) if row[0].startswith("Alt+1")) + 1])
    table.pop("key")
    assert table.pop("Alt+1 to Alt+9") == "class 1 to class 9"
    expected = {shortcut.key.replace("-", "+"): shortcut.name for shortcut in SHORTCUTS}
    digits = {f"Alt+{digit}": f"class {digit}" for digit in range(1, 10)}
    assert digits.items() <= expected.items()
    assert table == {key: name for key, name in expected.items() if key not in digits}


def _commands() -> list[str]:
    blocks = re.findall(r"^```\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("usgseg ")]


@pytest.mark.parametrize("command", _commands())
def test_every_command_shown_has_its_options(command, capsys):
    from napari_usgseg.cli.main import run

    words = shlex.split(command)[1:]
    name = words[:2] if words[0] in ("datasets", "models", "train") else words[:1]
    assert run([*name, "--help"]) == 0
    text = capsys.readouterr().out
    for option in (word for word in words if word.startswith("--")):
        assert f"{option} " in text, option


def test_the_files_it_points_to_are_there():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("script", ["scripts/demo", "scripts/test", "scripts/check", ".ci/run"])
def test_the_scripts_can_be_run(script):
    path = ROOT / script
    assert path.stat().st_mode & 0o111
    assert path.read_text().startswith("#!/usr/bin/env bash\n")

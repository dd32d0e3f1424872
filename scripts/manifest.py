"""Commands and keys of the manifest, from the key table: ``python scripts/manifest.py [--check]``.

Writes the entries of ``napari.yaml`` that are made of ``gui.keys.SHORTCUTS``: a command and a
setting for each action. ``--check`` writes nothing and ends with 1 where they are out of date.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

MANIFEST = Path(__file__).resolve().parents[1] / "src" / "napari_usgseg" / "napari.yaml"
COMMANDS = ("    # actions: python scripts/manifest.py\n", "  readers:\n")
SETTINGS = ("    shortcuts:\n      title: Keys\n      properties:\n", "")


def made(text: str) -> str:
    """The manifest with the entries as the table has them."""
    from napari_usgseg.gui.commands import ACTIONS
    from napari_usgseg.gui.keys import SHORTCUTS, settable

    commands = "".join(
        f"    - id: napari-usgseg.{name}\n      title: {json.dumps(action.name)}\n"
        f"      short_title: {json.dumps(action.help)}\n"
        f"      python_name: napari_usgseg.gui.commands:{name}\n"
        for name, action in ACTIONS.items()
    )
    settings = "".join(
        f"        {item.setting}: {{type: string, title: {item.name}, "
        f"default: {json.dumps(item.key)}, description: {json.dumps(item.help)}}}\n"
        for item in SHORTCUTS
        if settable(item)
    )
    for (head, tail), entries in ((COMMANDS, commands), (SETTINGS, settings)):
        before, found, rest = text.partition(head)
        assert found, f"{MANIFEST} lacks {head!r}"
        after = tail + rest.partition(tail)[2] if tail else ""
        text = before + head + entries + after
    return text


def main() -> int:
    """Write the manifest, or say that it is out of date."""
    now = MANIFEST.read_text(encoding="utf-8")
    wanted = made(now)
    if "--check" in sys.argv:
        if now != wanted:
            print("napari.yaml is out of date: python scripts/manifest.py", file=sys.stderr)
        return int(now != wanted)
    MANIFEST.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

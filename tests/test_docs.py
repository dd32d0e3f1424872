"""The documents: they say what is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_map_shows_the_tree_as_it_is():
    words = [sys.executable, str(ROOT / "scripts" / "map.py"), "--check"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

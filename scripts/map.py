"""Map of the source tree: every folder and module with the first line of its docstring.

python scripts/map.py            writes docs/map.md
python scripts/map.py --check    says whether it is up to date, and writes nothing
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "napari_usgseg"
MAP = ROOT / "docs" / "map.md"
HEAD = """# Map of the source

Every folder and module of `src/napari_usgseg` with the first line of its docstring. Layers and what
flows between them are in [the architecture](../ARCHITECTURE.md). Made by `python scripts/map.py`;
a test compares it with the tree.
"""


def drawn() -> str:
    """The map of the tree as it is now."""
    parts = [HEAD]
    folders = [SOURCE, *sorted(path.parent for path in SOURCE.rglob("*/__init__.py"))]
    for folder in folders:
        name = folder.relative_to(SOURCE.parent).as_posix()
        parts.append(f"\n## `{name}/`\n\n{_first_line(folder / '__init__.py')}\n")
        modules = sorted(set(folder.glob("*.py")) - {folder / "__init__.py"})
        lines = [f"- `{module.name}`: {_first_line(module)}\n" for module in modules]
        parts.append("\n" + "".join(lines) if lines else "")
    return "".join(parts)


def _first_line(module: Path) -> str:
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].replace("``", "`")


def main() -> int:
    """Write the map or, with ``--check``, compare it."""
    if "--check" not in sys.argv[1:]:
        MAP.write_text(drawn(), encoding="utf-8", newline="\n")
    elif MAP.read_text(encoding="utf-8") != drawn():
        print("docs/map.md is out of date: python scripts/map.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

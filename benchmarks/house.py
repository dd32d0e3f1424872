"""The figures of the house: files, lines, fullest folder, circles, comments, public names.

    python benchmarks/house.py                    of this tree
    python benchmarks/house.py --before 07c8e0a   beside those of an earlier commit
    python benchmarks/house.py --package PATH     of another package, such as a peer's

A line is a line of a file (``wc -l``). Imports count wherever they stand, in functions and under
``TYPE_CHECKING`` too. A circle is a set of modules of the package, each of which leads to every
other.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
import tempfile
import tokenize
from collections import Counter
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "napari_usgseg"
LAYOUT = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING}


def modules(package: Path) -> dict[str, Path]:
    """The modules of a package by their dotted names."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of the package that one of them imports."""
    found = set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [base])])
            whole = {f"{base}.{alias.name}" for alias in node.names} & known.keys()
            named_all = len(whole) == len(node.names)
            found.update(whole if named_all else whole | {base})
    return (found & known.keys()) - {name}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Sets of modules that lead to one another, the largest first."""
    names = sorted(graph)
    place = {name: index for index, name in enumerate(names)}
    arrows = [(place[a], place[b]) for a in names for b in graph[a]]
    rows, columns = zip(*arrows, strict=True) if arrows else ((), ())
    matrix = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(names), len(names)))
    count, labels = connected_components(matrix, connection="strong")
    sets = [[names[i] for i in np.flatnonzero(labels == label)] for label in range(count)]
    return sorted((members for members in sets if len(members) > 1), key=len, reverse=True)


def comments(paths: list[Path]) -> float:
    """The share of comments among the tokens that are no layout."""
    kinds: Counter[int] = Counter()
    for path in paths:
        with tokenize.open(path) as file:
            kinds.update(token.type for token in tokenize.generate_tokens(file.readline))
    return kinds[tokenize.COMMENT] / sum(n for kind, n in kinds.items() if kind not in LAYOUT)


def measure(package: Path) -> dict[str, str]:
    """The figures of a package, by their names."""
    known = modules(package)
    lines = {name: len(path.read_bytes().splitlines()) for name, path in known.items()}
    graph = {name: imports(name, path, known) for name, path in known.items()}
    importers = Counter(target for targets in graph.values() for target in targets)
    single = [name for name in known if importers[name] == 1]
    folders = Counter(path.parent for path in known.values()).most_common(4)
    alone = sum(lines[name] for name in single)
    found = circles(graph)
    public = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    exported = [
        ast.literal_eval(node.value)
        for node in public.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    return {
        "files / lines": f"{len(known)} / {sum(lines.values()):,}",
        "files in the fullest folders": ", ".join(str(count) for _, count in folders),
        "modules with exactly one importer": f"{len(single)} ({alone:,} lines)",
        "circles of imports": ", ".join(
            f"{len(members)} files around `{members[0].partition('.')[2]}`" for members in found
        )
        or "0",
        "comments among the tokens": f"{100 * comments(list(known.values())):.1f} %",
        "what `__init__` exports": ", ".join(f"`{name}`" for name in sorted(exported[0]))
        if exported
        else "nothing",
    }


def at_commit(commit: str) -> dict[str, str]:
    """The figures of this package as it was at a commit."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", commit, "src"], cwd=ROOT, check=True, capture_output=True
        )
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        return measure(Path(folder) / "src" / PACKAGE)


def main() -> None:
    """Print a table with a column for each house."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", metavar="COMMIT", help="an earlier commit to stand beside")
    parser.add_argument("--package", type=Path, action="append", default=[], metavar="FOLDER")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    columns = {chosen.before: at_commit(chosen.before)} if chosen.before else {}
    columns["today"] = measure(ROOT / "src" / PACKAGE)
    columns |= {folder.name: measure(folder) for folder in chosen.package}
    if chosen.json:
        print(json.dumps(columns, indent=2))
        return
    print(f"| figure | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for figure in columns["today"]:
        print(f"| {figure} | {' | '.join(column[figure] for column in columns.values())} |")


if __name__ == "__main__":
    sys.exit(main())

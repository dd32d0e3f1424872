"""Write benchmarks/splits.json: the one split by group that every training and study uses.

python benchmarks/make_splits.py ../shared/data
"""

from __future__ import annotations

import sys
from pathlib import Path

from napari_usgseg.io.datasets import read_dataset, split_by_group, write_splits


def main() -> None:
    """Split every data set below the folder given on the command line."""
    folders = sorted(path.parent for path in Path(sys.argv[1]).glob("*/dataset.json"))
    target = Path(__file__).with_name("splits.json")
    datasets = [read_dataset(folder) for folder in folders]
    write_splits({each.name: split_by_group(each) for each in datasets}, target)
    print(f"wrote {target.name}: {', '.join(folder.name for folder in folders)}")


if __name__ == "__main__":
    main()

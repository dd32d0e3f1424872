"""Speed of nano and of SAM 2.1 tiny beside the sam2 package's own predictor.

    python benchmarks/speed.py [repeats]

Prints JSON, then a table. Ratios below 1 mean faster than the peer in the same run.
"""

from __future__ import annotations

import argparse
import json
import sys

from napari_usgseg.lab.evaluation.benchmark import run_benchmark

TARGETS = {"nano_embed": 1 / 20, "nano_click": 1 / 3, "sam2_embed": 1.0, "sam2_click": 1.0}


def main() -> None:
    """Run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repeats", nargs="?", type=int, default=5)
    result = run_benchmark(
        parser.parse_args().repeats,
        progress=lambda done, total: print(f"round {done} of {total}", file=sys.stderr),
    )
    print(json.dumps(result, indent=1))
    print(f"{'':12}{'seconds':>10}{'peer':>10}{'ratio':>8}{'target':>9}")
    for name, ratio in result["ratios"].items():
        task = name.rsplit("_", 1)[1]
        ours, peer = result["seconds"][name], result["seconds"][f"peer_{task}"]
        print(f"{name:12}{ours:10.4f}{peer:10.4f}{ratio:8.3f}{TARGETS[name]:9.3f}")


if __name__ == "__main__":
    main()

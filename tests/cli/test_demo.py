from __future__ import annotations

import json

from napari_usgseg.io.datasets import read_dataset


def test_the_demo_does_the_whole_job_with_the_embedded_models(usgseg, tmp_path):
    out, report = tmp_path / "demo", tmp_path / "demo.json"
    outcome = usgseg("demo", "--out", out, "--json", report)
    assert outcome.code == 0, outcome.err
    steps = json.loads(report.read_text())["steps"]
    assert len(steps) == len(read_dataset(out / "dataset").items)
    after_phrase = sum(step["dice_text"] for step in steps) / len(steps)
    after_click = sum(step["dice_click"] for step in steps) / len(steps)
    assert f"{after_phrase:.3f}" in outcome.out
    assert after_click > after_phrase
    assert after_click > 0.6
    assert len(list((out / "overlays").glob("*.png"))) == 2 * len(steps)

    again = usgseg("demo", "--out", out)
    assert again.code == 1
    assert "holds an earlier result" in again.err
    assert usgseg("demo", "--out", out, "--count", "1", "--overwrite").code == 0
    left = {path.relative_to(out).as_posix() for path in out.rglob("*.png")}
    assert {path.rpartition("/")[2][:10] for path in left} == {"phantom-01"}
    assert len(read_dataset(out / "dataset").items) == 1

from __future__ import annotations

import json

from napari_usgseg.cli.ablate import phrasings_of
from napari_usgseg.io.phantoms import write_phantom_dataset


def test_an_ablation_of_phrasings_is_written(usgseg, tmp_path):
    folder = tmp_path / "phantoms"
    write_phantom_dataset(folder, 2, 9, "breast")
    words = ["--vary", "phrasing", "--phrase", "breast lump", "--phrase", "tumour of the breast"]
    outcome = usgseg("ablate", folder, "--out", tmp_path / "out", *words)
    assert outcome.code == 0
    assert "2 phrasings" in outcome.out
    rows = json.loads((tmp_path / "out" / "ablation.json").read_text())["rows"]
    assert [row["variant"] for row in rows] == ["defaults", "breast lump", "tumour of the breast"]


def test_what_cannot_be_varied_is_refused(usgseg, tmp_path):
    outcome = usgseg("ablate", tmp_path, "--out", tmp_path, "--vary", "weather")
    assert outcome.code == 1
    assert "weather" in outcome.err


def test_phrasings_hold_the_target_and_words_never_trained_with():
    found = phrasings_of("breast tumor")
    assert found[0] == "breast tumor"
    assert len(found) == len(set(found)) > 6

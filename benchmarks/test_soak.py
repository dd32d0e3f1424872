"""A short soak; ``benchmarks/soak.py`` is the long one."""

from __future__ import annotations

import numpy as np
import pytest
from soak import Script, write_images
from soak_report import LIMIT_MS, table

from tests.support.person import report

pytestmark = [pytest.mark.gui, pytest.mark.slow]

IMAGES = 45
HALF = IMAGES // 2


def test_no_image_costs_more_than_those_before_it(employ, tmp_path, slowdown):
    person = employ()
    script = Script(person.viewer, person.widget)
    result = script.run(write_images(tmp_path / "images", IMAGES, (240, 320)), tmp_path / "labels")
    others = slowdown()
    report(table(result, HALF))
    person.widget.shut_down()
    assert len(list((tmp_path / "labels" / "labels").glob("*.png"))) == IMAGES
    for megabytes in (result.window_mb, result.worker_mb):
        assert max(megabytes[-5:]) < 1.1 * max(megabytes[HALF - 5 : HALF])
    assert max(result.longest_own_ms) < LIMIT_MS
    assert np.median(result.longest_ms) < LIMIT_MS * others
    work = np.add(result.window_cpu_s, result.worker_cpu_s)
    assert np.median(work[-10:]) < 1.5 * np.median(work[HALF - 10 : HALF])

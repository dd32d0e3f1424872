"""`--scheduler`: two worker processes, one of which is killed midway."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_usgseg.phantoms.phantom import write_phantom_dataset

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """The address of a scheduler, and two workers as a person starts them."""
    machines = distributed.LocalCluster(
        n_workers=0, processes=False, dashboard_address=None, protocol="tcp", host="127.0.0.1"
    )
    words = [sys.executable, "-m", "distributed.cli.dask_worker", machines.scheduler_address]
    words += ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory"]
    with machines:
        started = [
            subprocess.Popen(
                [*words, str(tmp_path_factory.mktemp("worker"))],
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stderr=subprocess.DEVNULL,
            )
            for _ in range(2)
        ]
        yield machines.scheduler_address, started
        for worker in started:
            worker.kill()
            worker.wait()


def files(folder):
    """What a run wrote, without what differs between two runs of one request."""
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "run.json" and not path.name.startswith(".")
    }
    card = json.loads((folder / "run.json").read_text())
    for entry in (card, *card["files"].values()):
        entry.pop("seconds", None)
    card.pop("started")
    return found, card


def test_two_workers_of_which_one_is_killed_write_what_a_single_run_writes(
    usgseg, tmp_path, checkpoint, workers
):
    address, (first, second) = workers
    folder = tmp_path / "scans"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(12):
        Image.fromarray(rng.integers(0, 255, (60, 80), np.uint8)).save(folder / f"{index}.png")
    tifffile.imwrite(folder / "loop.tif", rng.integers(0, 255, (20, 60, 80), np.uint8))
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:60])
    words = ["segment", folder, "--box", "10,10,50,40", "--overlay", "--model", checkpoint]
    alone = usgseg(*words, "--out", tmp_path / "alone")
    out = tmp_path / "together"

    def kill_one_midway():
        while not list(out.glob("*.png")):
            time.sleep(0.01)
        first.send_signal(signal.SIGKILL)
        first.wait()

    killer = threading.Thread(target=kill_one_midway)
    killer.start()
    together = usgseg(*words, "--out", out, "--scheduler", address)
    killer.join()
    assert first.poll() == -signal.SIGKILL
    assert second.poll() is None
    assert (alone.code, together.code) == (3, 3), "the broken file is named, the rest is done"
    assert together.err == alone.err
    assert files(out) == files(tmp_path / "alone")
    again = usgseg(*words, "--out", out, "--scheduler", address)
    assert "0 written, 13 kept, 1 failed" in again.out


def test_an_evaluation_on_other_machines_has_the_same_figures(
    usgseg, tmp_path, checkpoint, workers
):
    data = tmp_path / "phantoms"
    write_phantom_dataset(data, 3, 7)
    words = ["evaluate", data, "--prompt", "box", "--jitter", "0.1", "--model", checkpoint]
    reports = []
    for name, more in (("alone", ()), ("together", ("--scheduler", workers[0]))):
        out = tmp_path / name
        assert usgseg(*words, *more, "--out", out).code == 0
        report = json.loads((out / "report.json").read_text())
        for entry in report["datasets"].values():
            entry.pop("seconds_per_image")
        reports.append((report, (out / "worst.png").read_bytes()))
    assert reports[0] == reports[1]


def test_a_scheduler_has_nothing_to_do_with_masks_that_are_there(usgseg, tmp_path):
    write_phantom_dataset(tmp_path / "data", 2, 7)
    words = ["evaluate", tmp_path / "data", "--predictions", tmp_path / "data" / "masks"]
    outcome = usgseg(*words, "--scheduler", "tcp://127.0.0.1:1")
    assert outcome.code == 1
    assert "--scheduler is for --prompt" in outcome.err

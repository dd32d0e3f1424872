"""A process that works behind: messages, the wish to end, what happens when it dies."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import time
from pathlib import Path

import pytest

from napari_usgseg.jobs import Jobs, Lane
from napari_usgseg.jobs.background import ENDED, BackgroundProcess, Trainings

WORKER = """
import os, sys, time
from napari_usgseg.jobs.background import Channel, give_way
give_way()
channel = Channel()
print("noise of a library")
nice = os.nice(0) if hasattr(os, "nice") else None
is_idle = hasattr(os, "SCHED_IDLE") and os.sched_getscheduler(0) == os.SCHED_IDLE
channel.send("began", nice=nice, is_idle=is_idle, words=sys.argv[1:])
while not channel.is_ending():
    time.sleep(0.01)
channel.send("stopped")
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch):
    (tmp_path / "worker_behind.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("USGSEG_TRAINING_NICE", raising=False)
    messages: queue.SimpleQueue = queue.SimpleQueue()
    process = BackgroundProcess("worker_behind", ["one", "zwei ä"], messages.put)
    yield process, messages
    process.close()


def test_messages_arrive_and_it_ends_when_it_is_told_to(worker):
    process, messages = worker
    began = messages.get(timeout=60)
    assert began["kind"] == "began"
    assert began["words"] == ["one", "zwei ä"]
    if sys.platform != "win32":
        assert began["nice"] >= 15
    assert began["is_idle"] == hasattr(os, "SCHED_IDLE")
    assert process.process_id is not None
    process.stop()
    assert messages.get(timeout=60) == {"kind": "stopped"}
    assert messages.get(timeout=60) == {"kind": ENDED, "code": 0}


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_kill_is_told_as_an_end_with_its_code(worker):
    process, messages = worker
    messages.get(timeout=60)
    os.kill(process.process_id, 9)
    assert messages.get(timeout=60) == {"kind": ENDED, "code": -9}
    assert process.process_id is None


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_it_ends_with_the_one_that_started_it(tmp_path: Path):
    (tmp_path / "worker_behind.py").write_text(WORKER)
    script = (
        "import os, queue\n"
        "from napari_usgseg.jobs.background import BackgroundProcess\n"
        "messages = queue.SimpleQueue()\n"
        "process = BackgroundProcess('worker_behind', [], messages.put)\n"
        "messages.get(timeout=60)\n"
        "print(process.process_id, flush=True)\n"
        "os._exit(9)\n"
    )
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment, check=False
    )
    assert done.returncode == 9
    process_id = int(done.stdout)
    for _ in range(600):
        try:
            os.kill(process_id, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail(f"process {process_id} outlived the one that started it")


def test_the_training_that_cannot_start_says_so(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python here"))
    trainings, told, codes = Trainings(), [], []
    jobs = Jobs(lambda job: trainings.submit(job, job.receive), trainings.cancel)
    jobs.submit("no.such", tmp_path, lane=Lane.TRAINING, told=told.append, done=codes.append)
    ((message,), (code,)) = told, codes
    assert (message["kind"], code) == ("failed", 1)
    assert "cannot be started" in message["text"]
    trainings.close()

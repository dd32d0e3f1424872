"""A process that gives birth to people who label until they are killed; run as a script.

Reads lines ``mode<TAB>seed<TAB>folder<TAB>acknowledged`` and answers each with the process id of a
person at work on that folder. Each thing that is done and saved is added to the file
``acknowledged`` as the number of the last event. Imports are done once, before the first birth.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.bench import Bench, act
from tests.support.cine import write_loop

ACTIONS = (
    *("point", "box", "find", "accept", "accept", "paint", "undo", "undo", "redo", "class"),
    *("next", "next", "previous", "skip"),
)


ON_A_LOOP = ("box", "point", "accept", "next", "undo", "redo", *["propagate"] * 3, "accept range")


def act_on_a_loop(session, rng: random.Random) -> None:
    """Do something with a loop; a propagation puts its frames on disk one by one."""
    action, loops = rng.choice(ON_A_LOOP), session.loops
    if action == "propagate":
        session.propagation.propagate()
    elif action == "accept range":
        first = rng.randrange(len(loops.frames))
        loops.accept(range(first, min(first + 4, len(loops.frames))))
    else:
        loops.go(rng.randrange(len(loops.frames)))
        act(session, action, rng.randrange(60), rng.randrange(40))


def act_at_random(session, rng: random.Random) -> None:
    action, image = rng.choice(ACTIONS), session.record
    act(session, action, rng.randrange(80), rng.randrange(50))
    if action == "next" and session.record is image:  # round the end
        session.navigation.open_image(session.image_queue.records[0].image_id)


def exported(folder: Path) -> Path:
    """Where the images of a folder are exported to."""
    return folder.with_name(f"{folder.name} exported")


def live(mode: str, seed: int, folder: Path, acknowledged: Path) -> None:
    rng = random.Random(seed)
    bench = Bench(folder)
    session = bench.session
    session.settings = replace(session.settings, find_on_open=False)
    session.navigation.open_folder(folder)
    with acknowledged.open("a", buffering=1) as log:
        if mode == "loop":
            session.loops.go(20)
            session.prompting.add_box((10, 10), (40, 40))
            session.editing.accept()
            session.propagation.propagate()
        while True:
            (act_on_a_loop if mode == "loop" else act_at_random)(session, rng)
            if mode == "export" and rng.random() < 0.3:
                session.export(exported(folder), "ovary", "cyst", overwrite=True)
            if not session.outbox.of(session.store):
                log.write(f"{session.undo_stack._serial}\n")


def warm_up() -> None:
    """Do a little of everything, so that what is imported late is there before the first birth."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in "ab":
            Image.fromarray(np.full((60, 80), 90, np.uint8)).save(folder / f"{name}.png")
        bench = Bench(folder)
        bench.session.navigation.open_folder(folder)
        rng = random.Random(0)
        for _ in range(30):
            act_at_random(bench.session, rng)
        bench.session.export(folder / "exported", "ovary", "cyst")
        bench.session.close()
        write_loop(folder / "loop", "b.tif", 3, (60, 80))
        bench = Bench(folder / "loop")
        bench.session.navigation.open_folder(folder / "loop")
        bench.session.prompting.add_box((10, 10), (40, 40))
        bench.session.propagation.propagate()
        bench.session.close()


def main() -> None:
    warm_up()
    for line in sys.stdin:
        mode, seed, folder, acknowledged = line.rstrip("\n").split("\t")
        child = os.fork()
        if child == 0:
            live(mode, int(seed), Path(folder), Path(acknowledged))
            os._exit(1)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()

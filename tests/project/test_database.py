"""One file, several threads."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from napari_usgseg.project.database import Database
from napari_usgseg.project.project import Project
from napari_usgseg.project.records import ImageState
from tests.support.labelling import SIZE_HW, accept_labels, set_state, some_labels


def test_closing_waits_for_what_another_thread_is_writing(tmp_path: Path) -> None:
    """As when a folder is opened in a second window while the first one saves."""
    path = tmp_path / "project.sqlite"
    database = Database(path)
    begun = threading.Event()

    def write() -> None:
        with database.transaction():
            database.execute("INSERT INTO project VALUES ('one', '1')")
            begun.set()
            time.sleep(0.2)
            database.execute("INSERT INTO project VALUES ('two', '2')")

    writer = threading.Thread(target=write)
    writer.start()
    assert begun.wait(10)
    database.close()
    writer.join()
    again = Database(path)
    assert again.rows("SELECT key FROM project ORDER BY key") == [("one",), ("two",)]
    again.close()


def as_version_1(path: Path) -> None:
    """Make of a project's database what version 1 wrote, which did not note what is empty."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE image_state DROP COLUMN blank")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()


@pytest.mark.parametrize("write", [True, False])
def test_what_is_empty_is_known_of_a_project_of_version_1(folder: Path, write: bool) -> None:
    with closing(Project(folder)) as store:
        first, second, third = store.records
        accept_labels(store, first, some_labels())
        accept_labels(store, second, np.zeros(SIZE_HW, np.uint8))
        set_state(store, third.image_id, ImageState.SKIPPED)
        assert store.empty() == {second.image_id}
    as_version_1(folder / "usgseg" / "project.sqlite")
    with closing(Project(folder, write=write)) as store:
        assert store.empty() == {second.image_id}
        if write:
            accept_labels(store, third, np.zeros(SIZE_HW, np.uint8))
            assert store.empty() == {second.image_id, third.image_id}

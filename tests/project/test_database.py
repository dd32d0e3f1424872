"""One file, several threads."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from napari_usgseg.project.database import Database


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

from __future__ import annotations

import zipfile

import pytest
from openpyxl import Workbook
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont

from napari_usgseg.core.errors import DatasetError
from napari_usgseg.io.tables import read_table


@pytest.mark.parametrize(
    "data",
    [
        b"ID,Case\nbus_1 , 7\n",
        b"\xef\xbb\xbfID,Case\r\nbus_1,7\r\n\r\n",
        b"ID;Case\nbus_1;7\n",
        b'"ID","Case"\n"bus_1","7"\n',
    ],
)
def test_tables_of_every_separator_and_coding_are_read(tmp_path, data):
    (tmp_path / "t.csv").write_bytes(data)
    assert read_table(tmp_path / "t.csv") == [{"ID": "bus_1", "Case": "7"}]


def test_short_rows_are_filled_and_letters_of_western_europe_read(tmp_path):
    (tmp_path / "t.csv").write_bytes("a,b\nnódulo\n".encode("latin-1"))
    assert read_table(tmp_path / "t.csv") == [{"a": "nódulo", "b": ""}]


def test_a_workbook_gives_its_words_numbers_and_gaps(tmp_path):
    book = Workbook()
    book.active.append(["ID", "n", "Type"])
    book.active.append([3, None, CellRichText("ben", TextBlock(InlineFont(b=True), "ign"))])
    book.create_sheet("other").append(["no", "such"])
    book.save(tmp_path / "t.xlsx")
    assert read_table(tmp_path / "t.xlsx") == [{"ID": "3", "n": "", "Type": "benign"}]


@pytest.mark.parametrize("name", ["t.csv", "t.xlsx"])
def test_what_is_no_table_is_refused_by_name(tmp_path, name):
    with pytest.raises(DatasetError, match="not a table"):
        read_table(tmp_path / name)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DatasetError) as error:
        read_table(tmp_path / name)
    assert error.value.path == tmp_path / name


def test_a_workbook_without_a_sheet_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w") as book:
        book.writestr("docProps/app.xml", "<a/>")
    with pytest.raises(DatasetError, match="not a table"):
        read_table(tmp_path / "t.xlsx")

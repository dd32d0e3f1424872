from __future__ import annotations

import zipfile

import pytest

from napari_usgseg.core.errors import DatasetError
from napari_usgseg.io.tables import read_table

SPACE = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def write_book(path, sheet, strings=None):
    with zipfile.ZipFile(path, "w") as book:
        if strings is not None:
            items = "".join(f"<si>{text}</si>" for text in strings)
            book.writestr("xl/sharedStrings.xml", f"<sst {SPACE}>{items}</sst>")
        data = f"<worksheet {SPACE}><sheetData>{sheet}</sheetData></worksheet>"
        book.writestr("xl/worksheets/sheet1.xml", data)
    return path


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
    sheet = (
        '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="inlineStr"><is><t>n</t></is></c>'
        '<c r="C1" t="s"><v>1</v></c></row>'
        '<row r="2"><c r="A2"><v>3</v></c><c r="C2" t="s"><v>2</v></c></row>'
    )
    strings = ["<t>ID</t>", "<t>Type</t>", "<r><t>ben</t></r><r><t>ign</t></r>"]
    path = write_book(tmp_path / "t.xlsx", sheet, strings)
    assert read_table(path) == [{"ID": "3", "n": "", "Type": "benign"}]


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

"""Files as they come: what is read, from whichever format, and what is refused by its name."""

import bz2
import gzip
import io
import json
import lzma
import tracemalloc
import zipfile

import numpy as np
import pandas as pd
import pytest

from jaxopt_lab.cli import arguments
from jaxopt_lab.core.errors import MachineError, UserError
from jaxopt_lab.datasets import load_frame, load_table, reading
from jaxopt_lab.datasets.alphabets import find_by_alphabet
from jaxopt_lab.datasets.compressed import MAX_BYTES
from jaxopt_lab.datasets.encodings import decode

ROWS = 40
SIZES = [round(30.0 + 1.7 * k, 2) for k in range(ROWS)]
KINDS = ["flat", "house", "loft", "barn"] * (ROWS // 4)
PRICES = [1000 * k + 7 for k in range(ROWS)]
LINES = [f"{s},{k},{p}" for s, k, p in zip(SIZES, KINDS, PRICES, strict=True)]
CSV = "size,kind,price\n" + "\n".join(LINES) + "\n"
RECORDS = [{"size": s, "kind": k, "price": p} for s, k, p in zip(SIZES, KINDS, PRICES, strict=True)]


def excel(title: bool = False) -> bytes:
    content = io.BytesIO()
    with pd.ExcelWriter(content, engine="openpyxl") as book:
        pd.DataFrame(RECORDS).to_excel(book, index=False, startrow=2 * title)
        if title:
            book.book.active["A1"] = "Sales report 2024"
    return content.getvalue()


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("houses.csv", CSV)
    return content.getvalue()


def opendocument() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", "<office/>")
    return content.getvalue()


ARFF = (
    "% made up\n@relation houses\n\n@attribute size numeric\n"
    "@attribute kind {flat,house,loft,barn}\n@attribute price numeric\n@data\n"
)

READ = {
    "csv": CSV.encode(),
    "sep line": ("sep=;\n" + CSV.replace(",", ";")).encode(),
    "comment": ("# exported 2024-01-01\n" + CSV).encode(),
    "title": ("Sales report 2024\n\n" + CSV).encode(),
    "two titles": ("Sales report 2024,,\n,,\nall sales,,\n" + CSV).encode(),
    "two fields above": ('"Source:",Bureau,\n' + CSV).encode(),
    "end of a DOS file": (CSV + "\x1a").encode(),
    "zero bytes": CSV.replace("flat", "fl\0at", 2).encode(),
    "blanks": CSV.replace(",", " ").encode(),
    "aligned": "".join(
        "".join(f"{field:<12}" for field in line.split(",")) + "\n" for line in CSV.splitlines()
    ).encode(),
    "trailing blank lines": (CSV + "\n\n  \n").encode(),
    "gzip": gzip.compress(CSV.encode()),
    "two gzip members": gzip.compress(CSV[:50].encode()) + gzip.compress(CSV[50:].encode()),
    "bzip2": bz2.compress(CSV.encode()),
    "xz": lzma.compress(CSV.encode()),
    "zip": zipped(),
    "excel": excel(),
    "excel with a title": excel(title=True),
    "json": json.dumps(RECORDS).encode(),
    "json of columns": json.dumps({"size": SIZES, "kind": KINDS, "price": PRICES}).encode(),
    "json of pandas' split": pd.DataFrame(RECORDS).to_json(orient="split").encode(),
    "json of pandas' index": pd.DataFrame(RECORDS).to_json(orient="index").encode(),
    "json of lists": json.dumps(
        [["size", "kind", "price"], *map(list, zip(SIZES, KINDS, PRICES, strict=True))]
    ).encode(),
    "json about rows": json.dumps({"count": ROWS, "rows": RECORDS}, indent=1).encode(),
    "json lines": "".join(json.dumps(row) + "\n" for row in RECORDS).encode(),
    "arff": (ARFF + "\n".join(LINES) + "\n").encode(),
    "utf-16 without a mark": CSV.encode("utf-16-le"),
    "utf-16 big-endian": CSV.encode("utf-16-be"),
    "old Macintosh lines": CSV.replace("\n", "\r").encode(),
    "quoted": CSV.replace("flat", '"flat"').encode(),
}


@pytest.mark.parametrize("case", READ)
def test_formats_read_as_the_csv(tmp_path, case):
    path = tmp_path / "houses.dat"
    path.write_bytes(READ[case])
    table = load_table(path, "price", task="regression")
    np.testing.assert_array_equal(table.target, PRICES)
    np.testing.assert_array_equal(table.frame["size"], SIZES)
    assert table.frame["kind"].tolist() == KINDS
    assert list(table.frame.columns) == ["size", "kind"]
    assert len(load_frame(path, wanted=["size", "kind"])) == ROWS


REFUSED = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS"),
    "html": (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "HTML page"),
    "html without doctype": (b"\n <html lang=en><body>x,y\n1,2</body></html>", "HTML page"),
    "html of a part": (b"<head><title>404 Not Found</title></head>", "HTML page"),
    "html of a table": (b"<table class='x'><tr><td>size</td></tr></table>", "HTML page"),
    "json without names": (b"[[1.5, 2], [2.5, 3]]", "column names"),
    "opendocument": (opendocument(), "OpenDocument"),
    "xml": (b"<?xml version='1.0'?>\n<rows><row a='1'/></rows>", "XML"),
    "pdf": (b"%PDF-1.7\n1 0 obj\n", "PDF"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "old Excel"),
    "sqlite": (b"SQLite format 3\0" + bytes(99), "SQLite"),
    "json scalar": (b"[1, 2, 3", "valid JSON|no table|no column"),
    "json nested": (b'{"a": {"b": 1}, "c": 2}', "no table"),
    "json broken": (b'[{"a": 1}, {"a": ]', "not valid JSON"),
    "json lines broken": (b'{"a": 1}\n{"a": 2}\n{"a"\n', "line 3"),
    "arff": (b"@relation x\n@attribute a string\n@data\nfoo\n", "ARFF"),
    "headless": (CSV.split("\n", 1)[1].encode(), "first line looks like data"),
    "quote": (CSV.replace("house", '"house', 1).encode(), "never closed"),
    "damaged bzip2": (bz2.compress(CSV.encode())[:40], "damaged or incomplete bzip2"),
    "damaged xlsx": (excel()[:400], "damaged zip or Excel"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_table_is_named(tmp_path, case):
    data, message = REFUSED[case]
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        load_table(path, "price")
    assert "\n" not in str(caught.value)


def test_encodings_are_detected(tmp_path):
    def read(text, encoding):
        path = tmp_path / "t.csv"
        path.write_bytes(text.encode(encoding))
        return load_table(path, "price")

    euros = "size,price\n" + "".join(f'{k},"{k},830 €"\n' for k in range(100, 140))
    table = read(euros, "cp1252")
    np.testing.assert_array_equal(table.target, [1000.0 * k + 830.0 for k in range(100, 140)])
    assert "Windows-1252" in table.notes[0]
    curly = CSV.replace("flat", "“flat”").replace("loft", "café").replace("barn", "barn – big")
    assert set(read(curly, "cp1252").frame["kind"]) == {"“flat”", "house", "café", "barn – big"}
    russian = CSV.replace("flat", "квартира").replace("house", "дом").replace("loft", "чердак")
    assert "квартира" in set(read(russian, "cp1251").frame["kind"])
    japanese = CSV.replace("flat", "平屋").replace("house", "部屋").replace("size", "面積")
    assert "平屋" in set(read(japanese, "shift_jis").frame["kind"])


@pytest.mark.parametrize(
    ("cell", "encoding"),
    [
        ("1 200 руб.", "cp1251"),
        ("12 кв. м", "cp1251"),
        ("нет", "cp1251"),
        ("12 été", "cp1252"),
        ("üç", "cp1252"),
        ("ÄÖÜ", "cp1252"),
        ("12 µg/l", "cp1252"),
        ("café µm", "cp1252"),
        ("1 200 zł", "cp1250"),
        ("1\xa0200 Kč", "cp1250"),
        ("1200円", "cp932"),
        ("1200원", "cp949"),
        ("12 万元", "gb18030"),
        ("12 m³", "cp1252"),
        ("€ 12", "cp1252"),
        ("ľudia", "iso8859-2"),
    ],
)
def test_one_word_beyond_ascii_tells_the_encoding(cell, encoding):
    text = "a,price\n" + f"{cell},1\n" * 20
    assert decode(text.encode(encoding), "t.csv")[0] == text


@pytest.mark.parametrize(
    ("cell", "encoding"), [("ירושלים", "cp1255"), ("תל אביב", "cp1255"), ("ευρώ", "cp1253")]
)
def test_one_word_of_another_alphabet_is_not_taken_for_russian(cell, encoding):
    assert find_by_alphabet(cell.encode(encoding)) != "cp1251"


def test_the_sheet_with_the_wanted_columns_is_read(tmp_path):
    path = tmp_path / "two.xlsx"
    with pd.ExcelWriter(path) as book:
        pd.DataFrame({"about": ["prices of June"]}).to_excel(book, sheet_name="About", index=False)
        rows = pd.DataFrame({"size": range(40), "price": np.arange(40) * 2.5})
        rows.to_excel(book, sheet_name="June", index=False)
        rows.to_excel(book, sheet_name="July", index=False)
    table = load_table(path, "price")
    assert len(table) == 40
    assert "two.xlsx: read sheet 'June', not 'About', 'July'" in table.notes
    with pytest.raises(UserError, match=r"'About', 'June', 'July', has a column 'prize'.*'price'"):
        load_table(path, "prize")


def test_one_row_for_each_data_line(tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("x\n138.28\n75.86\n\n32.81\n\n")
    assert load_frame(path)["x"].tolist() == ["138.28", "75.86", "", "32.81", ""]
    path.write_text("x,y\n1,2\n\n3,4\n\n")
    frame = load_frame(path)
    assert len(frame) == 3
    assert frame["x"].tolist() == ["1", "", "3"]


def test_prediction_needs_column_names(tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("138.28,flat\n75.86,house\n")
    with pytest.raises(UserError, match="first line looks like data"):
        load_frame(path, wanted=["size", "kind"])


def test_long_fields_are_valid(tmp_path):
    long = '"' + "POLYGON " * 40_000 + '"'
    path = tmp_path / "t.csv"
    path.write_text(CSV.replace("flat", long, 1))
    table = load_table(path, "price", task="regression")
    assert max(map(len, table.frame["kind"])) > 300_000


def test_backslashes_before_quotes(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(CSV.replace("flat", '"say \\"hi\\", go"'))
    assert 'say "hi", go' in set(load_table(path, "price", task="regression").frame["kind"])


def test_names_are_one_in_every_unicode_form(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(CSV.replace("price", "Pre\u0301cio").replace("size", "Gro\u0308\u00dfe"))
    table = load_table(path, "Pr\u00e9cio")
    assert list(table.frame.columns) == ["Gr\u00f6\u00dfe", "kind"]
    assert load_table(path, "Pre\u0301cio").target_name == "Pr\u00e9cio"


def test_more_columns_than_can_be_used_are_refused_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_COLUMNS", 50)
    monkeypatch.setattr(reading, "_pandas_csv", None)
    path = tmp_path / "t.csv"
    row = ",".join(str(k) for k in range(51))
    path.write_text(",".join(f"c{k}" for k in range(51)) + "\n" + f"{row}\n" * 20)
    with pytest.raises(UserError, match="51 columns; at most 50"):
        load_table(path, "c50")


def test_a_bomb_is_refused_after_a_bounded_part(tmp_path):
    limit = 2**20
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(CSV.encode() + b"1.5,flat,2\n" * 10**7))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"bomb.csv.gz .*--max-gib"):
            load_table(path, "price", max_bytes=limit)
        assert tracemalloc.get_traced_memory()[1] < 40 * limit
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress, lambda data: data])
def test_the_limit_holds_for_every_file(tmp_path, pack):
    path = tmp_path / "t.csv"
    path.write_bytes(pack(CSV.encode()))
    with pytest.raises(UserError, match="--max-gib"):
        load_table(path, "price", max_bytes=500)
    assert len(load_table(path, "price", max_bytes=None)) == ROWS


def sheet(*cells):
    """A workbook of one sheet with a few cells of text, far from each other or not."""
    spread = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    rows = "".join(
        f'<row r="{row}"><c r="{column}{row}" t="inlineStr"><is><t>{text}</t></is></c></row>'
        for column, row, text in cells
    )
    target = "xl/workbook.xml"
    files = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/'
        'content-types"><Default Extension="xml" ContentType="application/xml"/><Override '
        f'PartName="/{target}" ContentType="application/vnd.openxmlformats-officedocument.'
        'spreadsheetml.sheet.main+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}"><Relationship Id="a" '
        f'Type="{office}/officeDocument" Target="{target}"/></Relationships>',
        target: f'<workbook xmlns="{spread}" xmlns:r="{office}"><sheets><sheet name="S" '
        'sheetId="1" r:id="b"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}"><Relationship Id="b" '
        f'Type="{office}/worksheet" Target="worksheets/s.xml"/></Relationships>',
        "xl/worksheets/s.xml": f'<worksheet xmlns="{spread}"><sheetData>{rows}</sheetData>'
        "</worksheet>",
    }
    book = io.BytesIO()
    with zipfile.ZipFile(book, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return book.getvalue()


def parquet(**columns):
    file = io.BytesIO()
    pd.DataFrame(columns).to_parquet(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("numbers.parquet", lambda: parquet(price=np.zeros(300_000))),
        ("text.parquet", lambda: parquet(price=["x" * 5000] * 1000)),
        ("two_cells.xlsx", lambda: sheet(("A", 1, "price"), ("ZZ", 2000, "x"))),
        ("keys.jsonl", lambda: "\n".join(f'{{"k{k}": 1}}' for k in range(600)).encode()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_grows_as_it_is_decoded_is_refused_by_the_limit(tmp_path, name, make):
    path = tmp_path / name
    path.write_bytes(make())
    assert path.stat().st_size < 2**16, "a small file"
    with pytest.raises(UserError, match=rf"^{name} holds more than .*--max-gib$"):
        load_table(path, "price", max_bytes=2**21)


def test_a_workbook_below_the_limit_is_read(tmp_path):
    path = tmp_path / "t.xlsx"
    path.write_bytes(sheet(("A", 1, "a"), ("A", 2, "x"), ("B", 4, "y")))
    assert len(load_frame(path)) == 3


def test_the_limit_is_an_option():
    tune = arguments.parse(["tune", "t.csv", "--target", "price"])
    assert tune.max_bytes == MAX_BYTES
    predict = arguments.parse(["predict", "d", "t.csv", "-o", "x.csv", "--max-gib", "2.5"])
    assert predict.max_bytes == int(2.5 * 2**30)


def test_no_memory_is_said(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise pd.errors.ParserError("Error tokenizing data. C error: out of memory")

    path = tmp_path / "t.csv"
    path.write_text(CSV)
    monkeypatch.setattr(pd, "read_csv", full)
    with pytest.raises(MachineError, match="does not fit into memory"):
        load_table(path, "price")


CITIES = {
    "cp1250": ["Łódź Gdańsk Świdnica", "Plzeň Třebíč Žďár", "Győr Pécs Fűzfő", "Timişoara Iaşi"],
    "cp1251": ["Москва Уфа", "Київ Львів"],
    "cp1252": [
        "Köln Gießen",
        "Évry Nîmes",
        "Logroño Málaga",
        "São Maceió",
        "Växjö",
        "Næstved Ålborg",
    ],
    "cp1253": ["Αθήνα Πάτρα"],
    "cp1254": ["İstanbul Muğla"],
    "koi8-r": ["Москва Уфа"],
    "mac_roman": ["München Köln"],
}


@pytest.mark.parametrize(
    ("encoding", "names"), [(code, names) for code, many in CITIES.items() for names in many]
)
def test_few_names_tell_the_encoding(encoding, names):
    text = "city,price\n" + "".join(f"{name},1\n" for name in names.split())
    assert decode(text.encode(encoding), "t.csv")[0] == text

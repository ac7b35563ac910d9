"""What later parts of an index say wins, and a part of any version so far is read."""

from dataset.signal_store.cache_index import Entry, load_index, write_part


def entry(row, digest="d"):
    return Entry(digest, "hospital", row, 4_294_967_295, 1)


def test_a_later_part_wins(tmp_path):
    folder = tmp_path / "index"
    write_part(folder, 9, ["b", "c"], [(4, 5, 6)] * 2, [entry(2), entry(3)])
    write_part(folder, 10, ["b", "a"], [(7, 8, 2**62 + 1)] * 2, [entry(4), Entry("x", rejected='no,\n"ECG"')])
    index = load_index(folder)
    assert index.lines.to_numpy().tolist() == [
        ["c", 4, 5, 6, "d", "hospital", 3, 4_294_967_295, 1, ""],
        ["b", 7, 8, 2**62 + 1, "d", "hospital", 4, 4_294_967_295, 1, ""],
        ["a", 7, 8, 2**62 + 1, "x", "", -1, 0, 0, 'no,\n"ECG"'],
    ]
    assert (index.n_rows, index.next_number, index.whole) == (5, 11, False)


def test_an_index_of_an_earlier_version_is_read(tmp_path):
    (tmp_path / "000000.csv").write_bytes(
        b"file,size,modified_ns,changed_ns,digest,form,row,checksum,measured,rejected\n"
        b"a,1,2,3,d,hospital,0,4,5,\n# CRC-32 5e98e19c\n"
    )
    index = load_index(tmp_path)
    assert index.lines.to_numpy().tolist() == [["a", 1, 2, 3, "d", "hospital", 0, 4, 5, ""]] and index.whole


def test_line_ends_in_names(tmp_path):
    names = ["Icon\r", "a\rb", "a\nb", "a\r\nb", "c"]
    write_part(tmp_path, 0, names, [(1, 2, 3)] * 5, [Entry("d", rejected="no\rECG")] * 5)
    lines = load_index(tmp_path).lines
    assert lines["file"].tolist() == names and set(lines["rejected"]) == {"no\rECG"}


def test_a_part_that_is_no_table_is_damaged(tmp_path):
    """As earlier versions wrote it, with the right CRC-32 but the carriage return of a name unquoted."""
    for number, name in enumerate(["a", "b", "c"]):
        write_part(tmp_path, number, [name], [(1, 2, 3)], [entry(number)])
    part = tmp_path / "000001.csv"
    part.write_bytes(
        b"file,size,modified_ns,changed_ns,digest,form,row,checksum,measured,rejected\n"
        b"Icon\r,1,2,3,d,hospital,1,4,5,\n# CRC-32 cae459a4\n"
    )
    index = load_index(tmp_path)
    assert index.lines["file"].tolist() == ["a", "c"]
    assert index.damaged == {part: 3} and not index.whole and index.next_number == 3


def test_a_forgotten_file_is_not_listed_but_its_row_is_not_free(tmp_path):
    folder = tmp_path / "index"
    write_part(folder, 0, ["a", "b"], [(1, 1, 1)] * 2, [entry(0), entry(1)])
    write_part(folder, 1, ["b"], [(0, 0, 0)], [Entry("")])
    index = load_index(folder)
    assert index.lines["file"].tolist() == ["a"] and index.n_rows == 2 and index.whole


def test_a_name_that_is_not_utf_8(tmp_path):
    name = b"Jos\xe9.xml".decode("utf-8", "surrogateescape")
    write_part(tmp_path / "index", 0, [name, "é.xml"], [(1, 2, 3)] * 2, [Entry("0" * 32, "hospital")] * 2)
    assert load_index(tmp_path / "index").lines["file"].tolist() == [name, "é.xml"]

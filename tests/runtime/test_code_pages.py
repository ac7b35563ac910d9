"""Printing never fails for want of a sign, and what is written is UTF-8 whatever a name holds."""

import io
import subprocess
import sys

import pytest
from tiny_runs import ENVIRONMENT, ROOT

from runtime.atomic_files import write_text_atomically
from runtime.code_pages import as_utf8

NAME = b"Jos\xe9.xml".decode("utf-8", "surrogateescape")  # as Python holds a name in Latin-1
PROGRAM = """
import sys
from runtime.command_line import one_line_errors
with one_line_errors():
    print(sys.argv[1].encode("ascii").decode("unicode_escape"))
    print("note: 12 \\u00b5V \\u00b1 3 \\u2013 \\u2265 2 \\u738b \\udce9", file=sys.stderr)
"""


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp932", "cp850", "gbk", "utf-8:strict", "latin-1"])
def test_what_a_page_lacks_becomes_another_sign(encoding):
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": encoding}
    words = [sys.executable, "-c", PROGRAM, r"\u00b5V/count \u00d7 2 \u2026 \u2192 \udce9.xml"]
    outcome = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, timeout=60)
    assert outcome.returncode == 0 and b"Traceback" not in outcome.stderr
    printed = outcome.stdout.decode(encoding.partition(":")[0]).rstrip()
    assert printed.endswith("\\udce9.xml") and "V/count" in printed
    if encoding == "ascii":
        assert printed == "uV/count x 2 ... -> \\udce9.xml"
        assert outcome.stderr.decode().rstrip() == "note: 12 uV +/- 3 - >= 2 \\u738b \\udce9"
    if encoding == "utf-8:strict":
        assert printed == "µV/count × 2 … → \\udce9.xml"


def test_a_stream_that_is_no_file_is_left_alone(monkeypatch):
    from runtime.code_pages import print_on_any_page

    monkeypatch.setattr(sys, "stdout", io.StringIO())
    print_on_any_page()
    print("µ")
    assert sys.stdout.getvalue() == "µ\n"


def test_text_is_written_in_utf_8(tmp_path):
    write_text_atomically(tmp_path / "a.csv", f"{NAME},µ\n")
    assert (tmp_path / "a.csv").read_bytes() == "Jos\\udce9.xml,µ\n".encode()
    assert as_utf8(NAME) == "Jos\\udce9.xml" and as_utf8("José µ") == "José µ"

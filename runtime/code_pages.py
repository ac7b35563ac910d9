"""What is printed on any code page: a sign that it lacks becomes another, and is never an error.

Files are always written in UTF-8. A file's name may be no text, where a share or an archive has it in another
encoding; Python then holds its bytes as lone surrogates, which no encoding has.
"""

import codecs
import sys

# What our own sentences and tables consist of beside ASCII, as it is on a page that lacks it.
_PLAIN = {"µ": "u", "μ": "u", "–": "-", "—": "-", "−": "-", "·": "*", "×": "x", "±": "+/-", "…": "..."}
_PLAIN |= {"≤": "<=", "≥": ">=", "→": "->", "²": "2", "‘": "'", "’": "'", "“": '"', "”": '"', "°": " deg"}
_PLAIN |= {"\N{NO-BREAK SPACE}": " "}


def print_on_any_page() -> None:
    """Let what is printed from now on never fail for want of a sign."""
    codecs.register_error("plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(
            stream, "reconfigure"
        ):  # not where a test or a notebook has put something else in its place
            stream.reconfigure(errors="plain")


def as_utf8(text: str) -> str:
    r"""Return text that UTF-8 can hold: the byte E9 of a name that is not UTF-8 becomes ``\udce9``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for the signs that an encoding lacks, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    plain = (_PLAIN.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in signs)
    return "".join(plain), error.end

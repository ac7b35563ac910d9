"""Parse XML that is not trusted: no entities of its own, limited depth and size, no prefixes, lower case."""

from __future__ import annotations

import codecs
import contextlib
import re
from collections.abc import Callable, Iterable, Sequence
from xml.etree import ElementTree
from xml.parsers import expat

from ecg.recording import MIN_SECONDS, RECORDED_LEADS, EcgFileError, PathLike, quote

MAX_ELEMENTS = 200_000  # each costs about 100 bytes of memory, so that 50 MB of "<a/>" would cost gigabytes
MAX_DEPTH = 100
MAX_XML_BYTES = 8_000_000  # 12 leads of 500 Hz as text for 4 min; numbers cost ten times as much in memory
MAX_ATTRIBUTES = 300_000  # of all elements; expat makes those of one before it can be stopped

_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_MARKED = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be", codecs.BOM_UTF8: "utf-8"}
_MARKED |= {b"<\0": "utf-16-le", b"\0<": "utf-16-be"}  # UTF-16 without a mark
_DECLARED = re.compile(
    rb"""\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']((?:iso|windows|cp|gb|big5|euc|shift|utf)"""
    rb"""[A-Za-z0-9._-]{0,20})["']"""
)
# What is meant by encodings of several bytes: that which devices write under these names.
_SUPERSETS = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift-jis": "cp932",
    "euc-kr": "cp949",
    "big5": "big5hkscs",
}
_SUPERSETS |= {"gb18030": "gb18030", "euc-jp": "euc-jp"}
_CONTROL_CHARACTERS = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_BARE_AMPERSAND = re.compile("&(?!(?:amp|lt|gt|quot|apos|#[0-9]{1,7}|#x[0-9a-fA-F]{1,6});)")


def looks_like_xml(content: bytes) -> bool:
    """Whether content begins as XML does, in any encoding; anything may follow."""
    return _beginning(content).startswith(b"<") and not looks_like_html(content)


def looks_like_html(content: bytes) -> bool:
    """Whether content begins as a page does, which need not be well-formed."""
    return _beginning(content).lower().startswith((b"<!doctype html", b"<html"))


def _beginning(content: bytes) -> bytes:
    for mark in _MARKS:
        content = content.removeprefix(mark)
    return content[:1000].lstrip(b" \t\r\n\0")


def parse_xml(content: bytes, path: PathLike) -> ElementTree.Element:
    """Return the tree of a file, with names in lower case without prefix.

    Raises
    ------
    EcgFileError
        Not well-formed, even once its characters are mended; a DTD in the file; too deep; too large.
    """
    n_attributes = content.count(b"=")  # at least as many as there are
    if len(content) > MAX_XML_BYTES or n_attributes > MAX_ATTRIBUTES:
        found = f"XML of {len(content):,} bytes and up to {n_attributes:,} attributes"
        raise EcgFileError(path, found, f"at most {MAX_XML_BYTES:,} and {MAX_ATTRIBUTES:,}")
    try:
        return _tree(content, _encoding_to_assume(content), path)
    except EcgFileError:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:  # the last two: encodings Python lacks
        with contextlib.suppress(expat.ExpatError):
            return _tree(_mended(content), "utf-8", path)
        beginning = content[:8].decode("latin-1")
        found = f"malformed or incomplete XML ({error}), beginning {quote(beginning)}"
        raise EcgFileError(path, found, "a complete, well-formed XML file") from error


def _tree(content: bytes, encoding: str | None, path: PathLike) -> ElementTree.Element:
    reader = _TreeReader(path)
    parser = expat.ParserCreate(encoding)
    parser.buffer_text = True
    parser.buffer_size = 1 << 18  # a lead's counts in one piece
    parser.StartDoctypeDeclHandler = reader.check_doctype
    parser.SkippedEntityHandler = reader.keep_entity
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.builder.data
    parser.Parse(content, True)
    return reader.builder.close()


def _mended(content: bytes) -> bytes:
    """Return XML in UTF-8, whatever it declares, with other characters for those that XML does not allow.

    The counts are ASCII in every encoding. Names are not: devices declare UTF-8 and write Latin-1, or declare
    GB2312, which expat does not know; and they let through control characters and a bare "&". None of it may
    decide who is read. Among counts such characters are still refused, and so is NUL: damaged disks leave it.
    """
    text = _CONTROL_CHARACTERS.sub(" ", _decoded(content))
    return _BARE_AMPERSAND.sub("&amp;", text).encode("utf-8", "replace")


def _decoded(content: bytes) -> str:
    """Return the text of XML: by its mark, as declared, in UTF-8 or, where it is neither, in Latin-1."""
    for mark, encoding in _MARKED.items():
        if content.startswith(mark):
            return content.decode(encoding, "replace").removeprefix("\ufeff")
    declared = _DECLARED.match(content)
    name = declared[1].decode().lower() if declared else ""
    name = _SUPERSETS.get(name.replace("_", "-"), name)
    tries = [(name, "strict"), ("utf-8", "strict")]
    tries += [(name, "replace")] if name in _SUPERSETS.values() else []
    for encoding, errors in tries:
        with contextlib.suppress(LookupError, UnicodeError):
            text = content.decode(encoding, errors) if encoding else ""
            if text.lstrip().startswith("<"):  # UTF-16 may be declared, and something else be meant
                return text
    return content.decode("latin-1")


def text_of(element: ElementTree.Element | None) -> str | None:
    """Return an element's own text, stripped, or None where there is no such element."""
    return None if element is None else (element.text or "").strip()


def seconds_of_counts(texts: Iterable[str | None], separator: str | None, rate: str | None) -> float:
    """Return how long the shortest of some lists of counts is at a rate in Hz; 0 where that is not known."""
    lengths = [len((text or "").split(separator)) for text in texts]
    try:
        return min(lengths, default=0) / float((rate or "0").replace(",", "."))
    except (ValueError, ZeroDivisionError):
        return 0.0


def complete_or_only(
    candidates: Sequence[ElementTree.Element],
    leads_of: Callable[[ElementTree.Element], set[str | None]],
    seconds_of: Callable[[ElementTree.Element], float],
    what: str,
    path: PathLike,
) -> ElementTree.Element:
    """Return the one element with all leads that are recorded, or the only one there is.

    Of several with all leads it is the only one that is long enough.

    Raises
    ------
    EcgFileError
        Two with all leads, or several with some: it names how many of ``what`` there are.
    """
    complete = [element for element in candidates if leads_of(element) >= RECORDED_LEADS]
    if len(complete) > 1:
        complete = [element for element in complete if seconds_of(element) >= MIN_SECONDS] or complete
    chosen = complete or candidates
    if len(chosen) != 1:
        raise EcgFileError(path, f"{len(chosen)} {what}{' with 12 leads' if complete else ''}", "one")
    return chosen[0]


def _encoding_to_assume(content: bytes) -> str | None:
    """Return the encoding to read with, or None for the one that the file declares."""
    if content.isascii() and b"\0" not in content[:4]:
        return "utf-8"  # the same characters in every encoding that can be meant, and read twice as fast
    if content.startswith((b"<?xml", *_MARKS)):
        return None
    try:
        content.decode()
    except UnicodeDecodeError:
        return "iso-8859-1"  # the hospital's, as nothing is declared and it is not UTF-8
    return None


class _TreeReader:
    """Build an element tree from an untrusted file; names lose their prefix and case, which exports vary."""

    def __init__(self, path: PathLike):
        self.path = path
        self.builder = ElementTree.TreeBuilder()
        self.depth = self.n_elements = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        self.n_elements += 1
        if self.depth > MAX_DEPTH or self.n_elements > MAX_ELEMENTS:
            found = f"more than {MAX_ELEMENTS:,} elements, or {MAX_DEPTH} nested in each other"
            raise EcgFileError(self.path, found, "an ECG")
        self.builder.start(tag.rpartition(":")[2].lower(), self._normalised(attributes))

    def end(self, tag: str) -> None:
        self.depth -= 1
        self.builder.end(tag)

    def check_doctype(self, name: str, system_id: str, public_id: str, has_internal_subset: int) -> None:
        # Nothing outside the file is ever fetched, so that only an internal subset could define entities.
        if has_internal_subset:
            found = f"a document type declaration (DOCTYPE {quote(name)})"
            raise EcgFileError(self.path, found, "XML without a DTD in it")

    def keep_entity(self, name: str, is_parameter_entity: bool) -> None:
        """Leave an undefined entity as it is: in a name it does no harm, and among counts it is none."""
        self.builder.data(f"&{name};")

    def _normalised(self, attributes: dict[str, str]) -> dict[str, str]:
        """Return attributes by lower-case local name; `type` hides `xsi:type`."""
        plain, prefixed = {}, {}
        for name, value in attributes.items():
            prefix, _, local = name.lower().rpartition(":")
            if not prefix and local in plain:
                raise EcgFileError(self.path, f"attribute {quote(name)} twice in one element", "it once")
            if prefix != "xmlns":
                (prefixed if prefix else plain)[local] = value
        return prefixed | plain

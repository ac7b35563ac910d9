"""Parse XML that is not trusted: no entities of its own, limited depth and size, no prefixes, lower case."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from xml.etree import ElementTree
from xml.parsers import expat

from ecg.recording import RECORDED_LEADS, EcgFileError, PathLike, quote

MAX_ELEMENTS = 200_000  # each costs about 100 bytes of memory, so that 50 MB of "<a/>" would cost gigabytes
MAX_DEPTH = 100
MAX_XML_BYTES = 8_000_000  # 12 leads of 500 Hz as text for 4 min; numbers cost ten times as much in memory
MAX_ATTRIBUTES = 300_000  # of all elements; expat makes those of one before it can be stopped
# GE's, which name a DTD that is never fetched; no other format does.
DOCTYPES = ("restingecg", "cardiologyxml")

_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UNMARKED_UTF16 = (b"<\0", b"\0<")


def looks_like_xml(content: bytes) -> bool:
    """Whether content begins as XML does, in any encoding; anything may follow."""
    for mark in _MARKS:
        content = content.removeprefix(mark)
    return content[:1000].lstrip(b" \t\r\n\0").startswith(b"<")


def parse_xml(content: bytes, path: PathLike) -> ElementTree.Element:
    """Return the tree of a file, with names in lower case without prefix.

    Raises
    ------
    EcgFileError
        Not well-formed; an internal DTD, or any DTD in a format that has none; too deep; too large.
    """
    if content.startswith(_UNMARKED_UTF16):
        raise EcgFileError(
            path, "UTF-16 without a byte-order mark", "UTF-8, ISO-8859-1, or UTF-16 with a mark"
        )
    n_attributes = content.count(b"=")  # at least as many as there are
    if len(content) > MAX_XML_BYTES or n_attributes > MAX_ATTRIBUTES:
        found = f"XML of {len(content):,} bytes and up to {n_attributes:,} attributes"
        raise EcgFileError(path, found, f"at most {MAX_XML_BYTES:,} and {MAX_ATTRIBUTES:,}")
    reader = _TreeReader(path)
    parser = expat.ParserCreate(_encoding_to_assume(content))
    parser.buffer_text = True
    parser.buffer_size = 1 << 18  # a lead's counts in one piece
    parser.StartDoctypeDeclHandler = reader.check_doctype
    parser.SkippedEntityHandler = reader.refuse_entity
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.builder.data
    try:
        parser.Parse(content, True)
    except EcgFileError:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:  # the last two: encodings Python lacks
        beginning = content[:8].decode("latin-1")
        found = f"malformed or incomplete XML ({error}), beginning {quote(beginning)}"
        raise EcgFileError(path, found, "a complete, well-formed XML file") from error
    return reader.builder.close()


def text_of(element: ElementTree.Element | None) -> str | None:
    """Return an element's own text, stripped, or None where there is no such element."""
    return None if element is None else (element.text or "").strip()


def complete_or_only(
    candidates: Sequence[ElementTree.Element],
    leads_of: Callable[[ElementTree.Element], set[str | None]],
    what: str,
    path: PathLike,
) -> ElementTree.Element:
    """Return the one element with all leads that are recorded, or the only one there is.

    Raises
    ------
    EcgFileError
        Two with all leads, or several with some: it names how many of ``what`` there are.
    """
    complete = [element for element in candidates if leads_of(element) >= RECORDED_LEADS]
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
        if has_internal_subset or name.lower() not in DOCTYPES:
            found = f"a document type declaration (DOCTYPE {quote(name)})"
            raise EcgFileError(self.path, found, "XML without a DTD")

    def refuse_entity(self, name: str, is_parameter_entity: bool) -> None:
        raise EcgFileError(self.path, f"the undefined entity {quote(name)}", "XML without entities")

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

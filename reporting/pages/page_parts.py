"""What the pages share: their templates, pictures within a page, and how a page is written."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from reporting.figures.curves import as_svg
from runtime.atomic_files import write_text_atomically

TEMPLATES = Path(__file__).parent / "templates"
DOTS_PER_INCH = 127  # 5 pixels per mm: every line of ECG paper falls on whole pixels


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Attributes
    ----------
    source : a data URI.
    alt : what it shows, for readers who cannot see it.
    caption : how to read it.
    """

    source: str
    alt: str
    caption: str


def new_environment() -> Environment:
    """Return what fills the templates; all values are escaped."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_page(path: Path, text: str) -> Path:
    """Write a page, whole or not at all, and return its path."""
    write_text_atomically(path, text)
    return path


def svg_picture(figure: Figure, *, alt: str, caption: str) -> Picture:
    """Return a figure as a picture of the page."""
    svg = base64.b64encode(as_svg(figure).encode("utf-8")).decode("ascii")
    return Picture(f"data:image/svg+xml;base64,{svg}", alt, caption)


def png_source(figure: Figure, dots_per_inch: float = DOTS_PER_INCH, **options: object) -> str:
    """Return a figure as a PNG in a data URI; `options` are those of `Figure.savefig`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dots_per_inch, **options)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")

"""Where `predict.py` leaves its table while files are scored: the terminal, and a .csv or .json file.

Rows go out batch by batch, so that a folder of any size is scored in the same memory; the file appears whole,
when all of them are there.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import pandas as pd

from runtime.atomic_files import csv_text, writing, written_whole
from runtime.code_pages import as_utf8


class ScoresFile:
    """A table that is written as its rows come; within this context, and whole when that ends.

    Parameters
    ----------
    path : of JSON where it ends in .json, otherwise of CSV.

    Raises
    ------
    UserError : the disk refuses.
    """

    def __init__(self, path: Path):
        self.path = path
        self._is_json = path.suffix.lower() == ".json"
        self._written = written_whole(path)
        self._n_rows = 0

    def __enter__(self) -> "ScoresFile":
        with writing(self.path):
            self._aside = open(self._written.__enter__(), "w", encoding="utf-8", newline="")
        return self

    def add(self, table: pd.DataFrame) -> None:
        """Write some rows; the first table, which may have none, gives the columns."""
        table = table.assign(**{name: table[name].map(as_utf8) for name in ("file", "warnings")})
        if self._is_json:
            records = table.to_json(orient="records", indent=2).removeprefix("[").removesuffix("]")
            text = (",\n" if self._n_rows else "[\n") + records.strip("\n") if len(table) else ""
        else:
            text = csv_text(table, header=not self._aside.tell())
        with writing(self.path):
            self._aside.write(text)
            self._aside.flush()
        self._n_rows += len(table)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with writing(self.path):
            try:
                if self._is_json and error is None:
                    self._aside.write("\n]\n" if self._n_rows else "[]\n")
                self._aside.close()
            except OSError as refusal:
                self._written.__exit__(type(refusal), refusal, refusal.__traceback__)  # removes the file
                raise
            self._written.__exit__(kind, error, trace)


class PrintedTable:
    """The table on the terminal, line by line; columns are as wide as the longest that can come.

    Parameters
    ----------
    files : all that may be in it.
    """

    def __init__(self, files: Sequence[Path]):
        self._width = max((len(str(file)) for file in files), default=0)
        self._begun = False

    def lines(self, table: pd.DataFrame) -> Iterator[str]:
        """Yield the lines of some rows without their warnings, before the first the names of the columns."""
        columns = [name for name in table if name != "warnings"]
        widths = [max(self._width, len("file")), *(max(len(name), len("not sure")) for name in columns[1:])]
        rows = [tuple(columns)] if len(table) and not self._begun else []
        self._begun = self._begun or bool(len(table))
        for row in [*rows, *table[columns].itertuples(index=False)]:
            texts = (f"{value:.4f}" if isinstance(value, float) else str(value) for value in row)
            yield "  ".join(text.rjust(width) for text, width in zip(texts, widths, strict=True))

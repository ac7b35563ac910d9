"""Times and patients of a hospital's tables, as ``cohorts.from_table`` reads them: each with one meaning."""

import re
from datetime import date, datetime, time
from pathlib import Path
from typing import NamedTuple

from cohorts.columns import ids_alike, is_rounded, is_unknown, normal_id
from runtime.errors import UserError

MIDNIGHTS = 0.05  # share of a column's times above which midnight is suspected to stand for "not known"
Rows = list[tuple[str, int, dict[str, str]]]  # where, line and fields of each row of a table


class Moment(NamedTuple):
    """A time, or only its day: then the time of day is that of midnight, and means nothing."""

    time: datetime
    is_day: bool


class Times:
    """Reads times, and remembers where the first was, so that none with an offset mixes with one without."""

    def __init__(self, time_format: str | None, *, days_count: bool):
        self.time_format = time_format
        self.days_count = days_count
        self.first: tuple[str, str, bool] | None = None

    def column(self, path: Path, rows: Rows, column: str) -> list[Moment | None]:
        """Return the time in each row of a table, None where there is none.

        Where all are midnight they are dates, to which a program has added it.

        Raises
        ------
        UserError : not a time, one with a UTC offset beside others without, or a date where hours decide.
        """
        moments = [self._read(where, row[column]) for where, _, row in rows]
        timed = [moment for moment in moments if moment and not moment.is_day]
        n_midnights = sum(moment.time.time() == time() for moment in timed)
        if n_midnights == len(timed) > 1:
            moments = [moment and moment._replace(is_day=True) for moment in moments]
        elif n_midnights > MIDNIGHTS * len(timed):
            print(
                f"note     {path}: {n_midnights:,} of {len(timed):,} times in column {column} are midnight "
                "to the second; where that means a date without a time, leave out the time"
            )
        for (where, _, row), moment in zip(rows, moments, strict=True):
            if moment and moment.is_day and not self.days_count:
                raise UserError(
                    f"{where}: found the date {row[column]} without a time in column {column}, expected a "
                    "time: the window is in hours; --window-days 0 0 takes ECGs of the same day"
                )
        return moments

    def _read(self, where: str, text: str) -> Moment | None:
        if is_unknown(text):
            return None
        moment = self._parsed(text)
        if moment is None:
            expected = self.time_format or "a time such as 2024-03-01 14:05 (--time-format for other formats)"
            raise UserError(f"{where}: found time {text}, expected {expected}")
        with_offset = moment.time.tzinfo is not None
        self.first = self.first or (where, text, with_offset)
        if self.first[2] != with_offset:
            with_or_not = ("without", "with")[self.first[2]]
            raise UserError(
                f"{where}: found time {text}, expected one {with_or_not} a UTC offset as {self.first[1]} "
                f"({self.first[0]})"
            )
        return moment

    def _parsed(self, text: str) -> Moment | None:
        try:
            if self.time_format:
                has_time = re.search("%[HIcX]", self.time_format)
                return Moment(datetime.strptime(text, self.time_format), not has_time)
            if is_date(text):
                return Moment(datetime.combine(date.fromisoformat(text), time()), True)
            # Python 3.10 does not read Z
            return Moment(datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text), False)
        except ValueError:
            return None


def is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


class Patients:
    """Gives each patient's id one spelling, in the table of examinations and in that of ECGs."""

    def __init__(self) -> None:
        self.tables: list[dict[str, str]] = []  # of each table, where an id was first
        self.spelling: dict[str, str] = {}

    def column(self, rows: Rows, column: str) -> list[str]:
        """Return the patient in each row of a table; 17.0 is 17.

        An id that has another spelling in the table before, by case, spaces or leading zeros, has that one.
        Where both tables have both spellings these are two patients, and a line says so.

        Raises
        ------
        UserError : an id is unknown or was rounded, or it cannot be said which one another spelling means.
        """
        for where, _, row in rows:
            if is_unknown(row[column]) or is_rounded(row[column]):
                found = row[column] or "nothing"
                raise UserError(f"{where}: found {found} in column {column}, expected a patient's id")
        patients = [normal_id(row[column]) for _, _, row in rows]
        first: dict[str, str] = {}
        for patient, (where, _, _) in zip(patients, rows, strict=True):
            first.setdefault(patient, where)
        self.tables.append(first)
        different = [group for group in ids_alike({**self.tables[0], **first}) if not self._is_one(group)]
        if different:
            more = f" (and {len(different) - 1} more such groups)" if len(different) > 1 else ""
            places = " and ".join({**first, **self.tables[0]}[patient] for patient in different[0])
            print(
                f"warning  {places}: patients' ids differ only by case, spaces, leading zeros or .0{more}; "
                "these count as different patients"
            )
        return [self.spelling.get(patient, patient) for patient in patients]

    def _is_one(self, group: list[str]) -> bool:
        """Return whether ids alike are one patient's: each table has one of them."""
        in_tables = [[patient for patient in group if patient in table] for table in self.tables]
        if len(in_tables) == 1 or set(in_tables[1]) <= set(in_tables[0]):
            return False
        if max(map(len, in_tables)) == 1:
            self.spelling[in_tables[1][0]] = in_tables[0][0]
            return True
        stranger = next(patient for patient in in_tables[1] if patient not in in_tables[0])
        places = " and ".join(self.tables[0][patient] for patient in in_tables[0])
        raise UserError(
            f"{self.tables[1][stranger]}: found a patient's id that differs from those of {places} only by "
            "case, spaces, leading zeros or .0, expected each patient in one spelling"
        )

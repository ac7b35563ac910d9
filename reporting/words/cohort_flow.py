"""Who was studied, from a run's tables: the flow of files to parts, table 1, quality checks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from cohorts.columns import PARTS
from run_folder.run_record import RunRecord

MAX_REASONS = 8  # reasons for rejection that the flow lists
MAX_REASON_LENGTH = 100  # characters
MAX_PARTS = 10  # folds that the flow and table 1 show
MAX_SEXES = 4  # different entries of the column `sex` that get a row


@dataclass(frozen=True)
class Group:
    """Some ECGs: how many, of how many patients, and how many are positive for each label.

    Attributes
    ----------
    name : for a reader, such as "train" or "fold 2, tested".
    table : the rows of `splits.csv`.
    """

    name: str
    table: pd.DataFrame

    @property
    def n_ecgs(self) -> int:
        return len(self.table)

    @property
    def n_patients(self) -> int:
        return self.table["patient_id"].nunique()

    def positives(self, label_names: Sequence[str]) -> str:
        """Return text such as "21 PE (10.4 %), 3 MI (1.5 %)"."""
        present = [name for name in label_names if name in self.table]
        return ", ".join(f"{self.n_with(name):,} {name} ({self.share_with(name)})" for name in present)

    def n_with(self, name: str) -> int:
        """Return how many ECGs have a label."""
        return int(self.table[name].sum())

    def share_with(self, name: str) -> str:
        """Return their share among the ECGs whose label is known."""
        return share(self.n_with(name), int(self.table[name].notna().sum()))


@dataclass(frozen=True)
class Flow:
    """From the files of the labels table to the parts of the split.

    Attributes
    ----------
    n_files, n_rejected : how many the table names, and how many are not used.
    reasons : for rejection, the most frequent first, each with its number of files.
    used : all ECGs that are used.
    parts : train, validation and test, or the tested ECGs of each fold.
    n_parts_left_out : folds beyond those in `parts`.
    """

    n_files: int
    n_rejected: int
    reasons: list[tuple[str, int]]
    used: Group
    parts: list[Group]
    n_parts_left_out: int


def cohort_flow(record: RunRecord) -> Flow:
    groups = parts_of(record)
    n_rejected = len(record.rejected)
    return Flow(
        n_files=len(record.splits) + n_rejected,
        n_rejected=n_rejected,
        reasons=_reasons(record.rejected, record.quality),
        used=Group("used", record.splits),
        parts=groups[:MAX_PARTS],
        n_parts_left_out=max(0, len(groups) - MAX_PARTS),
    )


def parts_of(record: RunRecord) -> list[Group]:
    """Return the parts of a single split, or what each fold of the first repeat has tested."""
    splits = record.splits
    if not record.is_cross_validation:
        return [Group(part, splits[splits["split"] == part]) for part in PARTS if "split" in splits]
    folds = record.fold_columns[: record.n_folds]
    return [Group(f"{fold.replace('-', ' ')}, tested", splits[splits[fold] == "test"]) for fold in folds]


def table_one(record: RunRecord) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of table 1: the ECGs used, by label (where there is one) and by part.

    Age is that of the ECGs, median and quartiles; sex is as the labels table has it.
    """
    splits, groups = record.splits, [Group("all", record.splits)]
    if len(record.label_names) == 1 and record.label_names[0] in splits:
        name = record.label_names[0]
        groups += [Group(f"with {name}", splits[splits[name] == 1])]
        groups += [Group(f"without {name}", splits[splits[name] == 0])]
    groups += parts_of(record)[:MAX_PARTS]
    rows = [
        ["ECGs", *(f"{group.n_ecgs:,}" for group in groups)],
        ["patients", *(f"{group.n_patients:,}" for group in groups)],
    ]
    rows += _age_rows(groups) + _sex_rows(splits, groups)
    for name in record.label_names:
        if name in splits:
            cells = (f"{group.n_with(name):,} ({group.share_with(name)})" for group in groups)
            rows.append([f"{name} present", *cells])
            if splits[name].isna().any():
                cells = (f"{int(group.table[name].isna().sum()):,}" for group in groups)
                rows.append([f"{name} not known", *cells])
    return ["", *(group.name for group in groups)], rows


def quality_counts(quality: pd.DataFrame) -> list[tuple[str, str, int]]:
    """Return check, verdict in words and number of ECGs, warnings first; rejections are in the flow."""
    words, rows = {"warn": "warning, used", "note": "note, used"}, []
    for verdict, in_words in words.items():
        found = quality[quality["verdict"] == verdict].groupby("check")["file"].nunique()
        rows += [(check, in_words, int(n)) for check, n in found.sort_values(ascending=False).items()]
    return rows


def share(n: int, total: int) -> str:
    return f"{100 * n / total:.1f} %" if total else "–"


def _age_rows(groups: Sequence[Group]) -> list[list[str]]:
    if "age" not in groups[0].table:
        return []
    ages = [pd.to_numeric(group.table["age"], errors="coerce") for group in groups]
    rows = [["age in years, median (quartiles)", *(_median(age.dropna()) for age in ages)]]
    missing = [int(age.isna().sum()) for age in ages]
    return rows + ([["age missing", *(f"{n:,}" for n in missing)]] if missing[0] else [])


def _median(ages: pd.Series) -> str:
    if not len(ages):
        return "–"
    low, middle, high = ages.quantile([0.25, 0.5, 0.75])
    return f"{middle:.0f} ({low:.0f}–{high:.0f})"


def _sex_rows(splits: pd.DataFrame, groups: Sequence[Group]) -> list[list[str]]:
    if "sex" not in splits:
        return []
    rows = []
    for sex in splits["sex"].value_counts().index[:MAX_SEXES].sort_values():
        counts = ((int((group.table["sex"] == sex).sum()), group.n_ecgs) for group in groups)
        rows.append([f"sex {sex}", *(f"{n:,} ({share(n, total)})" for n, total in counts)])
    missing = [int(group.table["sex"].isna().sum()) for group in groups]
    return rows + ([["sex missing", *(f"{n:,}" for n in missing)]] if missing[0] else [])


def _reasons(rejected: pd.DataFrame, quality: pd.DataFrame) -> list[tuple[str, int]]:
    """Group the reasons: by check where one refused the ECG, else by what was found in the file."""
    refused = quality[quality["verdict"] == "reject"].groupby("file")["check"]
    refused = refused.agg(lambda checks: " and ".join(sorted(set(checks))))
    kinds = [
        f"quality check: {refused[file]}" if file in refused.index else _kind(str(reason))
        for file, reason in zip(rejected["file"], rejected["reason"], strict=True)
    ]
    counts = pd.Series(kinds, dtype=str).value_counts()
    reasons = [(str(kind), int(n)) for kind, n in counts.items()]
    if len(reasons) > MAX_REASONS:
        others = sum(n for _, n in reasons[MAX_REASONS - 1 :])
        reasons = [*reasons[: MAX_REASONS - 1], ("other reasons, listed in rejected.csv", others)]
    return reasons


def _kind(reason: str) -> str:
    """Return what was found and expected, without what belongs to one file: path, quotations, numbers."""
    found, _, expected = re.sub(r"^.*?found ", "", reason).partition("; expected ")
    found = re.sub(r"\([^)]*\)|'[^']*'|, beginning.*", "", found)
    words = re.sub(r"\d[\d.,]*", "…", found) + (f", expected {expected}" if expected else "")
    return " ".join(words.split()).replace(" ,", ",")[:MAX_REASON_LENGTH] or "not readable"

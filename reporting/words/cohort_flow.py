"""Who was studied, from a run's tables: the flow of files to parts, table 1, quality checks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cohorts.columns import CLINICAL, HOURS, PARTS
from dataset.clinical import OLDEST, for_splits
from dataset.cohort import Cohort
from reporting.words.formatting import number
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


def record_of(cohort: Cohort, folder: Path) -> RunRecord:
    """Return what there is to say about a cohort without a run: its ECGs, rejected files and findings."""
    described = [name for name in ("age", "sex", HOURS) if name in cohort.table]
    splits = cohort.table[["file", "patient_id", *described, *cohort.label_names]].replace("", np.nan)
    splits = splits.assign(**for_splits(cohort.clinical))
    reading = cohort.reading
    return RunRecord(folder, {}, pd.DataFrame(), splits, reading.rejected, reading.findings)


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


def table_one(record: RunRecord, development: RunRecord | None = None) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of table 1: the ECGs used, by label (where there is one) and by part.

    Age is that of the ECGs, median and quartiles; sex is as the labels table has it, as are the clinical
    columns that the model sees. The ECGs with which a model was developed may stand before them.
    """
    splits, groups = record.splits, [Group("all", record.splits)]
    if development:
        groups.insert(0, Group("development", development.splits.reindex(columns=splits.columns)))
    if len(record.label_names) == 1 and record.label_names[0] in splits:
        name = record.label_names[0]
        groups += [Group(f"with {name}", splits[splits[name] == 1])]
        groups += [Group(f"without {name}", splits[splits[name] == 0])]
    groups += parts_of(record)[:MAX_PARTS]
    rows = [
        ["ECGs", *(f"{group.n_ecgs:,}" for group in groups)],
        ["patients", *(f"{group.n_patients:,}" for group in groups)],
    ]
    rows += _age_rows(splits, groups) + _sex_rows(splits, groups) + _clinical_rows(splits, groups)
    for name in record.label_names:
        if name in splits:
            cells = (f"{group.n_with(name):,} ({group.share_with(name)})" for group in groups)
            rows.append([f"{name} present", *cells])
            if any(group.table[name].isna().any() for group in groups):
                cells = (f"{int(group.table[name].isna().sum()):,}" for group in groups)
                rows.append([f"{name} not known", *cells])
    rows += _patient_rows(splits, groups, record.label_names)
    return ["", *(group.name for group in groups)], rows


def left_out_rows(record: RunRecord) -> list[list[str]]:
    """Return of each class of each label, and of each sex: the files, those that are not used, their share.

    There are none where every file is used, and in runs of the first versions.
    """
    columns = [
        name for name in (*record.label_names, "sex") if name in record.rejected and name in record.splits
    ]
    everyone, rows = pd.concat([record.splits[columns], record.rejected[columns]]), []
    is_left_out = np.arange(len(everyone)) >= len(record.splits)
    for name in columns if is_left_out.any() else []:
        classes = {
            f"sex {sex}": everyone[name] == sex for sex in sorted(everyone[name].dropna().unique(), key=str)
        }
        if name != "sex":
            classes = {f"{name} present": everyone[name] == 1, f"{name} absent": everyone[name] == 0}
        for title, inside in (classes | {f"{name} not known": everyone[name].isna()}).items():
            n, n_left_out = int(inside.sum()), int((inside & is_left_out).sum())
            rows += [[title, f"{n:,}", f"{n_left_out:,}", share(n_left_out, n)]] if n else []
    return rows


def hours_from_ct(record: RunRecord) -> list[str]:
    """Return when the ECGs of each result were recorded, in hours from the examination, where it is known."""
    if HOURS not in record.splits:
        return []
    hours, sentences = pd.to_numeric(record.splits[HOURS], errors="coerce"), []
    for name in record.label_names:
        for words, value in (("with", 1), ("without", 0)):
            known = hours[record.splits[name] == value].dropna()
            if len(known):
                ends = known.quantile([0.5, 0.25, 0.75, 0, 1])
                median, low, high, first, last = (number(end, 1) for end in ends)
                sentences.append(
                    f"{words} {name}: median {median} h (quartiles {low} and {high}, range {first} to {last})"
                    f", {int((known > 0).sum()):,} of {len(known):,} ECGs after it"
                )
    return sentences


def age_and_sex(splits: pd.DataFrame, file: str) -> str:
    """Return text such as "71 years, F" for the patient of a file; "" where the table has neither."""
    rows = splits[splits["file"] == file] if "file" in splits else splits
    if not len(rows):
        return ""
    row, words = rows.iloc[0], []
    age = pd.to_numeric(row.get("age"), errors="coerce")
    if pd.notna(age):
        years = "1 year" if age == 1 else f"{age:g} years"
        words.append(years if age < OLDEST else f"{OLDEST} years or older")
    return ", ".join(words + ([str(row["sex"])] if pd.notna(row.get("sex")) else []))


def quality_counts(quality: pd.DataFrame) -> list[tuple[str, str, int]]:
    """Return check, verdict in words and number of ECGs, warnings first; rejections are in the flow."""
    words, rows = {"warn": "warning, used", "note": "note, used"}, []
    for verdict, in_words in words.items():
        found = quality[quality["verdict"] == verdict].groupby("check")["file"].nunique()
        rows += [(check, in_words, int(n)) for check, n in found.sort_values(ascending=False).items()]
    return rows


def share(n: int, total: int) -> str:
    return f"{100 * n / total:.1f} %" if total else "–"


def _age_rows(splits: pd.DataFrame, groups: Sequence[Group]) -> list[list[str]]:
    if "age" not in splits:
        return []
    ages = [pd.to_numeric(group.table["age"], errors="coerce") for group in groups]
    rows = [["age in years, median (quartiles)", *(_quartiles(age.dropna(), whole=True) for age in ages)]]
    missing = [int(age.isna().sum()) for age in ages]
    return rows + ([["age missing", *(f"{n:,}" for n in missing)]] if any(missing) else [])


def _quartiles(values: pd.Series, *, whole: bool = False) -> str:
    """Return text such as "61 (52–73)": whole from 100 on, or if asked for, else three significant digits."""
    if not len(values):
        return "–"
    ends = values.quantile([0.5, 0.25, 0.75])
    middle, low, high = (f"{end:.0f}" if whole or abs(end) >= 100 else f"{end:.3g}" for end in ends)
    return f"{middle} ({low}–{high})" if min(ends) >= 0 else f"{middle} ({low} to {high})".replace("-", "−")


def _sex_rows(splits: pd.DataFrame, groups: Sequence[Group]) -> list[list[str]]:
    if "sex" not in splits:
        return []
    rows = []
    entries = splits["sex"].value_counts().index
    own = entries[:MAX_SEXES].sort_values()
    for name, sexes in {**{sex: [sex] for sex in own}, "of other entries": entries[MAX_SEXES:]}.items():
        if len(sexes):
            counts = ((int(group.table["sex"].isin(sexes).sum()), group.n_ecgs) for group in groups)
            rows.append([f"sex {name}", *(f"{n:,} ({share(n, total)})" for n, total in counts)])
    missing = [int(group.table["sex"].isna().sum()) for group in groups]
    return rows + ([["sex missing", *(f"{n:,}" for n in missing)]] if any(missing) else [])


def _clinical_rows(splits: pd.DataFrame, groups: Sequence[Group]) -> list[list[str]]:
    """Return median and quartiles of each clinical column or, of one of 0 and 1, how many have 1."""
    rows = []
    for column in (name for name in splits if name.startswith(CLINICAL)):
        values, name = [group.table[column].dropna() for group in groups], column.removeprefix(CLINICAL)
        if splits[column].dropna().isin([0, 1]).all():
            cells = (f"{int(known.sum()):,} ({share(int(known.sum()), len(known))})" for known in values)
            rows.append([f"{name}: 1 or yes", *cells])
        else:
            rows.append([f"{name}, median (quartiles)", *(_quartiles(known) for known in values)])
        missing = [group.n_ecgs - len(known) for group, known in zip(groups, values, strict=True)]
        rows += [[f"{name} not known", *(f"{n:,}" for n in missing)]] if any(missing) else []
    return rows


def _patient_rows(
    splits: pd.DataFrame, groups: Sequence[Group], label_names: Sequence[str]
) -> list[list[str]]:
    """Return the characteristics of the patients, each counted once; nothing where each has one ECG.

    The age is the lowest of a patient's ECGs, and a label that of any of them.
    """
    if all(group.n_ecgs == group.n_patients for group in groups):
        return []
    people = [Group(group.name, _one_row_each(group.table, label_names)) for group in groups]
    rows = _age_rows(splits, people) + _sex_rows(splits, people)
    for name in label_names:
        if name in splits:
            rows.append(
                [f"{name} present", *(f"{one.n_with(name):,} ({one.share_with(name)})" for one in people)]
            )
    return [[f"patients: {title}", *cells] for title, *cells in rows]


def _one_row_each(table: pd.DataFrame, label_names: Sequence[str]) -> pd.DataFrame:
    known = {"age": "min", "sex": "first"} | dict.fromkeys(label_names, "max")
    columns = {name: how for name, how in known.items() if name in table}
    if "age" in columns:
        table = table.assign(age=pd.to_numeric(table["age"], errors="coerce"))
    return table.groupby("patient_id", as_index=False).agg(columns)


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

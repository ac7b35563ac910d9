"""A finished run as a folder in the form of Hugging Face, for others: ``export.py RUN --hub FOLDER``.

It holds weights, what is needed to use them, counts and metrics. No name of a file, pseudonym, digest or
fingerprint of an ECG is in it. So nothing tells whose ECGs the models have seen, and the programs that
otherwise warn of such ECGs say that they cannot.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from inference.scoring import Scorer
from metrics.metric import metrics_to_json
from reporting.pages.card_xml import FILE as CARD_FOR_PROGRAMS
from reporting.pages.card_xml import card_xml
from reporting.pages.model_card import exported_record, render_model_card
from run_folder.descriptions import ModelDescription
from run_folder.ensemble import members_of, performance_of, read_ensemble
from run_folder.files import RunFiles
from run_folder.hub import CONFIG
from run_folder.lineage import root_of
from run_folder.tracking import PATHS
from runtime.atomic_files import check_folder_of, writing
from runtime.errors import UserError

OF_A_MODEL = (
    "model.json",
    "model.safetensors",
    "training_distribution.json",
    "training_distribution.safetensors",
)
TAGS = ("ecg", "12-lead-ecg", "medical", "research-only")


def publish(run: Path, scorer: Scorer, folder: Path) -> None:
    """Write the folder, whole or not at all.

    Parameters
    ----------
    run : a finished run, a fold, a cross-validation, or the folder of a comparison.
    folder : there is none yet, or it is empty.
    """
    check_folder_of(folder)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder}: found something there, expected no or an empty folder (--hub)")
    place = {"prefix": ".publishing-", "dir": folder.parent, "ignore_cleanup_errors": True}
    with writing(folder), tempfile.TemporaryDirectory(**place) as name:
        aside = Path(name)
        _fill(aside, run, scorer)
        aside.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        aside.rename(folder)


def _fill(folder: Path, run: Path, scorer: Scorer) -> None:
    members = members_of(run)
    places = _places(run, members, folder)
    for member, place in zip(members, places, strict=True):
        place.mkdir(exist_ok=True)
        for name in OF_A_MODEL:
            if (member / name).exists():
                shutil.copyfile(member / name, place / name)
    if len(members) > 1:
        names = [place.name for place in places]
        _write_json(folder / "ensemble.json", asdict(replace(read_ensemble(run), members=names)))
    if performance := performance_of(run):
        metrics = RunFiles(run).metrics()
        _write_json(folder / "metrics.json", metrics if "labels" in metrics else {"labels": performance})
    values = RunFiles(root_of(members[0])).hyperparameters()
    shared = {name: value for name, value in values.items() if name not in PATHS}
    (folder / "hyperparameters.yml").write_text(yaml.safe_dump(shared, sort_keys=False), encoding="utf-8")
    (folder / CARD_FOR_PROGRAMS).write_text(card_xml(exported_record(run)), encoding="utf-8")
    card = front_matter(scorer.label_names) + render_model_card(run, scorer)
    (folder / "README.md").write_text(card, encoding="utf-8")
    _write_json(folder / CONFIG, config_of(scorer.descriptions[0], n_models=len(members)))


def _places(run: Path, members: list[Path], folder: Path) -> list[Path]:
    """Return where each model goes: the folder itself, or a folder for each, where folds stay folds."""
    if members == [run]:
        return [folder]
    kind = "fold" if any(member.name.startswith("fold-") for member in members) else "model"
    return [folder / f"{kind}-{number}" for number in range(1, len(members) + 1)]


def config_of(description: ModelDescription, *, n_models: int) -> dict[str, Any]:
    """Return ``config.json``, in the words of that format; ``model.json`` has what predict.py needs."""
    names = description.label_names
    return {
        "model_type": description.model,
        "problem_type": "multi_label_classification",
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
        "n_models": n_models,
        "sampling_rate": description.sampling_rate,
        "n_samples": description.n_samples,
        "leads": description.leads,
        "unit": "mV",
        "clinical_columns": description.clinical_columns,
    }


def front_matter(label_names: list[str]) -> str:
    """Return the YAML at the head of README.md; a licence is for those to name who give the model away."""
    content = {"library_name": "pytorch", "tags": [*TAGS, *label_names]}
    return f"---\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}---\n\n"


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(metrics_to_json(content), indent=2, allow_nan=False)
    path.write_text(f"{text}\n", encoding="utf-8")

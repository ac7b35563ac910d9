"""The model card of weights to start from, README.md of a folder of ``pretrained/``; nothing of a patient.

After Mitchell et al., Model cards for model reporting, FAT* 2019 (doi:10.1145/3287560.3287596).
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from cohorts.columns import PARTS
from models import MODELS
from reporting.pages.model_card import markdown_environment
from run_folder.descriptions import PretrainedDescription
from run_folder.files import RunFiles
from run_folder.run import Run
from run_folder.shipped import PUBLIC_KEY_FILE, SEEN_FILE
from run_folder.tracking import PATHS
from runtime.messages import counted, duration
from training.statements import mean_scores

SCRIPT_OF = {"res_net_model": "train_baseline.py", "resnet18_with_atten_spectr": "train_spectrogram.py"}
SHOWN_PATHS = ("data_dir", "labels")  # by their last part


def render_trunk_card(
    folder: Path, run: RunFiles, file_rates: Sequence[float], companions: Sequence[Run] = ()
) -> str:
    """Return the card, Markdown, of the weights in a folder that came from a run of pretrain.py.

    Parameters
    ----------
    folder : with model.safetensors, model.json and environment.json.
    run : where splits.csv, log.csv and test_scores.csv are.
    file_rates : sampling rates of the files, in Hz.
    companions : runs of the other models whose layers are among the weights.
    """
    shipped = Run(folder)
    weights, description = shipped.read_weights(), shipped.load_any_description()
    content = (folder / "model.safetensors").read_bytes()
    environment, splits = shipped.json("environment.json"), run.splits()
    architecture = MODELS.get(description.model)
    card = markdown_environment().get_template("trunk_card.md")
    return card.render(
        name=folder.resolve().name,
        script=SCRIPT_OF.get(description.model, "train_atten.py"),
        title=architecture.title if architecture else description.model,
        description=description,
        n_parameters=sum(tensor.numel() for tensor in weights.values() if tensor.is_floating_point()),
        n_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        command=Markup(" ".join(environment["command"])),
        environment=environment,
        epochs=_epochs(run.log()),
        companions=[_companion(other) for other in companions],
        parts=[[part, *_size(splits[splits["split"] == part])] for part in PARTS] + [["all", *_size(splits)]],
        **_scores(run),
        unseen=_unseen(description, file_rates),
        seen_file=SEEN_FILE,
        key_file=PUBLIC_KEY_FILE,
    )


def command_without_paths(words: Sequence[str]) -> list[str]:
    """Return a command as others can type it: of the paths only the last part of data folder and table."""
    names = {f"--{name.replace('_', '-')}": name for name in PATHS}
    flags = iter(word for text in words[1:] for word in text.split("=", 1 if text.startswith("--") else 0))
    command = ["python", Path(words[0]).name]
    for word in flags:
        if word not in names:
            command.append(word)
        elif names[word] in SHOWN_PATHS:
            command += [word, Path(next(flags)).name]
        else:
            next(flags)
    return command


def _size(splits: pd.DataFrame) -> tuple[int, int]:
    return len(splits), splits["patient_id"].nunique()


def _epochs(log: pd.DataFrame) -> str:
    return f"{counted(len(log), 'epoch')} in {duration(log['seconds'].sum())}"


def _scores(run: RunFiles) -> dict[str, list[list[str]]]:
    """Return the means, and each label's AUROC, the commonest first; empty where nothing was tested."""
    if not run.has("test_scores.csv"):
        return {"means": [], "labels": []}
    scores = run.table("test_scores.csv")
    labels = scores[(scores["kind"] == "label") & scores["score"].notna()]
    labels = labels.sort_values("n_positive", ascending=False, kind="stable")
    rows = labels[["name", "n_positive", "score"]].itertuples(index=False)
    return {
        "means": [[name, f"{value:.4f}", words] for name, value, words in mean_scores(scores)],
        "labels": [[name, f"{int(n_positive):,}", f"{score:.3f}"] for name, n_positive, score in rows],
    }


def _companion(run: Run) -> dict[str, Any]:
    """Return what the card says of a run whose layers are among the weights of another."""
    means = mean_scores(run.table("test_scores.csv")) if run.has("test_scores.csv") else []
    return {
        "title": MODELS[run.load_any_description().model].title,
        "command": Markup(" ".join(command_without_paths(run.json("environment.json")["command"]))),
        "epochs": _epochs(run.log()),
        "score": "".join(f"; {name} {value:.4f}, {words}" for name, value, words in means[:1]),
    }


def _unseen(description: PretrainedDescription, file_rates: Sequence[float]) -> list[str]:
    sentences = [
        "No ECG but those counted above: the other ECGs of the set, and every other set, are new to it.",
        f"Nothing above {np.max(file_rates) / 2:g} Hz: half the sampling rate of its files.",
        "No label of pulmonary embolism: it is not among the set's diagnoses.",
    ]
    if description.left_out:
        sentences.append(
            f"The labels {', '.join(description.left_out)}: it saw the ECGs that have them, but was not "
            "asked for them."
        )
    return sentences

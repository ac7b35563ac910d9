"""Start from the weights of another run, or of another model: a pretrained trunk, a new head."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from dataset.cohort import Cohort
from dataset.splits import Fold
from hyperparameters.declaration import Hyperparameters
from inference.unseen import seen_in_training
from models import MODELS
from run_folder.descriptions import ModelDescription, PretrainedDescription
from run_folder.foreign_weights import is_foreign
from run_folder.hub import is_published
from run_folder.lineage import ancestors, foreign_starts, patient_key_of, root_of
from run_folder.run import Run
from run_folder.shipped import PRETRAINED, PUBLIC_KEY_FILE, companions_head, is_shipped, start_folder
from runtime.errors import UserError
from training.foreign_weights import load_foreign
from xml_loader import LEADS, SAMPLING_RATE

# What can start a model, by its file in models/: those with one trunk have one text.
_WITH_THE_1D_TRUNK = "train_atten.py, train_main_ecg.py or pretrain.py, or a 1D trunk that ships"
START_FROM = {
    **dict.fromkeys(
        ("resnet18_with_atten", "resnet_with_rnn", "resnet_with_encoder", "contrastive_resnet18"),
        _WITH_THE_1D_TRUNK,
    ),
    "res_net_model": "train_baseline.py, or of pretrain.py --objective statements --architecture baseline",
    "resnet18_with_atten_spectr": (
        "train_spectrogram.py, or of pretrain.py --objective statements --architecture spectrogram"
    ),
}


# For each part of a run, the parts of an earlier one that it must share no ECG and no patient with
MUST_NOT_HAVE_SEEN = {
    "test": {"train": "trained", "validation": "validated"},
    "validation": {"train": "trained"},
}


class Pretrained(NamedTuple):
    """What a training starts from.

    Attributes
    ----------
    names : of the parameters that were loaded.
    questions : labels that the loaded weights answer, and values of the ECG that they estimate; none where a
        layer before the head is new, so that their head would not know what it is given.
    answers : the weights of that head, (n_questions, n_features), None where there are none.
    """

    names: frozenset[str] = frozenset()
    questions: tuple[str, ...] = ()
    answers: torch.Tensor | None = None


def check_start(
    values: Hyperparameters,
    cohort: Cohort,
    folds: Sequence[Fold],
    held_out: Sequence[str] = ("test", "validation"),
) -> list[str]:
    """Refuse what ``--init-from`` names where a run must not start from it, before anything is trained.

    ``start_run`` asks, so that no script can forget to. No fold may test an ECG that those weights have seen,
    in training or validation, nor validate on one that trained them: one that validated them may do so again.

    Parameters
    ----------
    held_out : parts of the folds of which this holds.

    Returns
    -------
    notes for a reader, of what could not be compared.

    Raises
    ------
    UserError : no finished run, signals that were prepared in another way, or an ECG or patient of those
        parts that those weights have seen.
    """
    init_from = values.present().get("init_from")
    if init_from is None or is_foreign(init_from):
        return []
    if Path(init_from).is_file():
        raise UserError(f"{init_from}: found a file, expected a folder of a run, or .safetensors")
    run = Run(start_folder(init_from))
    if not run.folder.is_dir():
        ships = ", ".join(sorted(folder.name for folder in PRETRAINED.iterdir() if is_shipped(folder)))
        raise UserError(f"--init-from: found no folder {init_from}, expected that of a run, or {ships}")
    normalisation = run.load_any_description().normalisation
    if normalisation != values.normalisation:
        raise UserError(
            f"{run.folder}: found signals normalised by {normalisation}, expected {values.normalisation} "
            "(--normalisation)"
        )
    parts = {part: np.unique(np.concatenate([fold.parts[part] for fold in folds])) for part in held_out}
    notes = _check_unseen(run, cohort, parts)
    for record in foreign_starts(run.folder):
        notes.append(f"{run.folder} began from {record['file']}: nobody here knows what that has seen")
    return notes


def load_pretrained(
    model: nn.Module, *, init_from: str | None, map: Sequence[str] | None = None
) -> Pretrained:
    """Load what the model shares with that of a finished run, except the head, and print what that is.

    From a run of the same model that is everything but the head; from another, or a pretraining, the trunk;
    from a trunk that ships with more, also what lies between trunk and head, where it has these sizes.
    Whether the run may start from it, ``check_start`` has said.

    Parameters
    ----------
    init_from : folder of a run, or of one fold, the name of a trunk that ships, or a .safetensors file of
        another model, see ``foreign_weights``; None loads nothing.
    map : "OWN=THEIRS", of such a file.

    Raises
    ------
    UserError : no finished run, or nothing that fits.
    """
    if init_from is None:
        return Pretrained()
    if is_foreign(init_from):
        return Pretrained(load_foreign(model, Path(init_from), map or []))
    run = Run(start_folder(init_from))
    description = run.load_any_description()
    theirs = run.read_weights()
    weights = _shared(model, run, description, theirs)
    model.load_state_dict(weights, strict=False)
    rest = [name for name in model.state_dict() if name not in weights]
    print(
        f"init        {len(weights)} tensors of {_module_names(weights)} from {run.folder}; "
        f"new: {_module_names(rest) or 'nothing'}"
    )
    names = frozenset(name for name, _ in model.named_parameters() if name in weights)
    if any(not name.startswith("head.") for name in rest):
        return Pretrained(names)
    return Pretrained(names, *_head_of(model, description, theirs))


def keep_trunk(
    run: Run,
    *,
    name: str,
    arguments: dict[str, Any],
    method: str,
    cohort: Cohort,
    n_samples: int,
    normalisation: str,
    asked_for: Mapping[str, list[str]] | None = None,
) -> None:
    """Describe the weights of a pretraining, so that runs can start from them, and print how they do.

    Parameters
    ----------
    name, arguments : the file of the pretrained class in ``models/``, and the arguments of its constructor.
    method : how the trunk was pretrained, for a reader.
    asked_for : label_names, value_names and left_out of the description; None where no label was learnt.
    """
    description = PretrainedDescription(
        pretrained_by=method,
        model=name,
        arguments=arguments,
        n_samples=n_samples,
        normalisation=normalisation,
        leads=list(LEADS),
        sampling_rate=SAMPLING_RATE,
        window_start=cohort.reading.window_start,
        quality=dict(cohort.reading.quality_limits),
        **(asked_for or {}),
    )
    run.save_description(description)
    print(f"trunk       {run.folder}: start from it by --init-from, such as")
    print(f"            python train_atten.py --data-dir … --init-from {run.folder}")
    if "split" in cohort.table:
        parts = "test patients were" if asked_for else "validation and test patients were"
        print(f"            with this table: its {parts} not pretrained on")
    else:
        print("            on other patients; to validate or test these would be refused. A split column in")
        print("            the table of both runs keeps them apart")


def _head_of(
    model: nn.Module,
    description: ModelDescription | PretrainedDescription,
    weights: Mapping[str, torch.Tensor],
) -> tuple[tuple[str, ...], torch.Tensor | None]:
    """Return what the head answered that belongs to the loaded layers, and its weights of their features."""
    name = _name_of(model)
    answers = weights.get("head.weight" if name == description.model else companions_head(name))
    questions = (*description.label_names, *getattr(description, "value_names", ()))
    n_features = model.head.in_features - 2 * model.head.n_clinical
    if answers is None or len(questions) != len(answers):  # weights that shipped without a head
        return (), None
    return questions, answers[:, :n_features].float()


def _name_of(model: nn.Module) -> str:
    return {kind: name for name, kind in MODELS.items()}.get(type(model), "")


def _shared(
    model: nn.Module,
    run: Run,
    description: ModelDescription | PretrainedDescription,
    weights: Mapping[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Return the weights of a run that fit the model, without the head."""
    own, name_of_own = model.state_dict(), _name_of(model)
    same_model = name_of_own == description.model
    starts = START_FROM.get(name_of_own)
    if not same_model and (starts is None or START_FROM.get(description.model) != starts):
        expected = f"those of a run of {starts}" if starts else "those of the same model"
        raise UserError(f"{run.folder}: found weights of {description.model}, expected {expected}")
    chosen = {name: weights[name] for name in own if name in weights and not name.startswith("head.")}
    companions = description.companions if isinstance(description, PretrainedDescription) else {}
    if not same_model and (name_of_own not in companions or not _fits(chosen, own)):
        chosen = {name: tensor for name, tensor in chosen.items() if name.startswith("trunk.")}
    for name, tensor in chosen.items():
        if tensor.shape != own[name].shape:
            raise UserError(
                f"{run.folder}: found {name} of shape {tuple(tensor.shape)}, expected "
                f"{tuple(own[name].shape)}: other sizes of the layers"
            )
    return chosen


def _fits(weights: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> bool:
    return all(tensor.shape == own[name].shape for name, tensor in weights.items())


def _check_unseen(run: Run, cohort: Cohort, held_out: Mapping[str, np.ndarray]) -> list[str]:
    """Refuse weights that have seen ECGs of a cohort, by part and indices, or their patients.

    Returns notes of what could not be compared, such as pseudonyms of another key.
    """
    notes = []
    for folder in ancestors(run.folder):
        if folder.is_dir() and is_published(root_of(folder)):
            notes.append(f"{folder} does not tell which ECGs it has seen: they are not compared")
            continue
        for part, ecgs in held_out.items():
            seen = MUST_NOT_HAVE_SEEN[part]
            again = ecgs[seen_in_training(folder, cohort, ecgs, tuple(seen))]
            if len(again):
                raise UserError(
                    f"{folder}: found {len(again)} of this run's {part} ECGs, or their patients, among those "
                    f"that {' or '.join(seen.values())} it, such as {cohort.table['file'].iloc[again[0]]}; "
                    f"expected none: {_how_to_part(folder)}"
                )
        if patient_key_of(folder) != cohort.reading.patient_key:
            notes.append(f"{folder}: {_only_ecgs_compared(folder)}")
    return notes


def _how_to_part(folder: Path) -> str:
    if is_shipped(folder):
        return "what it has seen, its own test ECGs included, may train, but not validate or test"
    return "give both tables one split column, or leave these out of one"


def _only_ecgs_compared(folder: Path) -> str:
    if is_shipped(folder):
        return (
            "only the ECGs were compared with those that it has seen; patients of the same public set are "
            f"recognised with --patient-key {folder / PUBLIC_KEY_FILE}"
        )
    return (
        "its patients' pseudonyms are of another key: only the ECGs were compared; if they may share "
        "patients, train both with one --patient-key"
    )


def _module_names(names: list[str] | dict[str, torch.Tensor]) -> str:
    """Return the modules that parameters belong to: 'trunk, attention'."""
    return ", ".join(dict.fromkeys(name.split(".")[0] for name in names))

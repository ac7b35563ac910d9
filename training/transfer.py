"""Start from the weights of another run: a pretrained trunk, a new head."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from dataset.cohort import Cohort
from dataset.splits import Fold
from models import MODELS
from run_folder.descriptions import ModelDescription, PretrainedDescription
from run_folder.lineage import SEEN, ancestors, patient_key_of, seen_by
from run_folder.run import Run
from runtime.errors import UserError
from xml_loader import LEADS, SAMPLING_RATE


def load_pretrained(
    model: nn.Module, *, cohort: Cohort, fold: Fold, normalisation: str, init_from: str | None
) -> frozenset[str]:
    """Load what the model shares with that of a finished run, except the head, and print what that is.

    From a run of the same model that is everything but the head; from another, or a pretraining, the trunk.

    Parameters
    ----------
    normalisation : of this run's signals; those of the other must have been normalised the same way.
    init_from : folder of a run, or of one fold; None loads nothing.

    Returns
    -------
    names of the parameters that were loaded.

    Raises
    ------
    UserError : no finished run, signals that were prepared in another way, nothing that fits, or an ECG or
        patient of this fold's validation or test part that those weights were trained on.
    """
    if init_from is None:
        return frozenset()
    run = Run(init_from)
    description = run.load_any_description()
    if description.normalisation != normalisation:
        raise UserError(
            f"{run.folder}: found signals normalised by {description.normalisation}, expected "
            f"{normalisation} (--normalisation)"
        )
    _check_unseen(run, cohort, fold)
    weights = _shared(model, run, description)
    model.load_state_dict(weights, strict=False)
    rest = [name for name in model.state_dict() if name not in weights]
    print(
        f"init        {len(weights)} tensors of {_module_names(weights)} from {run.folder}; "
        f"new: {_module_names(rest) or 'nothing'}"
    )
    return frozenset(name for name, _ in model.named_parameters() if name in weights)


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
    if asked_for:
        print("            on other patients: those that trained or validated here would be refused")
    elif "split" in cohort.table:
        print("            with this table: its validation and test patients were not pretrained on")
    else:
        print("            on other patients; to validate or test these would be refused. A split column in")
        print("            the table of both runs keeps them apart")


def _shared(
    model: nn.Module, run: Run, description: ModelDescription | PretrainedDescription
) -> dict[str, torch.Tensor]:
    """Return the weights of a run that fit the model, without the head."""
    own, weights = model.state_dict(), run.read_weights()
    same_model = type(model) is MODELS.get(description.model)
    chosen = {
        name: weights[name]
        for name in own
        if name in weights and not name.startswith("head.") and (same_model or name.startswith("trunk."))
    }
    for name, tensor in chosen.items():
        if tensor.shape != own[name].shape:
            raise UserError(
                f"{run.folder}: found {name} of shape {tuple(tensor.shape)}, expected "
                f"{tuple(own[name].shape)}: another kind of trunk, or other sizes of its layers"
            )
    if not chosen:
        raise UserError(f"{run.folder}: found {description.model}, expected a model with this trunk")
    return chosen


def _check_unseen(run: Run, cohort: Cohort, fold: Fold) -> None:
    """Refuse weights that have seen an ECG or a patient that this fold validates or tests.

    Pseudonyms of another key cannot be compared; a line says so.
    """
    rows = np.concatenate([fold.parts[part] for part in ("validation", "test")])
    held_out = cohort.table.iloc[rows]
    for folder in ancestors(run.folder):
        seen = seen_by(folder)
        seen = seen[seen["part"].isin(SEEN)]
        again = held_out["digest"].isin(seen["digest"]) | held_out["patient_id"].isin(seen["patient_id"])
        if again.any():
            raise UserError(
                f"{folder}: found {int(again.sum())} of this run's validation and test ECGs, or their "
                f"patients, among those that trained it, such as {held_out.loc[again, 'file'].iloc[0]}; "
                "expected none: give both tables one split column, or leave these out of one"
            )
        if patient_key_of(folder) != cohort.reading.patient_key:
            print(
                f"note        {folder}: its patients' pseudonyms are of another key: only the ECGs were "
                "compared; if they may share patients, train both with one --patient-key"
            )


def _module_names(names: list[str] | dict[str, torch.Tensor]) -> str:
    """Return the modules that parameters belong to: 'trunk, attention'."""
    return ", ".join(dict.fromkeys(name.split(".")[0] for name in names))

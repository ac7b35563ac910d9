"""Arguments of small models, and the description of a finished one."""

from ecg.recording import LEADS
from run_folder.descriptions import ModelDescription

ARGUMENTS = {
    "res_net_model": {"n_labels": 2, "dropout": 0.5},
    "resnet18_with_atten_spectr": {"n_labels": 2, "dropout": 0.5, "attention_heads": 4},
    "resnet_with_rnn": {
        **{"n_labels": 2, "dropout": 0.5, "kernel_size": 3},
        **{"rnn_cell": "gru", "rnn_layers": 1, "rnn_hidden_size": 8, "rnn_bidirectional": True},
    },
}


def describe(name="res_net_model", **changes):
    description = {
        "model": name,
        "arguments": ARGUMENTS[name],
        "label_names": ["PE", "MI"],
        "n_samples": 512,
        "normalisation": "recording",
        "leads": list(LEADS),
        "sampling_rate": 500,
        "thresholds": [0.25, 0.5],
        "calibration": "platt",
        "calibration_slopes": [1.0, 1.5],
        "calibration_intercepts": [0.0, -0.5],
        "prevalences": [0.1, 0.2],
        "threshold_policy": "youden",
    }
    return ModelDescription(**{**description, **changes})

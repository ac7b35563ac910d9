"""An ECG to be explained, and small models of every architecture."""

import numpy as np
import torch

from ecg.simulation import draw_patient, simulate_ecg
from models import MODELS

N_SAMPLES = 2048
ARGUMENTS = {
    "res_net_model": {},
    "resnet18_with_atten": {"kernel_size": 3, "attention_heads": 4},
    "resnet18_with_atten_spectr": {"attention_heads": 4},
    "resnet_with_rnn": {
        "kernel_size": 3,
        "rnn_cell": "lstm",
        "rnn_layers": 1,
        "rnn_hidden_size": 16,
        "rnn_bidirectional": True,
    },
    "resnet_with_encoder": {"kernel_size": 3, "encoder_layers": 2, "encoder_heads": 2, "encoder_width": 32},
}


def ecg(seed=0, n_samples=N_SAMPLES, **signs):
    """Return a synthetic ECG, (12, n_samples) in mV, with the signs given and no other."""
    generator = np.random.default_rng(seed)
    none = dict.fromkeys(
        ("sinus_tachycardia", "S1Q3T3", "right_axis", "incomplete_RBBB", "T_inversion_V1_V4"), 0
    )
    patient = draw_patient(generator, pe=False, signs=none | signs)
    return simulate_ecg(patient, generator)[0][:, 500 : 500 + n_samples]


def build(name="resnet18_with_atten"):
    torch.manual_seed(0)
    return MODELS[name](n_labels=1, dropout=0.2, **ARGUMENTS[name]).eval()

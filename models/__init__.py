"""The models, one architecture per file: (N, 12, T), normalised -> logits (N, n_labels)."""

from models.res_net_model import ResidualNetwork
from models.resnet18_with_atten import ResNet18Attention
from models.resnet18_with_atten_spectr import ResNet18AttentionSpectrogram
from models.resnet_with_encoder import ResNetEncoder
from models.resnet_with_rnn import ResNetRNN

# The name of each model in scripts and in model.json. A new model is one file in this folder and a row.
MODELS = {
    "res_net_model": ResidualNetwork,
    "resnet18_with_atten": ResNet18Attention,
    "resnet18_with_atten_spectr": ResNet18AttentionSpectrogram,
    "resnet_with_rnn": ResNetRNN,
    "resnet_with_encoder": ResNetEncoder,
}

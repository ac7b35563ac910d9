"""Arguments of each model's constructor, small where it has a choice."""

RNN = {"kernel_size": 3, "rnn_layers": 1, "rnn_hidden_size": 32}
ARGUMENTS = {
    "res_net_model": {},
    "resnet18_with_atten": {"kernel_size": 5, "attention_heads": 8},
    "resnet18_with_atten_spectr": {"attention_heads": 8},
    "resnet_with_rnn": {**RNN, "rnn_cell": "lstm", "rnn_bidirectional": True},
    "resnet_with_encoder": {"kernel_size": 3, "encoder_layers": 2, "encoder_heads": 4, "encoder_width": 64},
}

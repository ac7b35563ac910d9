"""Multihead self-attention over the positions of a trunk, then their mean."""

import torch
from torch import nn


class AttentionPooling(nn.Module):
    """Self-attention with a residual path (Vaswani et al. 2017, arXiv:1706.03762): (N, L, F) -> (N, F).

    Parameters
    ----------
    n_features : F, the length of each position's vector.
    n_heads : attention heads; must divide ``n_features``.
    """

    def __init__(self, *, n_features: int, n_heads: int):
        super().__init__()
        self.norm = nn.LayerNorm(n_features)
        self.attention = nn.MultiheadAttention(n_features, n_heads, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = self.norm(x)
        attended, _ = self.attention(normed, normed, normed, need_weights=False)
        return (x + attended).mean(dim=1)

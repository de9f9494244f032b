"""Any BERT-like encoder of transformers, with padding: the plain path."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Pooling = Literal["cls", "mean", "last"]
Lengths = npt.NDArray[np.int32]


class PaddedEncoder(nn.Module):
    """Wraps a model of transformers."""

    words = None  # it has no table whose gradient is kept row by row

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, lengths: Lengths, pooling: Pooling) -> Tensor:
        """Embed sentences that lie end to end: tokens [total], lengths [n] -> [n, hidden]."""
        counts = torch.from_numpy(lengths).to(tokens.device)
        mask = torch.arange(int(lengths.max()), device=tokens.device) < counts[:, None]  # [n, longest]
        padded = torch.zeros(mask.shape, dtype=torch.long, device=tokens.device)
        padded[mask] = tokens.long()
        hidden: Tensor = self.model(input_ids=padded, attention_mask=mask.long()).last_hidden_state
        if pooling == "cls":
            return hidden[:, 0]
        if pooling == "last":
            return hidden[torch.arange(len(counts), device=tokens.device), counts.long() - 1]
        return (hidden * mask[:, :, None]).sum(1) / counts[:, None]

    def hf_state_dict(self) -> dict[str, Tensor]:
        """Return the weights under transformers' names."""
        return self.model.state_dict()

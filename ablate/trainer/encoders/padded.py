"""Any BERT-like encoder of transformers, with padding: the plain path."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Lengths = npt.NDArray[np.int32]


class PaddedEncoder(nn.Module):
    """Wraps a model of transformers."""

    words = None  # it has no table whose gradient is kept row by row

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        tokens: Tensor,
        lengths: Lengths,
        pooling: Literal["cls", "mean"],
        types: Tensor | None = None,
    ) -> Tensor:
        """Embed sentences that lie end to end: tokens [total], lengths [n] -> [n, hidden]. `types` [total] of tokens: 0 or 1."""
        counts = torch.from_numpy(lengths).to(tokens.device)
        mask = torch.arange(int(lengths.max()), device=tokens.device) < counts[:, None]  # [n, longest]
        padded = torch.zeros(mask.shape, dtype=torch.long, device=tokens.device)
        padded[mask] = tokens.long()
        inputs = {"input_ids": padded, "attention_mask": mask.long()}
        # Families without token types, such as DistilBERT, separate the sentences of a pair by a token only.
        if types is not None and getattr(self.model.config, "type_vocab_size", 0) > 1:
            inputs["token_type_ids"] = torch.zeros_like(padded).masked_scatter(mask, types.long())
        hidden: Tensor = self.model(**inputs).last_hidden_state
        if pooling == "cls":
            return hidden[:, 0]
        return (hidden * mask[:, :, None]).sum(1) / counts[:, None]

    def hf_state_dict(self) -> dict[str, Tensor]:
        """Return the weights under transformers' names."""
        return self.model.state_dict()

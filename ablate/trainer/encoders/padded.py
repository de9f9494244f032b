"""Any BERT-like encoder of transformers, computed with padding.

The sentences of a batch are sorted by length and cut into micro-batches, so that little padding is computed. Except for
rounding, embeddings are the same as with the whole batch padded at once; which elements dropout drops depends on the cuts.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Pooling = Literal["cls", "mean", "last"]
Lengths = npt.NDArray[np.int32]

# The fixed cost of a call of the model, in tokens: 77 measured on a CPU for a DeBERTa of MiniLM's size. On a GPU it is the time
# to launch all kernels, in which thousands of tokens can be computed (an estimate, not measured).
CALL_TOKENS = {"cpu": 64, "cuda": 4096}


class PaddedEncoder(nn.Module):
    """Wraps a model of transformers."""

    words = None  # no table has gradients that are kept row by row

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, tokens: Tensor, lengths: Lengths, pooling: Pooling, types: Tensor | None = None
    ) -> Tensor:
        """Embed sentences that lie end to end: tokens [total], lengths [n] -> [n, hidden]. `types` [total]: the token types."""
        starts = np.cumsum(lengths) - lengths
        by_length = np.argsort(lengths, kind="stable")
        cuts = cut(lengths[by_length], CALL_TOKENS.get(tokens.device.type, 0))
        batches = np.split(by_length, cuts)
        embedded = [self._embed(tokens, types, starts[rows], lengths[rows], pooling) for rows in batches]
        places = torch.from_numpy(np.argsort(by_length)).to(tokens.device)
        return torch.cat(embedded).index_select(0, places)

    def _embed(
        self,
        tokens: Tensor,
        types: Tensor | None,
        starts: npt.NDArray[np.int64],
        lengths: Lengths,
        pooling: Pooling,
    ) -> Tensor:
        """Embed a micro-batch: the sentences that begin at `starts` [n] -> [n, hidden]."""
        device, places = tokens.device, np.arange(lengths.max())
        # Where a sentence has ended, its last token is repeated; the mask hides that.
        where = torch.from_numpy(starts[:, None] + np.minimum(places, lengths[:, None] - 1)).to(device)
        mask = torch.from_numpy(places < lengths[:, None]).to(device)  # [n, longest]
        inputs = {"input_ids": tokens[where].long() * mask, "attention_mask": mask.long()}
        # Families without token types, such as DeBERTa-v3, separate the sentences of a pair by a token only.
        if types is not None and getattr(self.model.config, "type_vocab_size", 0) > 1:
            inputs["token_type_ids"] = types[where].long() * mask
        hidden: Tensor = self.model(**inputs).last_hidden_state
        if pooling == "cls":
            return hidden[:, 0]
        counts = torch.from_numpy(lengths).to(device)
        if pooling == "last":
            return hidden[torch.arange(len(counts), device=device), counts.long() - 1]
        return (hidden * mask[:, :, None]).sum(1) / counts[:, None]

    def hf_state_dict(self) -> dict[str, Tensor]:
        """Return the weights under transformers' names."""
        return self.model.state_dict()


def cut(lengths: Lengths, call_tokens: int) -> list[int]:
    """Return where to cut ascending `lengths` to minimise the tokens with padding, plus `call_tokens` for each piece."""
    longest, counts = np.unique(lengths, return_counts=True)
    begins = np.cumsum(counts) - counts  # index of the first sentence of each length
    # For each length: the fewest tokens for all sentences up to it, and where the last cut is then.
    fewest, cuts = np.zeros(len(longest) + 1), np.zeros(len(longest), dtype=np.int64)
    for last, length in enumerate(longest.tolist()):
        ends = begins[last] + counts[last]
        totals = fewest[: last + 1] + (ends - begins[: last + 1]) * length + call_tokens
        cuts[last] = totals.argmin()
        fewest[last + 1] = totals.min()
    places: list[int] = []
    first = int(cuts[-1])
    while first > 0:
        places.append(int(begins[first]))
        first = int(cuts[first - 1])
    return places[::-1]

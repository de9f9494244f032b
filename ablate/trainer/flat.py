"""The parameters of a module as views of one buffer: one norm, one Gramian, one optimizer call, one copy to
reset.

Matrices stand first, then vectors (biases, normalisation): what `l2` shrinks is one slice."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Flat:
    """One buffer for the values of all parameters of `module`; its parameters become views of it.

    Attributes:
        values: [params], on the module's device.
        matrices: how many leading values belong to matrices.
    """

    def __init__(self, module: nn.Module) -> None:
        self._parameters = sorted(module.parameters(), key=lambda parameter: parameter.ndim < 2)  # stable
        self.matrices = sum(parameter.numel() for parameter in self._parameters if parameter.ndim >= 2)
        self.values = torch.cat([parameter.detach().reshape(-1) for parameter in self._parameters])
        for parameter, view in self.views(self.values).items():
            parameter.data = view

    def views(self, buffer: Tensor) -> dict[Tensor, Tensor]:
        """Return each parameter's place in `buffer` [params], in its own shape."""
        pieces = torch.split(buffer, [parameter.numel() for parameter in self._parameters])
        pairs = zip(self._parameters, pieces, strict=True)
        return {parameter: piece.view(parameter.shape) for parameter, piece in pairs}

    def add_gradients_to(self, places: Mapping[Tensor, Tensor]) -> None:
        """Let the next backward pass add to `places` (the `views` of a buffer)."""
        for parameter in self._parameters:
            parameter.grad = places[parameter]

    def require_gradients(self, wanted: bool) -> None:
        """Freeze or thaw the module, and forget its gradients."""
        for parameter in self._parameters:
            parameter.grad = None
            parameter.requires_grad_(wanted)

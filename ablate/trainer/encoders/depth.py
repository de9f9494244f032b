"""The depth of each parameter of an encoder, whose layers are the members of its lists of modules."""

from collections.abc import Iterator

from torch import Tensor, nn

from ablate.errors import BadInput


def rate_shares(encoder: nn.Module, decay: float) -> dict[Tensor, float]:
    """Return each parameter's share of the peak learning rate: decay ** (layers - depth).

    Layers are numbered from 1. Embeddings, and everything before the first layer, have depth 0; everything after the last
    layer, such as a final normalisation, has the depth of that layer. Layers that share their weights count as one.

    Source: Howard and Ruder 2018 (ULMFiT); with embeddings below the first layer, Clark et al. 2020 (ELECTRA).

    Raises:
        BadInput: the encoder has no list of layers.
    """
    layers = list(layers_of(encoder))
    if not layers:
        raise BadInput("lr.layer_decay: this encoder has no list of layers; leave layer_decay at 1")
    depths = {parameter: depth for depth, layer in enumerate(layers, 1) for parameter in layer.parameters()}
    tables = {module.weight for module in encoder.modules() if isinstance(module, nn.Embedding)}
    reached = 0
    shares: dict[Tensor, float] = {}
    for parameter in encoder.parameters():
        reached = depths.get(parameter, reached)
        depth = depths.get(parameter, 0 if parameter in tables else reached)
        shares[parameter] = decay ** (len(layers) - depth)
    return shares


def layers_of(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of an encoder: the members of its lists of modules."""
    inside_list = isinstance(module, nn.ModuleList)
    lists = [child for child in module.children() if isinstance(child, nn.ModuleList)]
    # XLM has one list for each kind of module in a layer. Funnel has lists of lists.
    if not inside_list and len(lists) > 1 and len({len(members) for members in lists}) == 1:
        yield from (nn.ModuleList(parts) for parts in zip(*lists, strict=True))
        return
    for child in module.children():
        if inside_list and not isinstance(child, nn.ModuleList):
            yield child
        else:
            yield from layers_of(child)

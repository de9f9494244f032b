"""Score a kept model on the test split."""

from pathlib import Path

import torch

from ablate.contract import Context
from ablate.trainer.encoders.embedding import Live
from ablate.trainer.encoders.loading import load_saved
from ablate.trainer.settings import Settings, parts
from ablate.trainer.tasks.heads import build_head
from ablate.trainer.tasks.metrics import metric
from ablate.trainer.tasks.table import means
from ablate.trainer.training.machine import catch_out_of_memory, deterministic
from ablate.trainer.training.saving import load_heads
from ablate.trainer.training.scoring import keep_predictions, predict
from ablate.trainer.training.warm import tokens_of


def test(settings: Settings, context: Context) -> dict[str, float]:
    """Return `test/<task>` of the model in `context.workdir`, and `test/mean` where all of the study's tasks are there.

    A test split whose labels are kept back gives predictions (gold: NaN) and no metric.

    Raises:
        Unavailable: the model was not kept.
        TrialError: a metric does not exist.
    """
    found: dict[str, float] = {}
    pieces = parts(settings)
    with deterministic(context.device), catch_out_of_memory(context.device):
        for name, part in pieces.items():
            folder = context.workdir / name if len(pieces) > 1 else context.workdir
            found |= _test_model(part, context, folder)
    return found | means(found, settings.tasks)


def _test_model(settings: Settings, context: Context, workdir: Path) -> dict[str, float]:
    device = torch.device(context.device)
    folder = workdir / "model"
    weights = load_heads(folder)
    tokens = tokens_of(settings, context.cache, ("test",))
    encoder = load_saved(folder, device)
    live = Live(encoder, tokens, settings, device)
    found = {}
    for task in settings.tasks:
        head = build_head(task, encoder.hidden_size, settings).to(device)
        head.load_state_dict(weights.get(task, {}))  # a head may have none
        items = tokens.tasks[task]["test"]
        predicted = predict(head, live.whole(task, "test", lambda: None), f"test/{task}")
        gold = items.labels
        if gold is not None:
            found[f"test/{task}"] = metric(task, predicted, gold, f"test/{task}")
        keep_predictions(context, "test", task, items, predicted)
    return found

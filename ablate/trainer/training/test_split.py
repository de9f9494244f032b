"""Score a saved model on the test split."""

from pathlib import Path

import torch

from ablate.contract import Context
from ablate.trainer.encoders.embedding import Live
from ablate.trainer.encoders.loading import load_saved
from ablate.trainer.parts import parts
from ablate.trainer.settings import Settings
from ablate.trainer.tasks.heads import build_head
from ablate.trainer.tasks.metrics import scores
from ablate.trainer.tasks.registry import mean_of
from ablate.trainer.training.determinism import catch_out_of_memory, deterministic
from ablate.trainer.training.saving import load_heads
from ablate.trainer.training.scoring import keep_predictions, predict
from ablate.trainer.training.token_cache import tokens_of


def test(settings: Settings, context: Context) -> dict[str, float]:
    """Return `test/<task>` of the model in `context.workdir`, and `test/mean` if all of the study's tasks have one.

    A test split with hidden labels gives predictions (with NaN for gold) and no metric.

    Raises:
        Unavailable: the model was not saved.
        TrialError: a metric is undefined.
    """
    metrics: dict[str, float] = {}
    pieces = parts(settings)
    with deterministic(context.device), catch_out_of_memory(context.device):
        for name, part in pieces.items():
            folder = context.workdir / name if len(pieces) > 1 else context.workdir
            metrics |= _test_model(part, context, folder / "model")
    return metrics | mean_of(metrics, settings.trained, "test")


def _test_model(settings: Settings, context: Context, folder: Path) -> dict[str, float]:
    device = torch.device(context.device)
    weights = load_heads(folder)
    tokens = tokens_of(settings, context.cache, ("test",))
    encoder = load_saved(folder, device)
    live = Live(encoder, tokens, settings, device)
    metrics: dict[str, float] = {}
    for task in settings.trained:
        chosen = settings.head_of(task)
        head = build_head(task, chosen, encoder.hidden_size, settings.dense_size, settings.dropout).to(device)
        # A siamese head without a dense layer has no weights to load.
        head.load_state_dict(weights.get(task.name, {}))
        items = tokens.tasks[task.name]["test"]
        predicted = predict(head, live.whole(task.name, "test", lambda: None), f"test/{task.name}")
        if items.labels is not None:
            scored = scores(task, predicted, items.labels, f"test/{task.name}")
            metrics |= {f"test/{name}": value for name, value in scored.items()}
        keep_predictions(context, "test", task, items, predicted)
    return metrics

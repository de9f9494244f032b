"""The multi-task trainer of sentence encoders: one encoder, several tasks, every choice a setting.

Usable without the rest of ablate.

    from ablate.trainer import Settings, train
    metrics = train(Settings(training="joint", surgery="pcgrad"), context)

Import from here only. Settings, parts, prefixes, combine and smoke do not load torch; the rest loads it on first use.
"""

from collections.abc import Mapping

from ablate.contract import Context
from ablate.trainer.parts import combine, parts, smoke
from ablate.trainer.prefixes import prefixes
from ablate.trainer.settings import Settings

__all__ = ["Settings", "train", "parts", "prefixes", "combine", "check", "smoke", "measure", "test"]


def train(settings: Settings, context: Context) -> Mapping[str, float]:
    """Train with `settings` and return `dev/...` metrics.

    Leaves in `context.workdir`: `weights.json` (sha256 of the trained weights) and, depending on `keep`, `model/`.

    Raises:
        TrialError: a loss is not finite, a metric is undefined, or memory ran out; names the step and the task.
        BadInput, Unavailable: data or encoder cannot be read.
        Stopped, Pruned: from the context; passed through.
    """
    from ablate.trainer.training.whole_trial import train as train_parts

    return train_parts(settings, context)


def check(settings: Settings) -> None:
    """Check the data and the encoder before anything is trained; cheap when repeated.

    Raises:
        BadInput: a file is missing or has faults (all are reported), or `encoder` is not a sentence encoder.
        Unavailable: a hub name that is neither cached nor downloadable.
    """
    from ablate.trainer.training.checking import check as check_all

    check_all(settings)


def measure(trainings: Mapping[str, Settings], context: Context) -> Mapping[str, float]:
    """Return the seconds that each of `trainings` will take here, from timing a few steps of each kind (for about a minute).

    Raises:
        TrialError, BadInput, Unavailable: as in `train`.
    """
    from ablate.trainer.training.measuring import measure as measure_all

    return measure_all(trainings, context)


def test(settings: Settings, context: Context) -> Mapping[str, float]:
    """Score the model saved in `context.workdir` on the test split and return `test/...` metrics.

    Raises:
        Unavailable: the trained model was not saved.
        BadInput, Unavailable: the test data cannot be read.
    """
    from ablate.trainer.training.test_split import test as test_model

    return test_model(settings, context)

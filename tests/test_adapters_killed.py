"""The examples of the adapters, killed in the middle of a trial: equal to the bit to one that was not."""

import shutil
from pathlib import Path

import pytest
from chaos import Chaos
from stopping import finished, killed, recorded

EXAMPLES = Path(__file__).parent.parent / "docs/examples"


def example(name: str, length: str, folder: Path) -> Path:
    """Copy an example into `folder`, made longer; return its study."""
    shutil.copy(EXAMPLES / f"{name}.py", folder)
    study = folder / f"{name}.yaml"
    text = (EXAMPLES / study.name).read_text()
    settings = text[text.index("settings:") : text.index("factors:")]
    study.write_text(text.replace(settings, f"settings:\n  {length}\n"))
    return study


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    ("name", "length", "steps_between"),
    [
        ("transformers_trainer", "steps: 300", 30),
        # 13 steps are an epoch.
        ("lightning_module", "epochs: 60", 65),
        ("torch_loop", "steps: 20000", 300),
    ],
)
def test_killed_six_times_it_ends_in_the_same_bits(
    name: str, length: str, steps_between: int, tmp_path: Path
) -> None:
    study = example(name, length, tmp_path)
    finished(study, tmp_path / "undisturbed")
    witness = killed(study, tmp_path / "killed", kills=6, steps_between=steps_between)
    resumed = finished(study, tmp_path / "killed")
    assert max(trial["attempts"] for trial in resumed["trials"]) == 7
    assert witness.violations() == []
    assert recorded(name, tmp_path / "killed") == recorded(name, tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(5))
def test_40_kills_at_random_instants_change_no_bit_of_a_study(seed: int, tmp_path: Path) -> None:
    name = "transformers_trainer"
    study = example(name, "steps: 600", tmp_path)
    finished(study, tmp_path / "undisturbed", limit=None)
    chaos = Chaos(study, workers=2, kills=40, seed=seed)
    chaos.run()
    assert chaos.killed >= 40, "done before its time"
    assert recorded(name, tmp_path / "runs") == recorded(name, tmp_path / "undisturbed")

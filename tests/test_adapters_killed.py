"""The examples of the adapters, each killed six times in the middle of a trial: equal to the bit to one that was not."""

import shutil
from pathlib import Path

import pytest
from stopping import finished, killed, recorded

EXAMPLES = Path(__file__).parent.parent / "docs/examples"


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
    shutil.copy(EXAMPLES / f"{name}.py", tmp_path)
    study = tmp_path / f"{name}.yaml"
    text = (EXAMPLES / study.name).read_text()
    settings = text[text.index("settings:") : text.index("factors:")]
    study.write_text(text.replace(settings, f"settings:\n  {length}\n"))
    finished(study, tmp_path / "undisturbed")
    killed(study, tmp_path / "killed", kills=6, steps_between=steps_between)
    resumed = finished(study, tmp_path / "killed")
    assert max(trial["attempts"] for trial in resumed["trials"]) == 7
    assert recorded(name, tmp_path / "killed") == recorded(name, tmp_path / "undisturbed")

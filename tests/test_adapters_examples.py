"""Training code of every kind as an example that runs, with few lines for ablate."""

import re
from pathlib import Path

import pytest
from fixture_types import RunHere

DOCS = Path(__file__).parent.parent / "docs"
MODULES = ["transformers_trainer", "lightning_module", "sklearn_classifier", "torch_loop"]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore:.*LeafSpec:FutureWarning")  # of Lightning
@pytest.mark.parametrize("name", MODULES)
def test_an_example_learns_and_keeps_its_predictions(name: str, run_here: RunHere, tmp_path: Path) -> None:
    done = run_here(DOCS / "examples" / f"{name}.yaml", limit=1)
    assert done["code"] == 0, done["said"]
    [trial] = [trial for trial in done["trials"] if trial["state"] == "COMPLETE"]
    assert trial["metrics"]["dev/accuracy"] > 0.7
    assert list(tmp_path.glob("runs/*/trials/*/predictions/dev.accuracy.csv"))


@pytest.mark.parametrize("name", ["argparse_script", *MODULES])
def test_the_lines_for_ablate_are_as_many_as_the_page_says(name: str) -> None:
    [said] = re.findall(
        rf"\]\(\.\./examples/{name}\.py\) \| (\d+) \|",
        (DOCS / "how_to" / "your_training_code.md").read_text(),
    )
    code = (DOCS / "examples" / f"{name}.py").read_text().split('"""', 2)[2]
    assert code.count("# ablate\n") == int(said)


@pytest.mark.parametrize("name", MODULES)
def test_no_other_line_needs_ablate(name: str) -> None:
    code = (DOCS / "examples" / f"{name}.py").read_text().split('"""', 2)[2]
    others = [line for line in code.splitlines() if not line.endswith("# ablate")]
    uses = [line for line in others if re.search(r"\bablate\b|\bcontext\b(?!\.seed)", line)]
    assert uses == ["def train(settings: Settings, context) -> dict[str, float]:"]

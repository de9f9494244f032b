"""`ablate plan --measure`: what the trainer tells is asked once, kept, and believed only where it holds."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TRAINERS
from fixture_types import Ablate, Json

from ablate.errors import AblateError, BadInput
from ablate.runner import timing
from ablate.runner.plan import plan_document
from ablate.runner.prepare import Prepared, prepare
from ablate.runner.run import working_in
from ablate.runner.timing import measure, read_measured

STUDY = """\
study: paced
trainer: {trainer}
settings: {{fault: {fault}}}
factors: {{steps: {levels}}}
baseline: {{steps: 10}}
design: full
seeds: [1, 2, 3]
metric: {{name: dev/score}}
budget: {{usd_per_hour: 36}}
"""


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[..., Prepared]:
    """Write the study with some of its values changed and prepare it."""

    def call(levels: str = "[10, 20]", fault: str = "none", trainer: str = "paced") -> Prepared:
        for name in ("paced", "walk"):
            shutil.copy(TRAINERS / f"{name}.py", tmp_path)
        path = tmp_path / "paced.yaml"
        path.write_text(STUDY.format(levels=levels, fault=fault, trainer=trainer))
        return prepare(path, home=tmp_path / "runs")

    return call


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> list[Json]:
    """Measure without the second that a process takes to start; return what it was told each time."""
    told = []

    def ask(job: Json) -> Json:
        told.append(job)
        with working_in(Path.cwd()):
            return timing.answer_to(job)

    monkeypatch.setattr(timing, "ask", ask)
    return told


def test_the_estimate_is_steps_times_what_one_takes(
    ablate: Ablate, prepared: Callable[..., Prepared], tmp_path: Path
) -> None:
    prepared()
    done = ablate("plan", "paced.yaml", "--measure", "--json")
    cost = json.loads(done.stdout)["estimate"]
    seconds = (10 + 20) * 2.0 * 3
    assert cost["hours"] == pytest.approx(seconds / 3600)
    assert cost["usd"] == pytest.approx(seconds / 100)
    assert cost["basis"].startswith("2 parts measured on ")
    assert (tmp_path / "asked.log").read_text() == "2\n"


def test_a_plain_plan_knows_what_was_measured(
    in_this_process: list[Json], prepared: Callable[..., Prepared]
) -> None:
    study = prepared()
    found = measure(study)
    assert read_measured(study) == found
    assert set(found.seconds.values()) == {20.0, 40.0}


def test_what_is_known_is_not_measured_again(
    in_this_process: list[Json], prepared: Callable[..., Prepared]
) -> None:
    assert measure(prepared()) == measure(prepared(levels="[20, 10]"))
    assert len(in_this_process) == 1


def test_changed_settings_are_measured_again(
    in_this_process: list[Json], prepared: Callable[..., Prepared]
) -> None:
    measure(prepared())
    assert set(measure(prepared(levels="[10, 30]")).seconds.values()) == {20.0, 60.0}
    assert len(in_this_process) == 2


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("the trainer's code", lambda patch, study: patch.setattr(study.trainer, "file", __file__)),
        ("threads", lambda patch, study: patch.setenv("OMP_NUM_THREADS", "3")),
        ("the machine", lambda patch, study: patch.setattr(timing, "cpu_name", lambda: "another")),
    ],
)
def test_it_holds_for_the_same_machine_and_code_only(
    what: str,
    change: Callable[[pytest.MonkeyPatch, Prepared], object],
    in_this_process: list[Json],
    prepared: Callable[..., Prepared],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = prepared()
    measure(study)
    change(monkeypatch, study)
    assert read_measured(study) is None


@pytest.mark.parametrize("content", ["", "{", '{"seconds": {}}', "cut"])
def test_a_damaged_file_is_passed_over_and_written_again(
    content: str, in_this_process: list[Json], prepared: Callable[..., Prepared]
) -> None:
    study = prepared()
    first = measure(study)
    (file,) = study.place.folder.glob("measured-*.json")
    file.write_text(file.read_text()[:-20] if content == "cut" else content)
    assert read_measured(study) is None
    again = measure(study)
    assert read_measured(study) == again
    assert again.seconds == first.seconds  # memory is that of this process, and grows


def test_a_trainer_that_cannot_measure_is_told_what_would_do(
    ablate: Ablate, prepared: Callable[..., Prepared], tmp_path: Path
) -> None:
    prepared(trainer="paced")
    text = (tmp_path / "paced.yaml").read_text().replace("trainer: paced", "trainer: walk")
    (tmp_path / "paced.yaml").write_text(text.replace("fault: none", "slope: 1.0"))
    done = ablate("plan", "paced.yaml", "--measure")
    assert done.returncode == 2
    assert "has no `measure`; `ablate run STUDY --limit 1`" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        ("file", BadInput, "data.csv: not there"),
        ("bug", BadInput, "paced.measure: RuntimeError: the clock stopped (paced.py:"),
        ("nan", BadInput, "paced.measure: found nan for part "),
        ("nothing", BadInput, "paced.measure: found None for part "),
    ],
)
def test_what_stands_in_the_way_is_one_line_and_nothing_is_kept(
    fault: str,
    kind: type[BadInput | AblateError],
    told: str,
    in_this_process: list[Json],
    prepared: Callable[..., Prepared],
) -> None:
    study = prepared(fault=fault)
    with pytest.raises(kind) as caught:
        measure(study)
    assert told in str(caught.value)
    assert len(caught.value.faults) == 1
    assert type(caught.value) is kind
    assert not study.place.folder.exists()


def test_a_process_that_is_killed_is_told(
    prepared: Callable[..., Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(AblateError, match="the measuring process ended with 1: it printed nothing"):
        measure(prepared())


def test_parts_that_are_new_since_are_counted(
    in_this_process: list[Json], prepared: Callable[..., Prepared]
) -> None:
    measure(prepared())
    study = prepared(levels="[10, 20, 30]")
    cost = plan_document(study.spec, study.design, study.place, read_measured(study))["estimate"]
    assert cost["hours"] == pytest.approx(30.0 * 9 / 3600)  # the third as the mean of the others
    assert cost["basis"].endswith("parts that are new since: 1, --measure times them")

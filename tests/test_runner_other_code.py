"""The code of a trial is part of its result: a run with other code is refused, kept apart by the report, or trains again."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos import children
from conftest import TRAINERS
from fixture_types import Ablate, StartAblate
from test_runner_run import wait_for

from ablate.contract import load_trainer
from ablate.runner.trial_code import Sources

WriteCoded = Callable[..., Path]
STUDY = """\
study: coded
trainer: coded
settings: {{{settings}}}
factors: {{script: [a.txt, b.txt]}}
baseline: {{script: a.txt}}
design: {design}
seeds: {seeds}
metric: {{name: dev/x}}
"""
FILES = {
    "coded_helpers/__init__.py": "",
    "coded_helpers/early.py": '"""Early."""\nfrom .deep import DEEP\n\nEARLY = DEEP + 1.0\n',
    "coded_helpers/deep.py": "DEEP = 1.0\n",
    "coded_helpers/late.py": "LATE = 1.0\n",
    "coded_helpers/unused.py": "UNUSED = 1.0\n",
    "coded_computed.py": "VALUE = 1.0\n",
    "a.txt": "1\n",
    "b.txt": "2\n",
}


@pytest.fixture
def coded(tmp_path: Path) -> WriteCoded:
    """Write the coded study (see tests/trainers/coded.py), its helpers, none of them in a repository."""

    def write(settings: str = "", design: str = "full", seeds: str = "[1]") -> Path:
        shutil.copy(TRAINERS / "coded.py", tmp_path)
        for name, text in FILES.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        path = tmp_path / "coded.yaml"
        path.write_text(STUDY.format(settings=settings, design=design, seeds=seeds))
        return path

    return write


def append(file: Path, text: str) -> None:
    file.write_text(file.read_text() + text)


def codes(ablate: Ablate) -> list[dict[str, str]]:
    """The files that each trial was trained with."""
    trials = json.loads(ablate("status", "coded", "--json").stdout)["trials"]
    shown = (json.loads(ablate("show", "coded", trial["number"], "--json").stdout) for trial in trials)
    return [document["parts"][0]["facts"]["code"] for document in shown]


def steps(tmp_path: Path) -> list[list[str]]:
    return [log.read_text().split() for log in sorted(tmp_path.glob("runs/coded/trials/*/steps.log"))]


def test_the_code_of_a_trial_is_recorded_whoever_imports_it_and_when(
    ablate: Ablate, coded: WriteCoded
) -> None:
    assert ablate("run", coded()).returncode == 0
    modules = {"coded.py", *(name for name in FILES if name.endswith(".py") and "unused" not in name)}
    assert {frozenset(code) for code in codes(ablate)} == {
        frozenset({*modules, "a.txt"}),
        frozenset({*modules, "b.txt"}),
    }


CHANGES = {
    "coded.py": "X = 1\n",
    "coded_helpers/early.py": "EARLY = 3.0\n",
    "coded_helpers/deep.py": "DEEP += 1\n",
    "coded_helpers/late.py": "LATE = 3.0\n",
    "coded_helpers/__init__.py": '"""A docstring, which programs may read."""\n',
    "coded_computed.py": "VALUE = 3.0\n",
    "b.txt": "\n",
}


def test_other_code_is_refused_with_its_name_and_both_ways_out(
    ablate: Ablate, coded: WriteCoded, tmp_path: Path
) -> None:
    study = coded()
    ablate("run", study)
    before = recorded(tmp_path)
    for file, change in CHANGES.items():
        text = (tmp_path / file).read_text()
        append(tmp_path / file, change)
        done = ablate("run", study)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert all(said in done.stderr for said in (f"{file} (changed; ", "--code keep", "--code rerun"))
        (tmp_path / file).write_text(text)
    assert recorded(tmp_path) == before


def recorded(tmp_path: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()}


def test_comments_layout_and_files_that_nobody_imports_may_change(
    ablate: Ablate, coded: WriteCoded, tmp_path: Path
) -> None:
    study = coded()
    ablate("run", study)
    append(tmp_path / "coded_helpers/deep.py", "\n\n# A comment.\n")
    (tmp_path / "coded_helpers/late.py").write_text("LATE = (\n    1.0  # one\n)\n")
    append(tmp_path / "coded_helpers/unused.py", "UNUSED = 2\n")
    assert ablate("run", study).returncode == 0


def test_a_file_that_is_gone_is_named(ablate: Ablate, coded: WriteCoded, tmp_path: Path) -> None:
    study = coded()
    ablate("run", study)
    (tmp_path / "coded_computed.py").unlink()
    assert "coded_computed.py (is gone; 2 parts used it before)" in ablate("run", study).stderr


@pytest.mark.slow
def test_a_study_may_move(ablate: Ablate, coded: WriteCoded, tmp_path: Path) -> None:
    study = coded()
    ablate("run", study)
    (tmp_path / "there").mkdir()
    for name in ("coded.yaml", "coded.py", "coded_computed.py", "coded_helpers", "a.txt", "b.txt"):
        (tmp_path / name).rename(tmp_path / "there" / name)
    assert ablate("run", "there/coded.yaml").returncode == 0


@pytest.mark.slow
def test_another_version_of_a_package_is_refused(ablate: Ablate, coded: WriteCoded, tmp_path: Path) -> None:
    packages = tmp_path / "lib/site-packages"
    information = packages / "quick_trees-1.0.dist-info"
    information.mkdir(parents=True)
    (packages / "quicktrees.py").write_text("")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: quick-trees\nVersion: 1.0\n")
    (information / "top_level.txt").write_text("quicktrees\n")
    study = coded()
    append(tmp_path / "coded_helpers/deep.py", "import quicktrees\n")
    path = os.pathsep.join(filter(None, [str(packages), os.environ.get("PYTHONPATH")]))
    assert ablate("run", study, PYTHONPATH=path).returncode == 0
    information.rename(packages / "quick_trees-1.1.dist-info")
    metadata = packages / "quick_trees-1.1.dist-info/METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "1.1"))
    done = ablate("run", study, PYTHONPATH=path)
    assert done.returncode == 2
    assert "quick-trees (1.0 → 1.1)" in done.stderr


def test_code_that_no_result_rests_on_may_change(ablate: Ablate, coded: WriteCoded, tmp_path: Path) -> None:
    study = coded(settings="fails: true")
    assert ablate("run", study).returncode == 1
    text = (tmp_path / "coded.py").read_text()
    (tmp_path / "coded.py").write_text(text.replace("if settings.fails", "if False"))
    assert ablate("run", study, "--retry-failed").returncode == 0


def test_keep_goes_on_and_the_report_flags_what_it_compares(
    ablate: Ablate, coded: WriteCoded, tmp_path: Path
) -> None:
    study = coded()
    ablate("run", study, "--only", "script=a.txt")
    append(tmp_path / "coded_helpers/late.py", "LATE = 3.0\n")
    assert ablate("run", study).returncode == 2
    assert ablate("run", study, "--code", "keep").returncode == 0
    assert ablate("run", study).returncode == 0
    document = json.loads(ablate("report", "coded", "--json").stdout)
    flag = next(flag for flag in document["flags"] if flag["rule"] == "other_code")
    assert flag["severity"] == "stop"
    assert (
        "script: a.txt → b.txt: all of 1 pair of trials compare different code: coded_helpers/late.py"
        in (flag["evidence"])
    )


def test_rerun_trains_again_what_is_of_other_code_and_nothing_else(
    ablate: Ablate, coded: WriteCoded, tmp_path: Path
) -> None:
    study = coded()
    before = json.loads(ablate("run", study, "--json").stdout)["trials"]
    (tmp_path / "b.txt").write_text("5\n")
    after = json.loads(ablate("run", study, "--code", "rerun", "--json").stdout)["trials"]
    changed = {
        str(new["factors"]["script"]): (new["metrics"]["dev/x"] - old["metrics"]["dev/x"], new["attempts"])
        for old, new in zip(before, after, strict=True)
    }
    assert changed == {"a.txt": (0, 1), "b.txt": (pytest.approx(3), 2)}
    assert ablate("run", study).returncode == 0
    report = json.loads(ablate("report", "coded", "--json").stdout)
    assert not [flag for flag in report["flags"] if flag["rule"] == "other_code"]


@pytest.mark.slow
def test_rerun_leaves_what_optuna_shows_as_it_is_recorded(
    ablate: Ablate, coded: WriteCoded, tmp_path: Path
) -> None:
    import optuna

    study = coded()
    ablate("run", study)
    append(tmp_path / "coded_computed.py", "VALUE = 9.0\n")
    trials = json.loads(ablate("run", study, "--code", "rerun", "--json").stdout)["trials"]
    shown = optuna.load_study(study_name="coded", storage=f"sqlite:///{tmp_path}/runs/coded/study.db").trials
    assert [trial.value for trial in shown] == [trial["metrics"]["dev/x"] for trial in trials]


def interrupted(ablate: Ablate, start_ablate: StartAblate, study: Path, tmp_path: Path) -> None:
    """Interrupt the first trial in its middle, and change the code."""
    run = start_ablate("run", study, ABLATE_CHECKPOINT_SECONDS="0")
    wait_for(lambda: [log for log in steps(tmp_path) if len(log) >= 3])
    run.send_signal(signal.SIGTERM)
    assert run.wait() == 143
    append(tmp_path / "coded_helpers/late.py", "LATE = 3.0\n")


def test_a_checkpoint_of_other_code_is_refused_or_kept_on_record(
    ablate: Ablate, start_ablate: StartAblate, coded: WriteCoded, tmp_path: Path
) -> None:
    study = coded(settings="steps: 20")
    interrupted(ablate, start_ablate, study, tmp_path)
    assert "coded_helpers/late.py (changed; 1 part used it before)" in ablate("run", study).stderr
    assert ablate("run", study, "--code", "keep").returncode == 0
    versions = {code["coded_helpers/late.py"].count(" → ") for code in codes(ablate)}
    assert versions == {0, 1}
    assert {len(log) for log in steps(tmp_path)} == {20}


def test_rerun_begins_a_trial_of_other_code_anew(
    ablate: Ablate, start_ablate: StartAblate, coded: WriteCoded, tmp_path: Path
) -> None:
    study = coded(settings="steps: 20")
    interrupted(ablate, start_ablate, study, tmp_path)
    assert ablate("run", study, "--code", "rerun").returncode == 0
    assert [log for log in steps(tmp_path)] == [[str(step) for step in range(1, 21)]] * 2
    assert not any("→" in version for code in codes(ablate) for version in code.values())


def test_rerun_that_is_interrupted_continues_when_it_is_repeated(
    ablate: Ablate, start_ablate: StartAblate, coded: WriteCoded, tmp_path: Path
) -> None:
    study = coded(settings="steps: 20")
    interrupted(ablate, start_ablate, study, tmp_path)
    before = steps(tmp_path)
    run = start_ablate("run", study, "--code", "rerun", ABLATE_CHECKPOINT_SECONDS="0")
    wait_for(lambda: steps(tmp_path) != before and [log for log in steps(tmp_path) if 3 <= len(log) < 20])
    run.send_signal(signal.SIGTERM)
    assert run.wait() == 143
    reached = [log for log in steps(tmp_path) if len(log) < 20]
    assert ablate("run", study, "--code", "rerun").returncode == 0
    assert all("1" not in log[len(before) :] for before, log in zip(reached, steps(tmp_path), strict=False))


def test_rerun_of_chosen_cells_only_is_refused(ablate: Ablate, coded: WriteCoded, tmp_path: Path) -> None:
    """It would throw away the results of the other cells without training them again."""
    study = coded()
    ablate("run", study)
    append(tmp_path / "coded_computed.py", "VALUE = 9.0\n")
    refused = ablate("run", study, "--code", "rerun", "--only", "script=a.txt")
    assert (refused.returncode, "leave --only out" in refused.stderr) == (2, True)
    assert json.loads(ablate("status", "coded", "--json").stdout)["complete"] == 2


@pytest.mark.slow
def test_a_worker_that_starts_with_other_code_takes_nothing(
    ablate: Ablate, start_ablate: StartAblate, coded: WriteCoded, tmp_path: Path
) -> None:
    """As the one that takes the place of a killed one, in a run that goes on."""
    run = start_ablate("run", coded(settings="steps: 60"), ABLATE_CHECKPOINT_SECONDS="0")
    wait_for(lambda: [log for log in steps(tmp_path) if len(log) >= 3])
    append(tmp_path / "coded_helpers/late.py", "LATE = 3.0\n")
    os.kill(children(run.pid)[0], signal.SIGKILL)
    _, said = run.communicate()
    assert run.returncode == 1
    assert "coded_helpers/late.py (changed; 1 part used it before)" in said
    done = ablate("worker", "coded")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert ablate("worker", "coded", "--code", "keep").returncode == 0


@pytest.mark.slow
def test_a_script_that_is_edited_during_a_run_stops_it_before_its_next_trial(
    start_ablate: StartAblate, ablate: Ablate, coded: WriteCoded, tmp_path: Path
) -> None:
    run = start_ablate("run", coded(settings="steps: 30", seeds="[1, 2]"))
    wait_for(lambda: len([log for log in steps(tmp_path) if log]) == 3)
    for script in ("a.txt", "b.txt"):
        append(tmp_path / script, "\n")
    _, said = run.communicate()
    assert run.returncode == 1
    assert "its code differs from the recorded code" in said
    states = [trial["state"] for trial in json.loads(ablate("status", "coded", "--json").stdout)["trials"]]
    assert (states.count("COMPLETE"), states.count("WAITING")) == (3, 1)


@pytest.mark.slow
def test_rerun_while_the_study_runs_is_refused(
    ablate: Ablate, start_ablate: StartAblate, coded: WriteCoded, tmp_path: Path
) -> None:
    study = coded(settings="steps: 100")
    start_ablate("run", study)
    wait_for(lambda: steps(tmp_path))
    done = ablate("run", study, "--code", "rerun")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "'coded' is running" in done.stderr


@pytest.mark.slow
def test_rerun_of_a_search_is_refused(ablate: Ablate, coded: WriteCoded, tmp_path: Path) -> None:
    study = coded(design="{kind: search, trials: 2, finalists: 1}", seeds="[1, 2]")
    assert ablate("run", study).returncode == 0
    append(tmp_path / "coded_computed.py", "VALUE = 9.0\n")
    done = ablate("run", study, "--code", "rerun")
    assert done.returncode == 2
    assert "were chosen from results of other code" in done.stderr


def test_a_file_that_sources_names_must_be_there(ablate: Ablate, coded: WriteCoded, tmp_path: Path) -> None:
    study = coded()
    (tmp_path / "b.txt").unlink()
    done = ablate("run", study)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "coded.sources names" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_module_that_is_edited_before_it_is_loaded_is_of_both_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "lazy_trainer.py").write_text(
        "from pydantic import BaseModel\nclass Settings(BaseModel): ...\ndef train(s, c):\n  import lazy_late\n"
    )
    (tmp_path / "lazy_late.py").write_text("LATE = 1\n")
    before = list(sys.modules)
    trainer = load_trainer("lazy_trainer", tmp_path)
    sources = Sources(trainer, tmp_path, before)
    first = sources.loaded().files["lazy_late.py"]
    (tmp_path / "lazy_late.py").write_text("LATE = 22\n")
    assert sources.loaded().files["lazy_late.py"] == first
    trainer.train(None, None)  # type: ignore[arg-type]
    assert (
        sources.loaded().files["lazy_late.py"].split(" → ")[0]
        == first
        != sources.loaded().files["lazy_late.py"]
    )


def test_of_this_package_only_a_trainer_in_a_checkout_is_code() -> None:
    sources = Sources(load_trainer("ablate.trainer", Path("studies")), Path("studies"), list(sys.modules))
    files = list(sources.loaded().files)
    assert {name.split("/")[:2][-1] for name in files} == {"trainer"}
    assert "ablate/trainer/training/loop.py" in files
    assert "torch" in sources.loaded().packages


def test_the_users_folder_is_that_of_the_study_where_the_trainer_is_ours(tmp_path: Path) -> None:
    trainer = load_trainer("ablate.trainer", Path("studies"))
    sources = Sources(trainer, tmp_path, list(sys.modules))
    assert sources.folder(trainer.Settings()) == tmp_path


def test_the_users_folder_is_that_of_the_trainer_where_it_is_theirs(tmp_path: Path) -> None:
    sources = Sources(load_trainer("my_trainer", Path("studies")), tmp_path, list(sys.modules))
    assert sources.folder(None) == Path("studies").resolve()


COMMAND = """\
study: coded
trainer: ablate.command
settings: {command: [python, -u, train.py, "--config=conf.txt", "--script", "{script}"]}
factors: {script: [a.txt, b.txt]}
baseline: {script: a.txt}
design: full
seeds: [1]
metric: {name: dev/x}
"""


def test_the_code_of_a_program_is_what_its_command_names_and_what_that_imports(
    ablate: Ablate, tmp_path: Path
) -> None:
    texts = {
        "coded.yaml": COMMAND,
        "train.py": "from lib import VALUE\nprint('{\"dev/x\": %f}' % VALUE)\n",
        "lib.py": "VALUE = 1\n",
        "conf.txt": "",
        "a.txt": "",
        "b.txt": "",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = ablate("run", "coded.yaml", PATH=path)
    assert done.returncode == 0, done.stdout
    common = {"train.py", "lib.py", "conf.txt"}
    assert {frozenset(code.keys() & texts.keys()) for code in codes(ablate)} == {
        frozenset({*common, "a.txt"}),
        frozenset({*common, "b.txt"}),
    }
    append(tmp_path / "lib.py", "VALUE = 2\n")
    assert "lib.py (changed; 2 parts used it before)" in ablate("run", "coded.yaml", PATH=path).stderr

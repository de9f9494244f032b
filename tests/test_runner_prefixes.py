"""What several parts train alike is trained once: counted in steps that were really computed, and equal to the bit to training
each part by itself, whatever is killed, damaged or gone."""

import functools
import json
import math
import os
import shutil
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chaos import Chaos
from conftest import TRAINERS
from fixture_types import Ablate, RunHere, StartAblate
from postgres_server import PostgresServer

from ablate.contract import Pruned
from ablate.errors import BadInput, TrialError
from ablate.runner.cadence import Cadence
from ablate.runner.check.study import check_study, check_text
from ablate.runner.checkpoint import read_state, write_state
from ablate.runner.context import Owner, PartContext, Points
from ablate.runner.prefix_files import PrefixFiles
from ablate.runner.status import status_text
from ablate.store.places import Place, place_of
from ablate.store.reading import read_results
from ablate.store.results import Results, seconds_trained, sharing

STUDY = """\
study: branching
trainer: branching
settings: {{steps: 8{settings}}}
factors: {factors}
baseline: {baseline}
design: full
seeds: {seeds}
metric: {{name: dev/score}}
"""
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Write the study and its trainer, which each test imports anew: some change it."""
    shutil.copy(TRAINERS / "branching.py", tmp_path)
    sys.modules.pop("branching", None)

    def study(
        factors: str = "{then: [1.0, 2.0, 3.0]}",
        baseline: str = "{then: 1.0}",
        seeds: str = "[1, 2]",
        settings: str = "",
    ) -> Path:
        path = tmp_path / "branching.yaml"
        path.write_text(STUDY.format(factors=factors, baseline=baseline, seeds=seeds, settings=settings))
        return path

    yield study
    sys.modules.pop("branching", None)


def change(tmp_path: Path, old: str, new: str) -> None:
    """Edit the trainer."""
    file = tmp_path / "branching.py"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    sys.modules.pop("branching", None)


def place(tmp_path: Path, home: str = "runs") -> Place:
    return place_of("branching", tmp_path / home)


def results(tmp_path: Path, home: str = "runs", storage: str | None = None) -> Results:
    return read_results(place_of("branching", tmp_path / home, storage))


def steps(tmp_path: Path, home: str = "runs") -> Counter[str]:
    """Return how often each step was computed: `SEED STEP` -> times."""
    return Counter((place(tmp_path, home).cache / "steps.log").read_text().splitlines())


def ends(tmp_path: Path) -> list[Path]:
    return sorted(place(tmp_path).prefix_folder.iterdir())


def outcome(tmp_path: Path, home: str = "runs", storage: str | None = None) -> Any:
    """Return all that a study knows of its parts, except what depends on the time that it took."""
    found = results(tmp_path, home, storage)
    parts = {
        key: (part.metrics, part.steps, part.facts["slopes"], predictions(part.folder))
        for key, part in found.parts.items()
    }
    return parts, sorted(found.points({part for part, _ in found.parts}))


def predictions(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(folder.glob("predictions/*.csv"))]


def apart(study: Path, run_here: RunHere, tmp_path: Path) -> Any:
    """Return the outcome of the same study where nothing is shared."""
    change(tmp_path, "def prefixes(", "def unused(")
    document = run_here(study, home="apart")
    assert document["failed"] == 0
    assert document["parts"]["continued"] == 0
    return outcome(tmp_path, "apart")


# What is shared -------------------------------------------------------------------------------------------------


def test_what_parts_train_alike_is_computed_once(write: Write, run_here: RunHere, tmp_path: Path) -> None:
    study = write()
    assert run_here(study)["failed"] == 0
    assert steps(tmp_path) == {
        f"{seed} {step}": 1 if step <= 4 else 3 for seed in (1, 2) for step in range(1, 9)
    }
    assert not place(tmp_path).prefix_folder.exists()
    together = outcome(tmp_path)
    assert together == apart(study, run_here, tmp_path)
    assert set(steps(tmp_path, "apart").values()) == {3}


def test_a_part_continues_from_the_furthest_prefix(write: Write, run_here: RunHere, tmp_path: Path) -> None:
    study = write(
        "{then: [1.0, 2.0], score: [position, square]}", "{then: 1.0, score: position}", seeds="[1]"
    )
    assert run_here(study)["failed"] == 0
    assert [steps(tmp_path)[f"1 {step}"] for step in range(1, 9)] == [1, 1, 1, 1, 2, 2, 4, 4]
    assert outcome(tmp_path) == apart(study, run_here, tmp_path)


def test_workers_side_by_side_give_the_same_results(
    write: Write, ablate: Ablate, run_here: RunHere, tmp_path: Path
) -> None:
    study = write()
    assert ablate("run", study, "--workers", 2).returncode == 0
    assert max(steps(tmp_path).values()) == 3
    assert not place(tmp_path).prefix_folder.exists()
    assert outcome(tmp_path) == apart(study, run_here, tmp_path)


def test_a_part_counts_its_prefix_and_the_study_counts_it_once(
    write: Write, run_here: RunHere, tmp_path: Path
) -> None:
    document = run_here(write(settings=", pace: 0.01"))
    found = results(tmp_path)
    continued = [part for part in found.parts.values() if part.is_continued]
    assert len(continued) == document["parts"]["continued"] == 4
    for part in continued:
        assert part.steps == 8
        fact = part.facts["continued"]
        by = found.parts[fact["part"], part.seed]
        assert (fact["prefix"], fact["steps"], by.is_continued) == ("half", 4, False)
        assert 0.04 <= fact["seconds"] <= min(part.seconds, by.seconds)
    assert all(trial.seconds >= 0.08 for trial in found.trials)
    saved = sum(part.facts["continued"]["seconds"] for part in continued)
    assert sharing(found, found.trials).seconds_saved == pytest.approx(saved)
    counted = document["parts"]
    assert counted["seconds_used"] - counted["seconds_trained"] == pytest.approx(saved, abs=0.002)
    assert "6 parts trained, 4 of them from where another left off, and used 6 times: " in status_text(found)
    older = [
        replace(part, facts={name: fact for name, fact in part.facts.items() if name != "seconds_by"})
        for part in found.parts.values()
    ]
    assert seconds_trained(older) == pytest.approx(seconds_trained(found.parts.values()))


def test_parts_that_continue_from_each_other_after_kills_count_every_second_once(
    write: Write, start_ablate: StartAblate, ablate: Ablate, tmp_path: Path
) -> None:
    study = write(
        "{score: {levels: {position: {score: position, kill_at: 7}, square: {score: square, kill_at: 5}}}}",
        "{score: position}",
        seeds="[1]",
        settings=", keeps: false, pace: 0.01",
    )
    change(tmp_path, "os.kill(os.getpid(), 9)", "os.kill(os.getppid(), 9); os.kill(os.getpid(), 9)")
    # One saves the first prefix, the other continues from there up to the second, and the first from that one.
    for level in ("square", "position", "square"):
        start_ablate("run", study, "--only", f"score={level}").wait()
    assert ablate("run", study).returncode == 0
    assert [steps(tmp_path)[f"1 {step}"] for step in range(1, 9)] == [1, 1, 1, 1, 1, 1, 2, 2]
    found = results(tmp_path)
    by_score = {
        trial.factors["score"]: found.parts[only, 1]
        for trial in found.trials
        for only in trial.parts.values()
    }
    position, square = by_score["position"], by_score["square"]
    assert (position.facts["continued"]["steps"], square.facts["continued"]["steps"]) == (4, 6)
    once = position.seconds + square.seconds - square.facts["continued"]["seconds"]
    assert seconds_trained(found.parts.values()) == pytest.approx(once)
    assert position.own_seconds + square.own_seconds == pytest.approx(once)


def test_a_prefix_of_a_part_that_failed_counts(write: Write, run_here: RunHere, tmp_path: Path) -> None:
    study = write(
        "{fails: [true, false], score: [position, square]}", "{fails: true, score: position}", seeds="[1]"
    )
    assert run_here(study, only=["fails=true", "score=square"])["failed"] == 1
    assert run_here(study)["failed"] == 2
    one, other = results(tmp_path).parts.values()
    prefix = one.facts["continued"]["seconds"]
    assert prefix == other.facts["continued"]["seconds"] > 0
    once = one.seconds + other.seconds - prefix
    assert seconds_trained([one, other]) == pytest.approx(once)
    assert sharing(results(tmp_path), results(tmp_path).trials).seconds_saved == pytest.approx(prefix)


def test_the_report_counts_shared_prefixes_once(
    write: Write, run_here: RunHere, ablate: Ablate, tmp_path: Path
) -> None:
    run_here(write())
    assert ablate("report", "branching", "--out", "out").returncode == 0
    document = json.loads((tmp_path / "out/report.json").read_text())
    own = sum(part.own_seconds for part in results(tmp_path).parts.values())
    assert document["cost"]["hours"] == pytest.approx(own / 3600)
    assert "6 parts were needed and 6 trained, 4 of them from where another left off" in (
        tmp_path / "out/report.md"
    ).read_text().replace("\n", " ")
    assert not [flag for flag in document["flags"] if "continued" in flag["evidence"]]


def test_plan_says_how_many_parts_begin_alike_if_any_do(write: Write, ablate: Ablate) -> None:
    study = write()
    assert "prefixes: 6 of these parts begin the same way as another part" in ablate("plan", study).stdout
    assert json.loads(ablate("plan", study, "--json").stdout)["parts"]["with_prefixes"] == 6
    study = write("{slope: [1.0, 2.0]}", "{slope: 1.0}")
    assert "prefixes:" not in ablate("plan", study).stdout


def test_a_trial_that_continued_is_reproduced(write: Write, run_here: RunHere, ablate: Ablate) -> None:
    numbers = [trial["number"] for trial in run_here(write(seeds="[1]"))["trials"]]
    for number in numbers:
        done = ablate("reproduce", "branching", number)
        assert done.returncode == 0, done.stdout


# Kills, damage, other code --------------------------------------------------------------------------------------


def test_a_worker_killed_after_a_prefix_continues_from_there(
    write: Write, ablate: Ablate, run_here: RunHere, tmp_path: Path
) -> None:
    study = write("{then: [1.0, 2.0]}", seeds="[1]", settings=", kill_at: 6, keeps: false")
    assert ablate("run", study).returncode == 0
    # Step 5 is lost in each of the two parts, which keep no checkpoints.
    assert [steps(tmp_path)[f"1 {step}"] for step in range(1, 9)] == [1, 1, 1, 1, 4, 2, 2, 2]
    assert [part.is_continued for part in results(tmp_path).parts.values()].count(True) == 1
    together = outcome(tmp_path)
    shutil.rmtree(tmp_path / "runs")
    change(tmp_path, "def prefixes(", "def unused(")
    assert ablate("run", study).returncode == 0
    assert outcome(tmp_path) == together


def assert_kills_change_nothing(
    write: Write,
    ablate: Ablate,
    tmp_path: Path,
    *,
    steps: int,
    levels: str,
    seeds: str,
    kills: int,
    storage: str | None = None,
) -> None:
    """Hold a killed study, its history and its home against one that nobody disturbed."""
    study = write(f"{{then: {levels}, score: [position, square]}}", "{then: 1.0, score: position}", seeds)
    text = study.read_text().replace("steps: 8", f"steps: {steps}, pace: 0.03")
    study.write_text(text)
    assert ablate("run", study, "--home", "reference").returncode == 0
    chaos = Chaos(
        study,
        workers=2,
        kills=kills,
        seed=1,
        mean_wait_s=0.3,
        environment={"ABLATE_STORAGE": storage} if storage else {},
    )
    # It ends by holding the history against what may happen.
    chaos.run()
    assert chaos.killed >= kills, "done before its time"
    assert outcome(tmp_path, storage=storage) == outcome(tmp_path, "reference")
    again = ablate("run", study, **chaos.environment)
    assert again.returncode == 0, again.stderr
    assert files_of(tmp_path / "runs") == files_of(tmp_path / "reference")
    computed, continued = (
        chaos.steps_computed(),
        sum(part.is_continued for part in results(tmp_path, storage=storage).parts.values()),
    )
    print(f"{chaos.killed} kills, {continued} parts continued from prefixes, {computed} steps computed")


def files_of(home: Path) -> set[str]:
    """Return the files of the study without its logs, one of which is there for each attempt, and its database."""
    study = home / "branching"
    files = {str(file.relative_to(study)) for file in study.rglob("*") if file.is_file()}
    return {file for file in files if not file.startswith(("logs/", "study.db"))}


def test_kills_at_random_instants_change_no_bit(write: Write, ablate: Ablate, tmp_path: Path) -> None:
    assert_kills_change_nothing(write, ablate, tmp_path, steps=60, levels="[1.0, 2.0]", seeds="[1]", kills=5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_200_kills_change_no_bit(
    write: Write, ablate: Ablate, tmp_path: Path, postgres: PostgresServer, backend: str
) -> None:
    storage = postgres.new_database() if backend == "postgresql" else None
    levels, seeds = "[1.0, 2.0, 3.0, 4.0]", "[1, 2, 3]"
    assert_kills_change_nothing(
        write, ablate, tmp_path, steps=500, levels=levels, seeds=seeds, kills=200, storage=storage
    )


def alter(**changes: Any) -> Callable[[Path], None]:
    def altered(file: Path) -> None:
        write_state(file, {**read_state(file), **changes})

    return altered


def other_machine(file: Path) -> None:
    saved = read_state(file)
    write_state(file, {**saved, "machine": {**saved["machine"], "cpu": "another"}})


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-9]),
        lambda file: file.write_bytes(b"damaged"),
        lambda file: file.write_bytes(file.read_bytes()[:-1] + b"~"),
        lambda file: [file.unlink(), file.mkdir()],
        lambda file: file.unlink(),
        alter(of="another"),
        alter(history=None),
        alter(step=-1),
        alter(made_with={}),
        other_machine,
    ],
    ids=["cut", "nonsense", "a bit", "folder", "gone", "foreign", "no points", "no step", "code", "machine"],
)
def test_what_cannot_be_continued_from_is_trained_again(
    damage: Callable[[Path], None], write: Write, run_here: RunHere, tmp_path: Path
) -> None:
    study = write(seeds="[1]")
    run_here(study, limit=1)
    (end,) = ends(tmp_path)
    damage(end)
    document = run_here(study)
    assert (document["complete"], document["failed"]) == (3, 0)
    # The second part begins anew and replaces the file, from which the third continues.
    assert [steps(tmp_path)[f"1 {step}"] for step in range(1, 9)] == [2, 2, 2, 2, 3, 3, 3, 3]
    assert outcome(tmp_path) == apart(study, run_here, tmp_path)


def test_a_prefix_of_other_code_is_trained_again(write: Write, run_here: RunHere, tmp_path: Path) -> None:
    study = write(seeds="[1]")
    run_here(study, limit=1)
    change(tmp_path, "position += slope +", "position += 2 * slope +")
    assert run_here(study, code="keep")["failed"] == 0
    assert [steps(tmp_path)[f"1 {step}"] for step in range(1, 9)] == [2, 2, 2, 2, 3, 3, 3, 3]
    codes = {json.dumps(part.facts["code"]) for part in results(tmp_path).parts.values()}
    assert len(codes) == 2
    assert not any("→" in code for code in codes)


def test_a_full_disk_costs_the_sharing_only(write: Write, run_here: RunHere, tmp_path: Path) -> None:
    study = write(seeds="[1]")
    run_here(study, limit=1)
    shutil.rmtree(place(tmp_path).prefix_folder)
    place(tmp_path).prefix_folder.write_text("a file where the folder should be")
    assert run_here(study)["failed"] == 0
    assert steps(tmp_path)["1 1"] == 3


# Cleaning -------------------------------------------------------------------------------------------------------


def test_an_end_is_kept_while_a_part_needs_it(write: Write, run_here: RunHere, tmp_path: Path) -> None:
    study = write()
    for limit, kept in ((1, 1), (1, 1), (1, 0), (1, 1), (2, 0)):
        run_here(study, limit=limit)
        there = place(tmp_path).prefix_folder
        assert len(list(there.glob("*"))) == kept


def test_parts_that_failed_for_good_need_nothing(write: Write, run_here: RunHere, tmp_path: Path) -> None:
    study = write("{fails: [false, true]}", "{fails: false}")
    document = run_here(study)
    assert (document["complete"], document["failed"]) == (2, 2)
    assert not place(tmp_path).prefix_folder.exists()


def test_what_killed_processes_leave_is_removed_by_the_next_run(
    write: Write, run_here: RunHere, tmp_path: Path
) -> None:
    study = write()
    run_here(study)
    there = place(tmp_path).prefix_folder
    there.mkdir()
    for name in (f"{'0' * 12}-1.checkpoint", f".{'0' * 12}-1.checkpoint.7-abcd.part"):
        (there / name).write_text("left")
    run_here(study)
    assert not there.exists()


def test_a_bundle_has_no_ends(write: Write, run_here: RunHere, ablate: Ablate, tmp_path: Path) -> None:
    run_here(write(), limit=1)
    assert ends(tmp_path)
    assert ablate("export", "--bundle", "branching").returncode == 0
    (packed,) = tmp_path.rglob("*.zip")
    with zipfile.ZipFile(packed) as bundle:
        assert not [name for name in bundle.namelist() if "prefix" in name]


# The contract ---------------------------------------------------------------------------------------------------


def test_a_name_that_prefixes_does_not_give_is_refused(
    write: Write, run_here: RunHere, tmp_path: Path
) -> None:
    study = write(seeds="[1]")
    change(tmp_path, "context.prefix(ends[step]", 'context.prefix("later"')
    (first, *_) = run_here(study)["trials"]
    said = "context.prefix: found 'later'; use a name that prefixes(settings) gives for this part: half, three quarters"
    assert said in first["error"]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("[1]", "branching.prefixes: returned [1], not a dict of settings by name"),
        ("{'half': 7}", "branching.prefixes: 'half': settings: Input should be a valid dictionary"),
        ("1 / 0", "branching.prefixes: ZeroDivisionError"),
    ],
)
def test_prefixes_that_are_none_are_refused_before_anything_is_trained(
    returned: str, said: str, write: Write, run_here: RunHere, tmp_path: Path
) -> None:
    study = write()
    change(tmp_path, "    until_late = ", f"    return {returned}\n    until_late = ")
    with pytest.raises(BadInput) as refused:
        run_here(study)
    assert said in str(refused.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("forgotten", "failed"), [("", []), ("slope", ["prefix"])], ids=["sound", "a setting is forgotten"]
)
def test_check_finds_a_setting_that_prefixes_forgets(
    forgotten: str, failed: list[str], write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRANCHING_FORGET", forgotten)
    document = check_study(
        write("{slope: [1.0, 2.0], then: [1.0, 2.0]}", "{slope: 1.0, then: 1.0}"), [], 1.0, print
    )
    checks = [check for part in document["parts"] for check in part["checks"]]
    assert [check["name"] for check in checks if check["result"] == "FAIL"] == failed, check_text(document)
    assert [check["result"] for check in checks if check["name"] == "prefix"] == [
        "FAIL" if failed else "PASS"
    ]


# The context ----------------------------------------------------------------------------------------------------


class Told(Owner):
    """Writes down what it is told, and gives a trial up at a value."""

    def __init__(self, hopeless: float = math.inf) -> None:
        self.points: Points = []
        self.reports: list[tuple[int, Mapping[str, float]]] = []
        self.hopeless = hopeless

    def add_points(self, points: Points) -> None:
        self.points += points

    def reported(self, step: int, metrics: Mapping[str, float]) -> None:
        self.reports.append((step, metrics))

    def should_prune(self, step: int, metrics: Mapping[str, float]) -> bool:
        return any(value >= self.hopeless for value in metrics.values())


def context(tmp_path: Path, part: str, owner: Owner) -> PartContext:
    prefixes = PrefixFiles(tmp_path / "prefixes", {"a": "aaa", "b": "bbb"}, 1, pytest.fail)
    return PartContext(
        owner,
        seed=1,
        device="cpu",
        workdir=tmp_path / part,
        cache=tmp_path,
        cadence=Cadence(0.0, math.inf),
        prefixes=prefixes,
    )


def walk(of: PartContext, steps: range, saving: bool = True) -> None:
    for step in steps:
        state: Callable[[], dict[str, Any]] = functools.partial(dict, at=step)
        of.report(step, {"loss": float(step), "other": -float(step)})
        if step in (4, 6):
            of.prefix("a" if step == 4 else "b", step, state)
        if saving:
            of.checkpoint(step, state)


POINTS = [
    (step, name, value)
    for step in range(1, 9)
    for name, value in (("loss", float(step)), ("other", -float(step)))
]


@pytest.mark.parametrize(("own", "begins"), [(0, 6), (3, 6), (6, 6), (7, 7)])
def test_training_continues_from_whichever_is_further(own: int, begins: int, tmp_path: Path) -> None:
    walk(context(tmp_path, "one-1", Told()), range(1, 9))
    owner = Told()
    walk(context(tmp_path, "other-1", owner), range(1, own + 1))
    (tmp_path / "prefixes").mkdir(exist_ok=True)
    resumed = context(tmp_path, "other-1", owner)
    assert resumed.restore() == {"at": begins}
    walk(resumed, range(begins + 1, 9))
    assert owner.points == POINTS
    assert [step for step, _ in owner.reports] == list(range(1, 9))
    assert (resumed.continued is None) == (own >= 6)


def test_a_trial_is_pruned_at_the_point_where_it_would_have_been(tmp_path: Path) -> None:
    walk(context(tmp_path, "one-1", Told()), range(1, 9))
    owner = Told(hopeless=3.0)
    with pytest.raises(Pruned):
        context(tmp_path, "other-1", owner).restore()
    assert owner.points == POINTS[:6]


def test_what_a_part_continued_from_is_known_after_a_kill(tmp_path: Path) -> None:
    walk(context(tmp_path, "one-1", Told()), range(1, 9))
    other = context(tmp_path, "other-1", Told())
    other.restore()
    walk(other, range(7, 8))
    again = context(tmp_path, "other-1", Told())
    again.restore()
    assert again.continued == other.continued
    assert again.continued is not None
    assert (again.continued["part"], again.continued["steps"]) == ("one", 6)


def test_a_part_that_returns_to_its_own_end_continues_from_nobody(tmp_path: Path) -> None:
    walk(context(tmp_path, "one-1", Told()), range(1, 7), saving=False)
    owner = Told()
    again = context(tmp_path, "one-1", owner)
    assert again.restore() == {"at": 6}
    assert again.continued is None
    walk(again, range(7, 9))
    assert owner.points == POINTS


def test_a_state_that_a_checkpoint_cannot_hold_is_the_trainers_fault(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"state\.state\.path: a checkpoint cannot contain a PosixPath"):
        context(tmp_path, "one-1", Told()).prefix("a", 1, lambda: {"path": tmp_path})
    with pytest.raises(TrialError, match=r"'c'; use a name that .* gives for this part: a, b"):
        context(tmp_path, "one-1", Told()).prefix("c", 1, dict)


def test_the_oldest_make_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefixes = PrefixFiles(tmp_path, {"a": "aaa", "b": "bbb", "c": "ccc"}, 1, pytest.fail)
    for age, name in enumerate("abc"):
        prefixes.save(name, lambda: {"step": 1, "seconds": 0.0, "state": {"w": np.zeros(100_000)}})
        saved = tmp_path / f"{3 * name}-1.checkpoint"
        os.utime(saved, (age, age))
        # Room for two and a half of them.
        share = 2.5 * saved.stat().st_size / shutil.disk_usage(tmp_path).free
        monkeypatch.setattr("ablate.runner.prefix_files.SHARE_OF_FREE", share)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bbb-1.checkpoint", "ccc-1.checkpoint"]

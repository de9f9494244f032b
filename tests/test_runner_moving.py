"""Studies deleted, merged, packed and opened elsewhere: nothing that was recorded is lost or changed, on either database."""

import json
import os
import resource
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_cases import finished_study
from fixture_types import Ablate, Json, RunHere, StartAblate, WalkStudy
from postgres_server import PostgresServer
from test_runner_run import wait_for, with_fault

from ablate.errors import BadInput
from ablate.runner import bundle_bounds
from ablate.runner.bundles import pack, unpack
from ablate.runner.deleting import delete_study
from ablate.store.places import place_in


def recorded(ablate: Ablate, *options: object) -> tuple[Json, Json]:
    """Return status and report of the only study there, but for when and where they are of."""
    status = json.loads(ablate("status", "--json", *options).stdout)
    report = json.loads(ablate("report", "--json", *options).stdout)
    return status, {key: value for key, value in report.items() if key != "provenance"}


def run_half(study: Path, run_here: RunHere, home: str, half: str) -> None:
    run_here(study, home=home, only=[f"noise={half}"])


def files_of_trials(home: Path) -> dict[str, bytes]:
    folder = home / "walk" / "trials"
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_two_halves_of_a_study_become_the_whole(
    run_here: RunHere, ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = walk_study(more=", fault: predicts")
    run_half(study, run_here, "a", "0.1")
    run_half(study, run_here, "b", "0.5")
    run_here(study, home="whole")
    done = ablate("merge", "a", "b", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (merged,) = json.loads(done.stdout)["merged"]
    assert (merged["trials_added"], merged["parts_added"], merged["trials_in_both"]) == (4, 4, 0)
    of_merged, of_whole = recorded(ablate, "--home", "a")[1], recorded(ablate, "--home", "whole")[1]
    assert of_merged["effects"] == of_whole["effects"]
    again = run_here(study, home="a")
    assert (again["complete"], sum(trial["attempts"] for trial in again["trials"])) == (8, 8)


@pytest.mark.slow
def test_a_home_without_the_study_takes_it_whole(
    run_here: RunHere, ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    run_here(walk_study(), home="b")
    other = walk_study()
    other.write_text(other.read_text().replace("study: walk", "study: other"))
    run_here(other, home="a", limit=1)
    assert ablate("merge", "a", "b").stdout == "walk: 8 trials and 8 trained parts added, 0 trials in both\n"
    assert recorded(ablate, "walk", "--home", "a") == recorded(ablate, "walk", "--home", "b")


@pytest.fixture
def differing(run_here: RunHere, walk_study: WalkStudy, tmp_path: Path) -> Path:
    """Two homes of one study whose trainer was changed between: a with noise .1, b with everything."""
    study = walk_study()
    run_half(study, run_here, "a", "0.1")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    run_here(study, home="b")
    import sqlite3

    with sqlite3.connect(tmp_path / "b" / "walk" / "study.db") as connection:
        connection.execute("UPDATE ablate_metrics SET value = 77 WHERE trial_id = 1")
    return study


@pytest.mark.slow
def test_a_trial_that_both_have_must_agree(differing: Path, ablate: Ablate, tmp_path: Path) -> None:
    before = recorded(ablate, "--home", "a")
    refused = ablate("merge", "a", "b")
    assert refused.returncode == 2
    assert "trial 0 (slope=1.0, noise=0.1, seed 1): dev/position is 77.0 there and" in refused.stderr
    assert refused.stderr.rstrip().endswith(f"--keep-first keeps what {tmp_path}/a/walk has for these trials")
    assert recorded(ablate, "--home", "a") == before


@pytest.mark.slow
def test_what_the_first_home_has_can_be_kept(differing: Path, ablate: Ablate) -> None:
    before = {
        (t["cell"], t["seed"]): t["metrics"]
        for t in recorded(ablate, "--home", "a")[0]["trials"]
        if t["metrics"]
    }
    done = ablate("merge", "a", "b", "--keep-first")
    assert done.returncode == 0
    assert "4 trials and 4 trained parts added" in done.stdout
    assert "kept as it was: " in done.stdout
    after = {(t["cell"], t["seed"]): t["metrics"] for t in recorded(ablate, "--home", "a")[0]["trials"]}
    assert len(after) == 8
    assert {key: after[key] for key in before} == before


def test_a_home_whose_results_are_elsewhere_is_not_merged(ablate: Ablate, tmp_path: Path) -> None:
    for home in ("a", "b"):
        (tmp_path / home / "walk").mkdir(parents=True)
    assert "a: contains no study; name two homes" in ablate("merge", "a", "b").stderr
    (tmp_path / "a" / "walk" / "home.id").touch()
    assert "a: the results of its studies are not in this folder" in ablate("merge", "a", "b").stderr


def test_another_study_of_the_same_name_is_refused(
    run_here: RunHere, ablate: Ablate, walk_study: WalkStudy
) -> None:
    run_here(walk_study(), home="a", limit=1)
    run_here(walk_study(steps=6), home="b", limit=1)
    refused = ablate("merge", "a", "b")
    assert refused.returncode == 2
    assert "settings.steps: 6, and 5 in" in refused.stderr


@pytest.mark.slow
def test_a_running_study_is_neither_merged_into_nor_deleted(
    run_here: RunHere, ablate: Ablate, start_ablate: StartAblate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = walk_study(steps=300, seconds_per_step=0.05)
    run_here(study, home="b", limit=0)
    start_ablate("run", study)
    wait_for(lambda: list(tmp_path.glob("runs/walk/trials/*/steps.log")))
    for words in (["merge", "runs", "b"], ["delete", "walk", "--yes"]):
        refused = ablate(*words)
        assert (refused.returncode, "'walk' is running" in refused.stderr) == (2, True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a study that has run."""
    folder = finished_study(tmp_path_factory.mktemp("finished"))
    pack(place_in(folder / "runs", "walk"), folder / "walk.zip", models=False)
    return folder / "walk.zip"


@pytest.mark.slow
@pytest.mark.parametrize("models", [False, True])
def test_a_bundle_is_the_study_in_one_file(
    models: bool, run_here: RunHere, ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = walk_study(more=", fault: predicts")
    run_here(study)
    packed = ablate("export", "--bundle", *(["--models"] if models else []))
    assert packed.stdout == "exports/walk.zip\n"
    opened = ablate("import", "exports/walk.zip", "--home", "there")
    assert (opened.returncode, opened.stdout) == (0, f"walk: in {tmp_path}/there/walk\n")
    assert recorded(ablate, "--home", "there") == recorded(ablate)
    here, there = files_of_trials(tmp_path / "runs"), files_of_trials(tmp_path / "there")
    assert there == {name: content for name, content in here.items() if models or "predictions" in name}
    assert run_here(study, home="there")["complete"] == 8


def test_a_bundle_goes_from_sqlite_to_a_server_and_back(
    run_here: RunHere, ablate: Ablate, walk_study: WalkStudy, postgres: PostgresServer, tmp_path: Path
) -> None:
    run_here(walk_study(more=", fault: predicts"), limit=5)
    storage = {"ABLATE_STORAGE": postgres.new_database()}
    first = recorded(ablate)
    ablate("export", "--bundle", "--out", "first.zip")
    assert ablate("import", "first.zip", "--home", "server", **storage).returncode == 0
    assert (
        ablate("export", "walk", "--bundle", "--out", "second.zip", "--home", "server", **storage).returncode
        == 0
    )
    assert ablate("import", "second.zip", "--home", "back").returncode == 0
    assert recorded(ablate, "--home", "back") == first


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not a zip", "is not a bundle"),
        ({"other.txt": "x"}, "is not a bundle"),
        ({"study.json": "[]"}, "is not a bundle"),
        ({"study.json": '{"schema_version": 1, "ablate": "0.1.0"}'}, "its study.json is damaged"),
        (
            {"study.json": '{"schema_version": 99, "ablate": "9.9"}'},
            "written by ablate 9.9, whose tables have version 99",
        ),
        (None, "no such file"),
    ],
)
def test_a_file_that_is_no_bundle_is_refused(content: Any, said: str, ablate: Ablate, tmp_path: Path) -> None:
    file = tmp_path / "bundle.zip"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        with zipfile.ZipFile(file, "w") as packed:
            for name, text in content.items():
                packed.writestr(name, text)
    refused = ablate("import", "bundle.zip")
    assert (refused.returncode, said in refused.stderr, "Traceback" in refused.stderr) == (2, True, False)
    assert not (tmp_path / "runs").exists()


# How the rows of a bundle can be damaged, and what is said of it.
DAMAGE: list[tuple[Callable[[Any], object], str]] = [
    (lambda content: content["parts"][0].pop("facts"), "KeyError: 'facts'"),
    (lambda content: content["parts"][0].update(metrics={"dev/position": "high"}), "TypeError"),
    (lambda content: content["trials"][0].update(state="DONE"), "'DONE' is not a state"),
    (lambda content: content["trials"][0].update(started="yesterday"), "ValueError"),
    (lambda content: content["trials"].append(content["trials"][0]), "is damaged"),
    (lambda content: content["cells"].clear(), "is damaged"),
    (lambda content: content["points"].append({"part": None}), "KeyError"),
    (lambda content: content["looks"].append({"number": 1}), "is damaged"),
    (lambda content: content["study"].pop("folder"), "is damaged"),
    (lambda content: content["cells"][0].update(cell="../../../evil"), "'../../../evil' is not a hash"),
    (lambda content: content["parts"][0].update(part="../../../evil"), "'../../../evil' is not a hash"),
]


@pytest.mark.parametrize(("damage", "said"), DAMAGE)
def test_of_a_damaged_bundle_nothing_is_written(
    damage: Callable[[Any], object], said: str, bundle: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(bundle) as packed:
        content = json.loads(packed.read("study.json"))
    damage(content)
    with zipfile.ZipFile(tmp_path / "damaged.zip", "w") as packed:
        packed.writestr("study.json", json.dumps(content))
    with pytest.raises(BadInput) as refused:
        unpack(tmp_path / "damaged.zip", tmp_path / "runs", None)
    assert said in str(refused.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "names", [["trials/012345678901-1/a", "trials/012345678901-1/a/b"], ["trials/012345678901-1/a"] * 2]
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_bundle_whose_files_cannot_lie_side_by_side_is_refused(
    names: list[str], bundle: Path, tmp_path: Path
) -> None:
    shutil.copy(bundle, tmp_path / "odd.zip")
    with zipfile.ZipFile(tmp_path / "odd.zip", "a") as packed:
        for name in names:
            packed.writestr(name, "x")
    with pytest.raises(BadInput, match="which does not belong in a bundle"):
        unpack(tmp_path / "odd.zip", tmp_path / "runs", None)


def test_a_bundle_with_one_changed_byte_in_a_file_is_refused(bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle) as packed, zipfile.ZipFile(tmp_path / "odd.zip", "w") as changed:
        changed.writestr("study.json", packed.read("study.json"))
        changed.writestr("trials/012345678901-1/a", "some text")
    data = (tmp_path / "odd.zip").read_bytes()
    (tmp_path / "odd.zip").write_bytes(data.replace(b"some text", b"some test"))
    with pytest.raises(BadInput, match="'trials/012345678901-1/a' is damaged"):
        unpack(tmp_path / "odd.zip", tmp_path / "runs", None)
    assert not (tmp_path / "runs").exists()


def test_an_encrypted_zip_is_no_bundle(ablate: Ablate, tmp_path: Path) -> None:
    file = tmp_path / "bundle.zip"
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("study.json", "{}")
    data = bytearray(file.read_bytes())
    # Bit 0 of the flags, in the file's own header and in the directory at the end.
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(data)
    refused = ablate("import", "bundle.zip")
    assert (refused.returncode, "is not a bundle" in refused.stderr, "Traceback" in refused.stderr) == (
        2,
        True,
        False,
    )


@pytest.mark.parametrize("name", ["../evil.txt", "trials/../../evil.txt", "/evil.txt", "trials/evil.txt"])
def test_a_bundle_writes_nowhere_but_into_its_study(
    name: str, run_here: RunHere, ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    run_here(walk_study(), limit=1)
    ablate("export", "--bundle", "--out", "walk.zip")
    with zipfile.ZipFile(tmp_path / "walk.zip", "a") as packed:
        packed.writestr(name, "evil")
    refused = ablate("import", "walk.zip", "--home", "there")
    assert (refused.returncode, "which does not belong in a bundle" in refused.stderr) == (2, True)
    assert not list(tmp_path.rglob("evil.txt"))
    assert not (tmp_path / "there").exists()


@pytest.mark.slow
def test_a_study_is_imported_once(run_here: RunHere, ablate: Ablate, walk_study: WalkStudy) -> None:
    run_here(walk_study(), limit=1)
    ablate("export", "--bundle", "--out", "walk.zip")
    refused = ablate("import", "walk.zip")
    assert (refused.returncode, "already exists" in refused.stderr) == (2, True)


def test_another_database_takes_no_folder_of_a_study(
    run_here: RunHere, ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    """Neither by a run nor by an import, whichever of the two databases is the study.db beside the files."""
    study = walk_study()
    there = ["--storage", f"sqlite:///{tmp_path}/there.db"]
    run_here(study, limit=2, home="here")
    run_here(study, limit=2, home="elsewhere", storage=there[1])
    ablate("export", "walk", "--home", "here", "--bundle", "--out", "walk.zip")
    before = sorted(tmp_path.glob("*/walk/**/*"))
    third = ["--storage", f"sqlite:///{tmp_path}/third.db"]
    for home, words, said in (
        ("here", there, None),
        ("here", third, "whose results are in the study.db beside them; leave out --storage"),
        ("elsewhere", third, "whose results are in another database; set ABLATE_STORAGE"),
        ("elsewhere", [], "whose results are in another database; set ABLATE_STORAGE"),
    ):
        for command in (["import", "walk.zip"], ["run", study]):
            refused = ablate(*command, "--home", home, *words)
            assert refused.returncode == 2
            assert (said or "walk") in refused.stderr
    assert "set ABLATE_STORAGE" in ablate("status", "walk", "--home", "elsewhere").stderr
    refused = ablate("merge", "elsewhere", "here")
    assert (refused.returncode, "only SQLite files are merged" in refused.stderr) == (2, True)
    other = walk_study()
    other.write_text(other.read_text().replace("study: walk", "study: other"))
    run_here(other, limit=1, home="elsewhere")
    refused = ablate("merge", "elsewhere", "here")
    assert (refused.returncode, "whose results are in another database" in refused.stderr) == (2, True)
    assert not (tmp_path / "third.db").exists()
    assert sorted(tmp_path.glob("*/walk/**/*")) == before


def test_a_smoke_run_is_in_the_way_of_nothing(
    run_here: RunHere, ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study, small = walk_study(seeds="[1]"), tmp_path / "small.yaml"
    for home, steps in (("a", "steps=5"), ("b", "steps=6")):
        run_here(study, home=home, limit=1)
        run_here(study, home=home, smoke=True, overrides=[steps])
    assert ablate("status", "--home", "a").stdout.startswith("walk: 4 trials")
    assert ablate("merge", "a", "b").stdout == "walk: 0 trials and 0 trained parts added, 1 trial in both\n"
    # Its results are never taken for those of a study with its name.
    small.write_text(study.read_text().replace("study: walk", "study: walk-smoke"))
    document = run_here(small, home="a", limit=1)
    assert (document["complete"], document["waiting"]) == (1, 3)
    ablate("export", "walk-smoke", "--home", "a", "--bundle", "--out", "small.zip")
    assert ablate("import", "small.zip", "--home", "b").returncode == 0
    assert run_here(small, home="b", limit=0)["complete"] == 1
    # Nor does one beside a server.
    server = f"sqlite:///{tmp_path}/server.db"
    run_here(study, home="c", smoke=True)
    assert run_here(study, home="c", smoke=True, storage=server)["complete"] == 4


def test_a_study_is_deleted_in_its_own_folder_only(
    run_here: RunHere, ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    run_here(walk_study(), limit=2)
    other = f"sqlite:///{tmp_path}/other.db"
    run_here(walk_study(), limit=2, home="elsewhere", storage=other)
    refused = ablate("delete", "walk", "--yes", "--storage", other)
    assert refused.returncode == 2
    assert "is not where the files of 'walk' are" in refused.stderr
    assert json.loads(ablate("status", "--json").stdout)["complete"] == 2


def test_a_bundle_has_tracebacks_and_export_names_what_is_gone(
    run_here: RunHere, ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    trials = run_here(with_fault(walk_study(seeds="[1]"), "error"))["trials"]
    numbers = {trial["state"]: trial["number"] for trial in trials}
    part = json.loads(ablate("show", numbers["COMPLETE"], "--json").stdout)["parts"][0]
    shutil.rmtree(part["folder"])
    exported = ablate("export", "--bundle", "--out", "walk.zip")
    assert f"{part['folder']}: is gone" in exported.stderr
    ablate("import", "walk.zip", "--home", "there")
    assert (
        "RuntimeError"
        in json.loads(ablate("show", numbers["FAIL"], "--json", "--home", "there").stdout)["traceback"]
    )


def test_a_home_is_not_merged_with_itself(run_here: RunHere, ablate: Ablate, walk_study: WalkStudy) -> None:
    run_here(walk_study(seeds="[1]"))
    merged = ablate("merge", "runs", "./runs")
    assert merged.returncode == 2
    assert "is the same home as runs" in merged.stderr


def test_a_deleted_study_is_gone_and_can_be_run_anew(
    run_here: RunHere, ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = walk_study()
    run_here(study, limit=2)
    assert ablate("delete", "walk", "--yes").stdout == "walk: deleted\n"
    assert not (tmp_path / "runs" / "walk").exists()
    assert run_here(study)["complete"] == 8


def test_nothing_is_deleted_without_a_yes(run_here: RunHere, ablate: Ablate, walk_study: WalkStudy) -> None:
    run_here(walk_study(), limit=2)
    asked = ablate("delete", "walk")
    assert asked.returncode == 1
    assert asked.stderr.endswith("nothing was deleted; --yes deletes without asking\n")
    assert json.loads(ablate("status", "--json").stdout)["complete"] == 2


def test_one_study_of_a_server_is_deleted_and_the_others_stay(
    run_here: RunHere, ablate: Ablate, walk_study: WalkStudy, postgres: PostgresServer
) -> None:
    storage = postgres.new_database()
    run_here(walk_study(), limit=1, storage=storage)
    other = walk_study()
    other.write_text(other.read_text().replace("study: walk", "study: other"))
    run_here(other, limit=1, storage=storage)
    assert ablate("delete", "walk", "--yes", ABLATE_STORAGE=storage).returncode == 0
    assert json.loads(ablate("status", "--json", ABLATE_STORAGE=storage).stdout)["study"] == "other"


@pytest.fixture
def low_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a small file exceeds."""
    for name, bound in (("MOST_UNPACKED", 1 << 20), ("MOST_GROWTH", 1), ("MOST_DIRECTORY", 5000)):
        monkeypatch.setattr(bundle_bounds, name, bound)


def with_files(bundle: Path, file: Path, *contents: bytes, how: int = zipfile.ZIP_DEFLATED) -> Path:
    """Return a copy of a bundle that has more files, compressed in this way."""
    shutil.copy(bundle, file)
    with zipfile.ZipFile(file, "a", how) as packed:
        for number, content in enumerate(contents):
            packed.writestr(f"trials/012345678901-1/{number}", content)
    return file


@pytest.mark.usefixtures("low_bounds")
@pytest.mark.parametrize(
    ("contents", "how", "said"),
    [
        ([bytes(8 << 20)], zipfile.ZIP_DEFLATED, "would unpack to 8 MiB"),
        ([bytes(1 << 20)] * 8, zipfile.ZIP_DEFLATED, "would unpack to 8 MiB"),
        ([b""] * 200, zipfile.ZIP_DEFLATED, "lists more files than a study has"),
        ([bytes(1000)], zipfile.ZIP_LZMA, "compressed by another program"),
    ],
)
def test_a_bundle_larger_than_a_study_is_refused_before_it_is_unpacked(
    contents: list[bytes], how: int, said: str, bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=said):
        unpack(with_files(bundle, tmp_path / "bomb.zip", *contents, how=how), tmp_path / "runs", None)
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("low_bounds")
def test_a_file_larger_than_a_bundle_says_is_not_unpacked(bundle: Path, tmp_path: Path) -> None:
    bomb = with_files(bundle, tmp_path / "bomb.zip", bytes(8 << 20))
    data = bytearray(bomb.read_bytes())
    # The size in the directory.
    struct.pack_into("<L", data, data.rindex(b"PK\x01\x02") + 24, 10)
    bomb.write_bytes(data)
    with pytest.raises(BadInput, match="is damaged"):
        unpack(bomb, tmp_path / "runs", None)
    assert not (tmp_path / "runs").exists()


def test_a_zip64_directory_counts_too(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As of a file with more than 65,535 entries.
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 100)
    unpack(with_files(bundle, tmp_path / "large.zip", *[b""] * 200), tmp_path / "runs", None)
    monkeypatch.setattr(bundle_bounds, "MOST_DIRECTORY", 5000)
    with pytest.raises(BadInput, match="lists more files"):
        unpack(tmp_path / "large.zip", tmp_path / "again", None)


@pytest.fixture
def few_open_files() -> Iterator[int]:
    """Let this process open only so many files at a time, unless it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = max(map(int, os.listdir("/proc/self/fd"))) + 40
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    yield few
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_study_with_more_trials_than_files_may_be_open_can_be_deleted(
    run_here: RunHere, walk_study: WalkStudy, tmp_path: Path, few_open_files: int
) -> None:
    seeds = str(list(range(few_open_files)))
    run_here(walk_study(seeds=seeds), limit=0)
    delete_study(place_in(tmp_path / "runs", "walk"))
    assert not (tmp_path / "runs" / "walk").exists()


MOODY = """\
study: moody
trainer: moody
factors: {x: [1.0, 2.0]}
baseline: {x: 1.0}
design: full
seeds: [1, 2]
metric: {name: dev/x}
"""
MOODY_TRAINER = """\
import os
from pydantic import BaseModel
class Settings(BaseModel):
    x: float = 1.0
    lr: float = 0.1
def train(settings, context):
    if settings.x == 2 and os.environ.get("MOOD") == "bad":
        raise ValueError("the disk is odd")
    (context.workdir / "model.txt").write_text(str(settings.x))
    return {"dev/x": settings.x + context.seed / 100}
def test(settings, context):
    context.predictions("test", "x", ["a"], [1], [1])
    return {"test/x": float((context.workdir / "model.txt").read_text())}
"""


@pytest.fixture
def moody(tmp_path: Path) -> Path:
    """Write a study that fails for x=2 on a host in a bad mood."""
    (tmp_path / "moody.py").write_text(MOODY_TRAINER)
    (tmp_path / "moody.yaml").write_text(MOODY)
    return tmp_path / "moody.yaml"


@pytest.mark.parametrize(("first", "second", "added"), [("bad", "good", 2), ("good", "bad", 0)])
def test_a_result_of_either_home_replaces_a_failure_of_the_other(
    moody: Path, ablate: Ablate, first: str, second: str, added: int
) -> None:
    ablate("run", moody, "--home", "a", MOOD=first)
    ablate("run", moody, "--home", "b", MOOD=second)
    done = ablate("merge", "a", "b")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"moody: {added} trials and {added} trained parts added, 4 trials in both" in done.stdout
    assert {trial["state"] for trial in recorded(ablate, "--home", "a")[0]["trials"]} == {"COMPLETE"}


def test_a_merge_takes_tracebacks_along(moody: Path, ablate: Ablate) -> None:
    ablate("run", moody, "--home", "a", "--only", "x=1.0")
    ablate("run", moody, "--home", "b", MOOD="bad")
    assert ablate("merge", "a", "b").returncode == 0
    failed = [t for t in recorded(ablate, "--home", "a")[0]["trials"] if t["state"] == "FAIL"]
    assert len(failed) == 2
    shown = ablate("show", "moody", failed[0]["number"], "--home", "a").stdout
    assert 'raise ValueError("the disk is odd")' in shown


def test_scores_on_the_test_split_are_merged_with_their_use(
    moody: Path, ablate: Ablate, tmp_path: Path
) -> None:
    for home in ("a", "b"):
        ablate("run", moody, "--home", home)
    assert ablate("test", "moody", "--home", "b").returncode == 0
    assert ablate("merge", "a", "b").returncode == 0
    for home in ("a", "b"):
        metrics = [trial["metrics"] for trial in recorded(ablate, "--home", home)[0]["trials"]]
        assert sum("test/x" in found for found in metrics) == 2
        assert len(list(tmp_path.glob(f"{home}/moody/trials/*/predictions/test.x.csv"))) == 2


def test_seeds_added_after_results_in_either_home_stay_on_record(moody: Path, ablate: Ablate) -> None:
    moody.write_text(MOODY.replace("[1, 2]\nmetric", "[1]\nmetric"))
    ablate("run", moody, "--home", "b")
    moody.write_text(MOODY)
    ablate("run", moody, "--home", "b", "--extend")
    ablate("run", moody, "--home", "a", "--only", "x=1.0")
    assert ablate("merge", "a", "b").returncode == 0
    flags = recorded(ablate, "--home", "a")[1]["flags"]
    assert [flag["severity"] for flag in flags if flag["rule"] == "changed_after_results"] == ["stop"]


def test_homes_with_different_defaults_are_not_merged(moody: Path, ablate: Ablate, tmp_path: Path) -> None:
    ablate("run", moody, "--home", "a", "--only", "x=1.0")
    (tmp_path / "moody.py").write_text(MOODY_TRAINER.replace("lr: float = 0.1", "lr: float = 0.9"))
    ablate("run", moody, "--home", "b", "--only", "x=2.0")
    refused = ablate("merge", "a", "b")
    assert refused.returncode == 2
    assert "default of lr: 0.9, and 0.1 in" in refused.stderr


def test_a_worker_finds_the_trainer_beside_a_link_to_the_study_file(
    moody: Path, ablate: Ablate, tmp_path: Path
) -> None:
    for folder in ("real", "link"):
        (tmp_path / folder).mkdir()
    moody.rename(tmp_path / "real" / "moody.yaml")
    (tmp_path / "link" / "moody.yaml").symlink_to(tmp_path / "real" / "moody.yaml")
    (tmp_path / "moody.py").rename(tmp_path / "link" / "moody.py")
    assert ablate("run", "link/moody.yaml", "--limit", 1).returncode == 0
    done = ablate("worker", "link/moody.yaml")
    assert done.returncode == 0, done.stderr
    assert {trial["state"] for trial in recorded(ablate)[0]["trials"]} == {"COMPLETE"}


def test_another_design_after_results_is_on_record(
    walk_study: WalkStudy, run_here: RunHere, ablate: Ablate
) -> None:
    study = walk_study()
    full = study.read_text()
    study.write_text(full.replace("design: full", "design: one_at_a_time"))
    run_here(study)
    study.write_text(full)
    run_here(study, extend=True)
    (flag,) = [f for f in recorded(ablate)[1]["flags"] if f["rule"] == "changed_after_results"]
    assert flag["severity"] == "note"
    assert "design (before: one_at_a_time)" in flag["evidence"]


def test_a_failed_trial_of_a_smoke_run_names_the_smoke_run_and_its_own_log_only(
    moody: Path, ablate: Ablate
) -> None:
    for _ in range(2):
        ablate("run", moody, "--smoke", MOOD="bad")
    failed = next(t for t in recorded(ablate)[0]["trials"] if t["state"] == "FAIL")
    document = json.loads(ablate("show", "moody-smoke", failed["number"], "--json").stdout)
    assert document["again"] == f"ablate run {moody} --smoke"
    assert [Path(log).name for part in document["parts"] for log in part["logs"]] == ["attempt-1.log"]

"""What a trainer prints is in the log of its attempt, bounded, whoever is killed; `ablate logs` and `status` show it."""

import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Protocol

import pytest
from chaos import children
from conftest import TRAINERS
from fixture_types import Ablate, StartAblate, not_none
from test_runner_run import wait_for

from ablate.runner.logs import KEPT, new_log
from ablate.runner.logwriter import HEAD, TAIL

LOUD = """\
study: loud
trainer: loud
settings: {{{settings}}}
factors: {{what: [{what}]}}
baseline: {{what: words}}
design: full
seeds: {seeds}
metric: {{name: dev/x}}
"""


class Loud(Protocol):
    def __call__(self, what: str, seeds: str = "[1]", settings: str = "") -> Path: ...


@pytest.fixture
def loud(tmp_path: Path) -> Loud:
    """Write the loud study (see tests/trainers/loud.py): its baseline prints words, trial 1 or 2 something else."""

    def write(what: str, seeds: str = "[1]", settings: str = "") -> Path:
        shutil.copy(TRAINERS / "loud.py", tmp_path)
        path = tmp_path / "loud.yaml"
        path.write_text(LOUD.format(what=f"words, {what}", seeds=seeds, settings=settings))
        return path

    return write


def only(what: str) -> tuple[str, str]:
    return "--only", f"what={what}"


def logs(tmp_path: Path) -> list[Path]:
    return sorted(tmp_path.glob("runs/loud/logs/*/attempt-*.log"))


def number_of(ablate: Ablate, what: str) -> int:
    trials = json.loads(ablate("status", "loud", "--json").stdout)["trials"]
    return next(int(trial["number"]) for trial in trials if trial["factors"]["what"] == what)


def printed(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("[ablate]")]


def test_print_subprocesses_and_c_libraries_are_in_the_log_and_nowhere_else(
    ablate: Ablate, loud: Loud, tmp_path: Path
) -> None:
    done = ablate("run", loud("error"), *only("words"), "--json")
    assert json.loads(done.stdout)["complete"] == 1
    words = ["printed", "to stderr", "shell", "shell to stderr", "from C"]
    assert printed(logs(tmp_path)[0].read_text()) == words
    assert (tmp_path / "runs/loud/logs/worker-0.log").read_text() == ""
    assert printed(ablate("logs", "loud", number_of(ablate, "words")).stdout) == words


def test_a_log_names_its_part_its_trial_and_its_process(ablate: Ablate, loud: Loud, tmp_path: Path) -> None:
    ablate("run", loud("error"), *only("words"))
    first = logs(tmp_path)[0].read_text().splitlines()[0]
    assert re.fullmatch(
        r"\[ablate\] attempt 1 at part all with seed 1, for trial \d: \S+, process \d+, .* UTC", first
    )


@pytest.mark.slow
def test_a_log_keeps_its_beginning_and_its_end(ablate: Ablate, loud: Loud, tmp_path: Path) -> None:
    assert ablate("run", loud("gigabytes"), *only("gigabytes")).returncode == 0
    (log,) = logs(tmp_path)
    text = log.read_text()
    assert log.stat().st_size < HEAD + 2 * TAIL + 1000
    lines = printed(text)
    assert (lines[0], lines[-1]) == ("the first line", "the last line")
    (gap,) = re.findall(r"\n\[ablate\] (\d+) bytes are left out here\n", text)
    everything = text.index("the first line") + len("the first line\n") + 600_000 * 51 + len("the last line")
    assert int(gap) == everything - (log.stat().st_size - len(f"\n[ablate] {gap} bytes are left out here\n"))


def test_a_library_that_prints_while_it_holds_the_lock_does_not_stop_the_training(
    ablate: Ablate, loud: Loud, tmp_path: Path
) -> None:
    assert ablate("run", loud("held"), *only("held")).returncode == 0
    assert logs(tmp_path)[0].read_text().count("y" * 10_000) == 100


def test_each_attempt_of_a_killed_trial_has_a_log_to_the_last_byte(
    ablate: Ablate, loud: Loud, tmp_path: Path
) -> None:
    assert ablate("run", loud("killed"), *only("killed")).returncode == 1
    assert [printed(log.read_text()) for log in logs(tmp_path)] == [["a line", "half a li"]] * 3


def test_the_stack_of_a_crash_is_in_the_log(ablate: Ablate, loud: Loud, tmp_path: Path) -> None:
    ablate("run", loud("crash"), *only("crash"))
    assert "Segmentation fault" in logs(tmp_path)[0].read_text()
    assert "in crash" in logs(tmp_path)[0].read_text()


def test_the_last_words_are_in_the_log_even_if_its_writer_gets_no_time_before_the_worker_has_ended(
    ablate: Ablate, loud: Loud, tmp_path: Path
) -> None:
    ablate("run", loud("crash_unseen"), *only("crash_unseen"))
    for log in logs(tmp_path):
        wait_for(lambda log=log: "Segmentation fault" in log.read_text())  # type: ignore[misc]


@pytest.mark.slow
def test_logs_of_two_workers_do_not_mix(ablate: Ablate, loud: Loud, tmp_path: Path) -> None:
    ablate("run", loud("seeded", seeds="[1, 2, 3, 4]"), *only("seeded"), "--workers", 2)
    assert sorted({tuple(printed(log.read_text())) for log in logs(tmp_path)}) == [
        (f"seed {seed}",) * 2000 for seed in (1, 2, 3, 4)
    ]


@pytest.mark.slow
def test_the_log_of_a_shared_part_is_shown_for_every_trial(ablate: Ablate, loud: Loud) -> None:
    ablate("run", loud("unseen", settings="shared: true"))
    both = [ablate("logs", "loud", number).stdout for number in (0, 1)]
    assert ["from C" in text for text in both] == [True, True]
    assert sorted("red" in text for text in both) == [False, True]


@pytest.mark.slow
def test_a_process_left_behind_holds_nothing_up(ablate: Ablate, loud: Loud, tmp_path: Path) -> None:
    assert ablate("run", loud("left_behind"), *only("left_behind")).returncode == 0
    assert "printed beside a child" in logs(tmp_path)[0].read_text()


def test_nothing_that_a_terminal_obeys_is_shown(ablate: Ablate, loud: Loud) -> None:
    ablate("run", loud("unseen"), *only("unseen"))
    lines = printed(ablate("logs", number_of(ablate, "unseen")).stdout)
    assert lines == [r"red \x1b]0;title\x07  tab", "100 %", "bytes �\\x00 end"]


@pytest.mark.slow
def test_tail_shows_the_last_lines(ablate: Ablate, loud: Loud) -> None:
    ablate("run", loud("error"), *only("words"))
    number = number_of(ablate, "words")
    assert ablate("logs", "loud", number, "--tail", 2).stdout == "shell to stderr\nfrom C\n"
    assert ablate("logs", "loud", number, "--tail", 0).stdout == ""


def test_status_and_logs_show_how_a_trial_failed(ablate: Ablate, loud: Loud) -> None:
    done = ablate("run", loud("error"), *only("error"))
    assert "last line it printed: just before" in done.stdout
    number = number_of(ablate, "error")
    document = json.loads(ablate("status", "loud", "--json").stdout)
    assert {trial["number"]: trial["last_line"] for trial in document["trials"]}[number] == "just before"
    shown = ablate("logs", "loud", number)
    assert printed(shown.stdout) == ["just before"]
    assert shown.stderr.splitlines()[-1] == "RuntimeError: the trainer fell over"
    assert "ablate/runner" not in shown.stderr


def test_follow_shows_lines_as_they_come_until_the_trial_ends(
    ablate: Ablate, start_ablate: StartAblate, loud: Loud, tmp_path: Path
) -> None:
    run = start_ablate("run", loud("slow"), *only("slow"))
    wait_for(lambda: [log for log in logs(tmp_path) if "step 3" in log.read_text()])
    follow = start_ablate("logs", "loud", number_of(ablate, "slow"), "--follow", "--tail", 1)
    first = not_none(follow.stdout).readline()
    assert first.startswith("step")
    assert run.poll() is None
    rest, _ = follow.communicate()
    assert printed(first + rest)[-1] == "step 200"
    assert run.wait() == 0


@pytest.mark.slow
def test_what_a_trainer_prints_when_it_is_stopped_is_logged(
    start_ablate: StartAblate, loud: Loud, tmp_path: Path
) -> None:
    run = start_ablate("run", loud("slow"), *only("slow"))
    wait_for(lambda: [log for log in logs(tmp_path) if "step 3" in log.read_text()])
    run.send_signal(signal.SIGINT)
    assert run.wait() == 130
    assert printed(logs(tmp_path)[0].read_text())[-1] == "saving"


@pytest.mark.slow
def test_a_worker_of_ones_own_prints_it_too(ablate: Ablate, loud: Loud, tmp_path: Path) -> None:
    ablate("run", loud("error"), *only("error"))
    done = ablate("worker", "loud")
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert "from C" in lines
    assert "shell" in lines
    assert any(re.fullmatch(r"trial \d: dev/x 1 .*", line) for line in lines)
    assert "trial" not in logs(tmp_path)[-1].read_text().partition("\n")[2]


@pytest.mark.slow
def test_a_terminal_s_ctrl_c_reaches_a_worker_and_not_its_log(
    ablate: Ablate, start_ablate: StartAblate, loud: Loud, tmp_path: Path
) -> None:
    """A terminal signals the whole group."""
    ablate("run", loud("slow"), *only("words"))
    worker = start_ablate("worker", "loud")
    wait_for(lambda: [log for log in logs(tmp_path) if "step 3" in log.read_text()])
    for process in (worker.pid, *children(worker.pid)):
        os.kill(process, signal.SIGINT)
    assert worker.wait() == 130
    log = next(log for log in logs(tmp_path) if "step 3" in log.read_text())
    assert printed(log.read_text())[-1] == "saving"


def test_a_trial_that_has_not_started_has_no_log(ablate: Ablate, loud: Loud) -> None:
    ablate("run", loud("error"), *only("words"))
    done = ablate("logs", "loud", number_of(ablate, "error"))
    assert (done.returncode, done.stdout) == (0, "")
    assert "it has not started" in done.stderr


def test_the_oldest_logs_of_a_part_are_removed(tmp_path: Path) -> None:
    for _ in range(KEPT + 3):
        new_log(tmp_path, "a part")
    assert sorted(int(log.stem.partition("-")[2]) for log in tmp_path.iterdir()) == list(range(4, KEPT + 4))


@pytest.mark.parametrize("command", ["logs", "show"])
def test_a_trial_that_is_not_there_is_one_line_and_exit_2(command: str, ablate: Ablate, loud: Loud) -> None:
    ablate("run", loud("error"), "--limit", 1)
    for words in (["7"], ["loud", "x"], ["a", "b", "1"], []):
        done = ablate(command, *words)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)

"""Commands about one trial: show, logs, reproduce."""

import re
import time
from pathlib import Path
from typing import Annotated

import typer

from ablate.cli.options import Home, Json, Storage
from ablate.cli.printing import complain
from ablate.cli.printing import show as print_result
from ablate.errors import BadInput
from ablate.text import shown, without_codes

FOLLOW_S = 0.5

StudyAndTrial = Annotated[
    list[str],
    typer.Argument(
        metavar="[STUDY] TRIAL",
        help="A study file or the name of a study that has run, and a trial's number. [STUDY default: the only one]",
        show_default=False,
    ),
]


def show(words: StudyAndTrial, home: Home = None, storage: Storage = None, as_json: Json = False) -> None:
    """Show one trial in detail. Prints its settings, parts, attempts, files, versions and hardware, and why it failed.

    Example: ablate show quickstart 7
    """
    from ablate.runner.one_trial import find_trial, trial_document, trial_text
    from ablate.store.finding import find_study
    from ablate.store.reading import read_results

    study, number = _study_and_number(words)
    results = read_results(find_study(study, home, storage))
    document = trial_document(results, find_trial(results, number))
    print_result(document, trial_text(document), as_json)


def logs(
    words: StudyAndTrial,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep printing new lines until the trial ends.")
    ] = False,
    tail: Annotated[
        int | None, typer.Option(help="Print only this many of the last lines. [default: all]", min=0)
    ] = None,
    home: Home = None,
    storage: Storage = None,
) -> None:
    """Print the log of a trial, from all its attempts. For a failed trial, also prints the traceback.

    Example: ablate logs quickstart 7 --tail 50
    """
    from ablate.runner.logs import Reader, logs_of
    from ablate.runner.one_trial import UNFINISHED, find_trial, traceback_of
    from ablate.store.finding import find_study
    from ablate.store.reading import read_results

    study, number = _study_and_number(words)
    place = find_study(study, home, storage)
    reader = Reader()
    while True:
        results = read_results(place)
        trial = find_trial(results, number)
        ended = not follow or trial.state not in UNFINISHED
        there = logs_of(place, trial)
        lines = reader.new_lines(there, ended)
        for line in lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]:
            print(without_codes(line), flush=follow)
        if ended:
            break
        tail = None
        time.sleep(FOLLOW_S)
    if not there:
        complain(
            f"trial {number} has no log in {place.folder / 'logs'}: it has not started, or ran before logs were kept"
        )
    complain(*map(without_codes, traceback_of(results, trial).splitlines()))


def reproduce(
    words: StudyAndTrial, home: Home = None, storage: Storage = None, as_json: Json = False
) -> None:
    """Train a trial again and compare the results bit for bit. Uses a scratch home; compares metrics and predictions.

    Exit code 0: equal; 1: not. Example: ablate reproduce quickstart 7
    """
    from ablate.runner.one_trial import find_trial
    from ablate.runner.progress import Messages
    from ablate.runner.reproducing import reproduce as train_again
    from ablate.runner.reproducing import reproduced_text
    from ablate.store.finding import find_study, looks_like_path
    from ablate.store.reading import read_results

    study, number = _study_and_number(words)
    results = read_results(find_study(study, home, storage))
    folder = Path(study).parent if study and looks_like_path(study) else None
    code, document = train_again(results, find_trial(results, number), Messages(), folder)
    if document:
        print_result(document, reproduced_text(document), as_json)
    raise typer.Exit(code)


def _study_and_number(words: list[str]) -> tuple[str | None, int]:
    """Return the study that was typed, if one was, and the trial's number."""
    *studies, number = words
    if len(studies) > 1 or not re.fullmatch("[0-9]{1,100}", number):
        raise BadInput(
            f"TRIAL: found {shown(' '.join(words))}; write a trial's number, after the study if there are several"
        )
    return (studies[0] if studies else None), int(number)

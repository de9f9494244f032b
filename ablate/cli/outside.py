"""Commands for results from elsewhere: analyze, compare."""

from pathlib import Path
from typing import Annotated

import typer

from ablate.cli.options import (
    Decimal,
    Home,
    Json,
    SmallestEffect,
    Storage,
    assignments,
    names,
    warn_of_password,
)
from ablate.cli.printing import show, terminal_width
from ablate.errors import BadInput


def analyze(
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE|DATABASE",
            help="A results table with one row per run (CSV, TSV, JSONL), or an Optuna database (file or URL).",
        ),
    ],
    metric: Annotated[
        str | None,
        typer.Option(
            help="The metric's column, or one column per seed: a,b,c or 'acc_*'. "
            "For a study: value (the default), values.0, or a user attribute."
        ),
    ] = None,
    factors: Annotated[
        list[str],
        typer.Option(
            metavar="A,B,C",
            help="The columns that were varied; a name with commas in double quotes: '\"lr, max\",head'. For a study: all params "
            "that vary.",
            show_default=False,
        ),
    ] = [],
    block: Annotated[str | None, typer.Option(help="The column of seeds or other blocks.")] = None,
    study: Annotated[
        str | None,
        typer.Option(help="The study in the database. [default: the only one]", show_default=False),
    ] = None,
    baseline: Annotated[
        list[str], typer.Option(metavar="A=0,B=0", help="The level each factor is compared with.")
    ] = [],
    order: Annotated[
        str, typer.Option(help="auto, 1 (main effects), 2 (and two-way interactions) or full.")
    ] = "auto",
    goal: Annotated[
        str | None,
        typer.Option(help="maximize or minimize. [default: maximize; that of an Optuna study's objective]"),
    ] = None,
    smallest_effect: SmallestEffect = None,
    drop_missing: Annotated[bool, typer.Option(help="Leave out rows without the metric.")] = False,
    unit: Annotated[
        str,
        typer.Option(
            help="run: average the rows of one combination and block. row: treat every row as a run."
        ),
    ] = "run",
    decimal: Decimal = None,
    as_json: Json = False,
) -> None:
    """Run the report's statistics on a table or an Optuna study. Prints effects, intervals, ANOVA and verdicts.

    Example: ablate analyze runs.csv --metric accuracy --factors head,lr --block seed

    An Optuna study: ablate analyze optuna.db --study tuning --block seed
    """
    from ablate.report.as_json import to_json
    from ablate.report.outside.question import Question
    from ablate.report.render.terminal import analysis_text
    from ablate.tables import SQLITE, read_bytes

    varied = names("--factors", ",".join(factors)) if factors else None
    levels = assignments("--baseline", ",".join(baseline))
    is_database = "://" in table or read_bytes(Path(table), len(SQLITE)) == SQLITE
    question = Question(
        metric or "", varied, block, levels, order, drop_missing, smallest_effect, goal, unit, decimal
    )
    if is_database or study is not None:
        # Imported here, since a database library takes a while to load.
        from ablate.report.outside.analyze_study import analyze_study

        warn_of_password("DATABASE", table, "PGPASSWORD")
        analysis = analyze_study(table, study, question)
    else:
        from ablate.report.outside.analyze import analyze_table

        analysis = analyze_table(Path(table), question)
    show(to_json(analysis), analysis_text(analysis, terminal_width()), as_json)


def compare(
    studies: Annotated[
        list[str],
        typer.Argument(
            metavar="[STUDY_A STUDY_B]",
            help="Two studies that have run, instead of files.",
            show_default=False,
        ),
    ] = [],
    gold: Annotated[Path | None, typer.Option(help="Labels: CSV or JSONL with id and label.")] = None,
    a: Annotated[
        list[Path], typer.Option("--a", help="Predictions of A, with id and prediction. One file per seed.")
    ] = [],
    b: Annotated[
        list[Path], typer.Option("--b", help="Predictions of B, same seeds in the same order.")
    ] = [],
    metric: Annotated[str | None, typer.Option(help="accuracy or pearson.")] = None,
    correct: Annotated[
        bool,
        typer.Option(
            "--correct",
            help="Predictions are given as correct or not (0/1, true/false, or a score in between); no gold needed.",
        ),
    ] = False,
    cluster: Annotated[
        str | None,
        typer.Option(help="The column that groups dependent items, in the gold or in all prediction files."),
    ] = None,
    id_key: Annotated[
        str, typer.Option(metavar="KEY", help="Column with the ids, or a dotted key such as doc.id.")
    ] = "id",
    prediction_key: Annotated[
        str, typer.Option(metavar="KEY", help="Column with the predictions.")
    ] = "prediction",
    label_key: Annotated[str, typer.Option(metavar="KEY", help="Column with the gold's labels.")] = "label",
    correct_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Column with the scores; implies --correct. [default: correct]"),
    ] = None,
    smallest_effect: SmallestEffect = None,
    decimal: Decimal = None,
    only_a: Annotated[
        list[str],
        typer.Option(
            "--only-a",
            metavar="FACTOR=LEVEL",
            help="The cell of STUDY_A. May be repeated. [default: its reference: the baseline, or the full model of a "
            "leave_one_out study. With neither --only-a nor --only-b: the reference if both studies have the same one, otherwise "
            "the only cell that both have]",
            show_default=False,
        ),
    ] = [],
    only_b: Annotated[
        list[str],
        typer.Option(
            "--only-b",
            metavar="FACTOR=LEVEL",
            help="The cell of STUDY_B. May be repeated. [default: its reference: the baseline, or the full model of a "
            "leave_one_out study. With neither --only-a nor --only-b: the reference if both studies have the same one, otherwise "
            "the only cell that both have]",
            show_default=False,
        ),
    ] = [],
    home: Home = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Compare two sets of predictions, or two studies. The output is B minus A; studies are compared by one cell of each.

    Example: ablate compare --gold dev.csv --a base1.csv --a base2.csv --b new1.csv --b new2.csv --metric accuracy

    Two studies: ablate compare old_code new_code --only-a baseline --only-b baseline

    Logs of an evaluation harness: ablate compare --a old.jsonl --b new.jsonl --id-key doc_id --correct-key acc
    """
    from ablate.report.as_json import to_json
    from ablate.report.render.terminal import comparison_text

    if studies:
        options = {"gold": gold, "a": a, "b": b, "metric": metric, "correct": correct, "cluster": cluster}
        options |= {"correct-key": correct_key, "decimal": decimal}
        keys = {"id": id_key, "prediction": prediction_key, "label": label_key}
        options |= {f"{name}-key": key != name for name, key in keys.items()}
        file_options = [f"--{name}" for name, value in options.items() if value]
        file_options += ["--smallest-effect"] if smallest_effect is not None else []
        if file_options:
            raise BadInput(
                f"found {', '.join(studies)} beside {', '.join(file_options)}; for files, write --a or --b before each "
                "(--a base1.csv --a base2.csv); for two studies, leave these out: their study files say what is compared"
            )
        if len(studies) != 2:
            raise BadInput(f"compare takes two studies; found {', '.join(studies)}")
        from ablate.report.outside.compare_studies import compare_studies
        from ablate.store.finding import find_study
        from ablate.store.reading import read_results

        results_a, results_b = [read_results(find_study(name, home, storage)) for name in studies]
        compared = compare_studies(results_a, results_b, only_a, only_b)
        return show(to_json(compared), comparison_text(compared, terminal_width()), as_json)
    from ablate.report.outside.compare import compare_files
    from ablate.report.outside.prediction_files import Keys

    comparison = compare_files(
        gold,
        a,
        b,
        metric,
        smallest_effect,
        keys=Keys(id_key, prediction_key, label_key, correct_key or "correct", cluster),
        correct=correct or correct_key is not None,
        decimal=decimal,
    )
    show(to_json(comparison), comparison_text(comparison, terminal_width()), as_json)
    return None

"""All benchmarks, as a page of tables: `make bench` writes docs/benchmarks.md. Takes about an hour on 2 cores.

    ABLATE_TEST_ASSETS=... python tests/benchmarks [--write docs] [--rounds 9] [--steps 300]

Each file runs in a process of its own; the page is written after each.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
PICTURE = "loss_curves.png"
INTRODUCTION = """\
# Benchmarks

Written by `make bench`. The file linked above each table explains its rows. Rows with quartiles come from rounds that alternate
between ours and the peer: they show the median of each side, and the median and quartiles of the rounds' ratios. Other rows were
measured once. A ratio is peer ÷ ours; for memory, the report and trials/s it is ours ÷ peer, and for the cost of surgery PCGrad ÷
none: in the rows "what surgery costs", both columns are ours, without surgery and with PCGrad. Goals apply to the ratio, those of
the overhead, of adding trials and of the report (≤ 50, ≤ 3, ≤ 10, ≤ 1024) to our own figure. For whole studies, all of ours ran
first, then all of theirs; in rows of metrics, ± is the standard deviation over seeds, the column `ratio` has the difference ours
− peer, and `quartiles` its p from Welch's t test. Joint steps of 2/32/2 have 2, 32 and 2 items of sentiment, paraphrase and
similarity.
"""


def sections(rounds: int, steps: int, folder: Path) -> list[tuple[str, list[str]]]:
    """Title, and the command that prints the table."""
    return [
        ("Optimizer steps and evaluation", ["training.py", f"--rounds={rounds}"]),
        ("Against a skilled engineer", ["skilled.py", f"--rounds={rounds}"]),
        ("Encoders", ["encoders.py", f"--rounds={rounds}"]),
        ("Memory", ["memory.py"]),
        ("Loss curves", ["curves.py", f"--steps={steps}", f"--picture={folder / PICTURE}"]),
        ("Start", ["startup.py", f"--rounds={rounds}"]),
        ("The store", ["store.py"]),
        ("The report", ["report.py"]),
        ("Whole studies", ["studies.py"]),
    ]


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--write", type=Path, help="a folder for benchmarks.md and its picture")
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--steps", type=int, default=300, help="of the loss curves")
    options.add_argument("--only", nargs="*", help="names of files here, without .py")
    args = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench") as nowhere:
        folder = (args.write or Path(nowhere)).resolve()
        folder.mkdir(exist_ok=True)
        page = [INTRODUCTION, hardware()]
        for title, command in sections(args.rounds, args.steps, folder):
            name = command[0]
            if args.only and name.removesuffix(".py") not in args.only:
                continue
            page.append(f"\n## {title}\n\n[{name}](../tests/benchmarks/{name})\n")
            print(page[-1], flush=True)
            for line in table(command):
                print(line, flush=True)
                page.append(line)
            if name == "curves.py":
                page.append(f"\n![training losses of both, step by step]({PICTURE})")
            (folder / "benchmarks.md").write_text("\n".join(page) + "\n", encoding="utf-8")


def table(command: list[str]) -> Iterator[str]:
    """Run a file here, and yield the lines of its table as they come."""
    with subprocess.Popen([sys.executable, *command], cwd=HERE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield from (line.rstrip() for line in process.stdout if line.startswith("|"))
    if process.returncode:
        sys.exit(f"{command[0]} failed")


def hardware() -> str:
    """The machine and the versions, in a line each."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    found = Path("/proc/cpuinfo")
    names = {
        line.split(":")[1].strip()
        for line in (found.read_text().splitlines() if found.exists() else [])
        if line.startswith("model name")
    }
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "optuna", "torchjd"))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=HERE
    ).stdout.strip()
    text = (
        "CS224N's text, MiniLM-L6-H384"
        if os.environ.get("ABLATE_TEST_ASSETS")
        else "the built-in corpus, MiniLM-L6-H384"
    )
    return (
        f"{' / '.join(names) or platform.processor()}, {os.cpu_count()} cores, {gpu}; {text}; {date.today()}, {commit}  \n"
        f"python {platform.python_version()}, {versions}"
    )


if __name__ == "__main__":
    main()

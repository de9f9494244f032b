"""What a command costs before it does anything, beside `import torch`.

python tests/benchmarks/startup.py [--rounds 9]
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from measure import HEADER, Row, ratios, row, seconds

FULL_GRID = str(Path(__file__).parents[2] / "studies/full_grid.yaml")


def rows(rounds: int) -> Iterator[Row]:
    """Measure, and yield each row."""
    torch = [sys.executable, "-c", "import torch"]
    ablate = [sys.executable, "-m", "ablate"]
    for what, command in (("--help", ["--help"]), ("plan studies/full_grid.yaml", ["plan", FULL_GRID])):
        took = [(_run([*ablate, *command]), _run(torch)) for _ in range(rounds)]
        ours, theirs = ([side[at] for side in took] for at in (0, 1))
        yield row(f"`ablate {what}`, against `import torch`", ours, theirs, ratios(ours, theirs), "≥ 4", "s")


def _run(command: list[str]) -> float:
    return seconds(lambda: subprocess.run(command, check=True, capture_output=True))


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=9)
    print(HEADER, *rows(options.parse_args().rounds), sep="\n")


if __name__ == "__main__":
    main()

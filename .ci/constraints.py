"""Write constraints.txt: the newest versions, agreeing with each other, of every package in a developer's environment.

pip resolves them in a fresh environment and installs none. A local version, such as `+cpu` of torch, is left out."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILE = ROOT / "constraints.txt"


def main() -> None:
    """Resolve, and replace the file."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip, report = f"{folder}/bin/pip", f"{folder}/report.json"
        # A newer pip resolves faster.
        subprocess.run([pip, "install", "--quiet", "--upgrade", "pip"], check=True)
        resolve = [
            pip,
            "install",
            "--quiet",
            "--dry-run",
            "--ignore-installed",
            "--report",
            report,
            f"{ROOT}[dev]",
        ]
        subprocess.run(resolve, check=True)
        found = json.loads(Path(report).read_text())["install"]
    pins = {one["metadata"]["name"]: one["metadata"]["version"].partition("+")[0] for one in found}
    pins.pop("ablate-studies")
    heading = FILE.read_text().splitlines()[0]
    lines = sorted((f"{name}=={version}" for name, version in pins.items()), key=str.lower)
    FILE.write_text("\n".join([heading, *lines]) + "\n")


if __name__ == "__main__":
    main()

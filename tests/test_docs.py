"""The documentation does what it says: its files, commands and Python blocks run in order, page by page, in an empty folder.

A fence with `title="NAME"` is a file, with `title="NAME (add at the end)"` its end. In `console` fences, lines that begin with
`$` are commands; what follows them is only shown. A command ends with exit code 0, or as its comment `# exit code N` says.
`<!-- not run: REASON -->` above a fence says why it cannot run here; of such commands, those of ablate are parsed."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fixture_types import Ablate, WalkStudy
from ruamel.yaml import YAML
from typer.core import TyperGroup
from typer.main import get_command
from warm_cli import WarmCommandLine

from ablate.cli.app import app

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
FENCE = re.compile(
    r'^(?:<!-- not run: (?P<why>[^\n]+) -->\n)?```(?P<language>\w+)(?: title="(?P<title>.+?)")?\n(?P<text>.*?)^```$',
    re.DOTALL | re.MULTILINE,
)
AT_THE_END = " (add at the end)"
LANGUAGES = {"console", "python", "yaml", "csv", "bash", "ini", "text"}
# How many fences cannot run here.
NOT_RUN = {
    "README": 2,
    "CONTRIBUTING": 1,
    "index": 1,
    "tutorial": 1,
    "aws": 7,
    "check": 1,
    "code": 1,
    "csv": 1,
    "kubernetes": 2,
    "postgresql": 1,
    "ray": 1,
    "slurm": 2,
    "your_training_code": 1,
}
# They take long, and what they show is also tried elsewhere.
SLOW = {
    "agents",
    "csv",
    "moving",
    "notebooks",
    "own_trainer",
    "postgresql",
    "ray",
    "slurm",
    "statistics_for_reviewers",
    "tutorial",
}


@dataclass(frozen=True)
class Block:
    language: str
    title: str | None
    text: str
    why_not_run: str | None

    def commands(self) -> list[str]:
        """Return the commands of a console, each on one line."""
        text = self.text.replace("\\\n", " ")
        return [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]


def blocks(page: Path) -> list[Block]:
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [Block(m["language"], m["title"], m["text"], m["why"]) for m in found]


def named(page: Path) -> str:
    return page.stem


def runnable() -> Iterator[object]:
    for page in PAGES:
        if any(not block.why_not_run and block.language in ("console", "python") for block in blocks(page)):
            marks = [pytest.mark.slow] if page.stem in SLOW else []
            yield pytest.param(page, id=page.stem, marks=marks)


@pytest.mark.parametrize("page", [*runnable()])
def test_what_a_page_says_can_be_typed_in_order(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    warm_command_line: WarmCommandLine,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    for name in ("studies", "docs", "docker"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "my_trainer.py").symlink_to(ROOT / "studies/my_trainer.py")
    if "$ export ABLATE_STORAGE" in page.read_text():
        monkeypatch.setenv("ABLATE_STORAGE", request.getfixturevalue("postgres").new_database())
    for block in blocks(page):
        if block.why_not_run:
            continue
        if block.title:
            write(block, tmp_path)
        elif block.language == "python":
            (tmp_path / "block.py").write_text(block.text)
            done = subprocess.run([sys.executable, "block.py"], cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        elif block.language == "console":
            for command in block.commands():
                run(command, tmp_path, warm_command_line)


def write(block: Block, folder: Path) -> None:
    assert block.title
    file = folder / block.title.removesuffix(AT_THE_END)
    before = file.read_text() if block.title.endswith(AT_THE_END) else ""
    file.write_text(before + block.text)


def run(command: str, folder: Path, warm: WarmCommandLine) -> None:
    words = shlex.split(command, comments=True)
    expected = re.search(r"# exit code (\d+)", command)
    if words[0] == "export":
        assert words[1].startswith("ABLATE_STORAGE="), (
            "the server is that of the tests; nothing else can be set"
        )
        return
    if words[0] == "ablate":
        done = warm.run(words[1:], folder, {})
    else:
        done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == (int(expected[1]) if expected else 0), f"{command}: {done.stdout}{done.stderr}"


def test_no_fence_is_left_out_of_the_tests_without_a_reason() -> None:
    not_run = Counter(page.stem for page in PAGES for block in blocks(page) if block.why_not_run)
    assert not_run == NOT_RUN


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_fence_is_of_a_kind_that_the_tests_know(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES
    assert len(blocks(page)) == page.read_text().count("\n```") // 2


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_that_cannot_run_here_are_parsed(page: Path) -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    for block in blocks(page):
        for command in block.commands() if block.language == "console" else ():
            words = shlex.split(command, comments=True)
            if words[0] == "ablate":
                group.commands[words[1]].make_context(words[1], words[2:])


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_yaml_is_yaml(page: Path) -> None:
    for block in blocks(page):
        if block.language == "yaml":
            YAML(typ="safe").load(block.text)


@pytest.mark.parametrize("file", [*ROOT.glob("*.md"), ROOT / "llms.txt"], ids=named)
def test_links_of_the_repository_s_own_pages_lead_somewhere(file: Path) -> None:
    links = re.findall(r"\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)", file.read_text(encoding="utf-8"))
    targets = [(ROOT / path if path else file, anchor) for path, anchor in links]
    assert [
        path for path, anchor in targets if not path.exists() or (anchor and anchor not in anchors(path))
    ] == []


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w-]+", "", heading.lower().replace(" ", "-")) for heading in headings}


def test_the_documents_have_the_keys_that_the_page_for_programs_names(
    ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    page = (ROOT / "docs/agents.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (`[^|]+|one of [^|]+) \| ([^|]+) \|$", page, re.MULTILINE))
    study = walk_study()
    plan, status = (
        json.loads(ablate(*words, "--json").stdout) for words in (("plan", study), ("run", study))
    )
    report = json.loads(ablate("report", "walk", "--json").stdout)
    (tmp_path / "t.csv").write_text("a,seed,y\n0,1,0.5\n0,2,0.6\n1,1,0.7\n1,2,0.9\n")
    analysis = ablate("analyze", "t.csv", "--metric", "y", "--factors", "a", "--block", "seed", "--json")
    for number, name in enumerate(("x", "x2", "y", "y2")):
        (tmp_path / name).write_text(f"id,correct\n1,{int(name[0] == 'x')}\n2,1\n3,{number % 2}\n")
    one_file, two_files = (
        json.loads(ablate("compare", *words, "--correct", "--json").stdout)
        for words in (("--a", "x", "--b", "y"), ("--a", "x", "--a", "x2", "--b", "y", "--b", "y2"))
    )
    exported = ablate("export", "walk", "--out", "exported", "--json")
    bundle = ablate("export", "walk", "--bundle", "--out", "walk.zip", "--json")
    assert json.loads(bundle.stdout).keys() == {"study", "files"}
    (tmp_path / "other").mkdir()
    assert ablate("import", "walk.zip", "--home", "other").returncode == 0
    found = {
        "`analyze --json`": json.loads(analysis.stdout),
        "`show --json`": json.loads(ablate("show", "walk", "0", "--json").stdout),
        "`reproduce --json`": json.loads(ablate("reproduce", "walk", "0", "--json").stdout),
        "`merge --json`": json.loads(ablate("merge", "runs", "other", "--json").stdout),
        "`plan --json`": plan,
        "`run --json`, `status --json`": status,
        "one of `trials`": status["trials"][0],
        "`report --json`": report,
        "one of `effects` of `report`": report["effects"][0],
        "one of `flags`": report["flags"][0],
    }
    for name, document in found.items():
        named = keys_named(rows[name])
        assert named <= document.keys(), name
        assert "and more" in rows[name] or named == document.keys(), name
    assert keys_named(rows["`export --json`"].partition(";")[0]) == json.loads(exported.stdout).keys()
    always, _, sometimes = rows["`compare --json`, of files"].partition("; sometimes")
    assert one_file.keys() == keys_named(always) | {"only_a", "only_b"}
    assert two_files.keys() == keys_named(always) | {"deltas", "noise"}
    assert {"only_a", "only_b", "deltas", "noise"} < keys_named(sometimes)
    of_studies = json.loads(ablate("compare", "walk", "walk", "--json").stdout)
    assert of_studies.keys() - {"deltas"} == keys_named(always) | keys_named(
        rows["`compare --json`, of studies"]
    )


def keys_named(text: str) -> set[str]:
    """Return the keys in backquotes."""
    return set(re.findall(r"`(\w+)`", re.sub(r" \(`.*?\)", "", text)))


def test_llms_txt_names_every_page() -> None:
    text = (ROOT / "llms.txt").read_text(encoding="utf-8")
    left_out = {
        "docs/index.md",
        "docs/statistics_for_students.md",
        "docs/benchmarks.md",
        "docs/performance.md",
    }
    pages = {str(page.relative_to(ROOT)) for page in ROOT.glob("docs/**/*.md")}
    assert {page for page in pages - left_out if page not in text} == {"docs/reference/encoders.md"}

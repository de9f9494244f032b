"""The JSON Schema and the template: both say what the reader accepts."""

import json
import runpy
from pathlib import Path

import pytest
from fixture_types import not_none

from ablate.errors import BadInput
from ablate.spec.designs import KINDS
from ablate.spec.faults import Faults
from ablate.spec.model import StudySpec
from ablate.spec.reading import parse_study
from ablate.spec.schema import json_schema
from ablate.spec.template import EXTRA_FILES, init_study, write_study
from ablate.spec.yaml_tree import parse_tree, plain

STUDIES = Path(__file__).parent.parent / "studies"
DOCS = STUDIES.parent / "docs"
PAGES = runpy.run_path(str(DOCS / "reference.py"))["PAGES"]


def test_the_committed_schema_is_the_printed_one() -> None:
    assert json.loads((STUDIES / "study.schema.json").read_text()) == json_schema(), "run: make docs"


@pytest.mark.parametrize("page", PAGES)
def test_the_committed_reference_page_is_the_generated_one(page: str) -> None:
    assert (DOCS / "reference" / page).read_text() == PAGES[page](), "run: make docs"


def test_every_kind_of_design_has_a_section_of_the_reference_page() -> None:
    assert all(f"## `design: {{kind: {kind}}}`" in PAGES["study_file.md"]() for kind in KINDS)


def test_every_key_is_described() -> None:
    schema = json_schema()
    parts = [schema, *schema["definitions"].values()]
    keys = [key for part in parts for key in part["properties"].values() if "const" not in key]
    assert all(key.get("description") for key in keys)


def test_every_reference_has_a_definition() -> None:
    text = json.dumps(json_schema())
    used = {part.split('"')[0] for part in text.split("#/definitions/")[1:]}
    assert used == set(json_schema()["definitions"])


def faults_of_schema(text: str) -> list[str]:
    """Return what the schema refuses in a study, according to an independent validator."""
    jsonschema = pytest.importorskip("jsonschema", reason="an optional oracle, not a dependency")
    written = plain(not_none(parse_tree(text, Faults("x"))))
    return [error.message for error in jsonschema.Draft7Validator(json_schema()).iter_errors(written)]


TEXTS = {path.name: path.read_text() for path in [*STUDIES.glob("*.yaml"), *DOCS.glob("**/*.yaml")]}
TEXTS |= {f"init {template}": init_study("mine", template)["mine.yaml"] for template in EXTRA_FILES}


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_shipped_studies_and_templates_meet_the_schema(name: str) -> None:
    assert faults_of_schema(TEXTS[name]) == []


MINIMAL = """
study: s
trainer: t
factors: {a: [1, 2]}
baseline: {a: 1}
design: full
seeds: [1]
metric: {name: m}
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seeds: [1]", "seeds: [1]\nsede: 3"),
        ("seeds: [1]", ""),
        ("[1]", "three"),
        ("[1]", "['1']"),
        ("[1]", "[]"),
        ("[1]", "[1, 1]"),
        ("[1]", "{start: [1]}"),
        ("{a: [1, 2]}", "{}"),
        ("{a: [1, 2]}", "null"),
        ("[1, 2]", "[1]"),
        ("[1, 2]", "[1, [2]]"),
        ("full", "ful"),
        ("full", "{kind: ful}"),
        ("full", "{kind: full, cells: 4}"),
        ("{name: m}", "m"),
        ("{name: m}", "{name: m, goal: up}"),
        ("{name: m}", "{name: m, wurst: 0}"),
        ("study: s", "study: a/b"),
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(old: str, new: str) -> None:
    assert faults_of_schema(MINIMAL) == []
    wrong = MINIMAL.replace(old, new)
    assert faults_of_schema(wrong)
    with pytest.raises(BadInput):
        parse_study(wrong)


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_studies_name_the_schema_and_the_command(path: Path) -> None:
    first, *rest = path.read_text().splitlines()
    assert first == "# yaml-language-server: $schema=study.schema.json"
    header = "\n".join(line for line in rest if line.startswith("#"))
    assert "Takes" in header or "trials" in header
    assert f"ablate run studies/{path.name}" in header


@pytest.mark.parametrize("name", ["my_study", "2024", "1e5", "true", "a.b-c", "9" * 64])
def test_the_template_is_a_study_of_that_name(name: str) -> None:
    spec = parse_study(init_study(name)[f"{name}.yaml"])
    assert isinstance(spec, StudySpec)
    assert spec.study == name


@pytest.mark.parametrize("name", ["", "..", ".x", "-x", "a/b", "x" * 65, "a b", "{name}"])
def test_a_name_that_cannot_be_a_folder_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="cannot name a study"):
        init_study(name)


def test_init_writes_a_file_that_reads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "ablate plan heads.yaml" in write_study("heads")
    assert {"heads.yaml": (tmp_path / "heads.yaml").read_text()} == init_study("heads")


def test_init_leaves_an_existing_file_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("precious")
    with pytest.raises(BadInput, match="already exists"):
        write_study("mine")
    assert (tmp_path / "mine.yaml").read_text() == "precious"


def test_init_writes_all_files_of_a_template_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train_mine.py").write_text("precious")
    with pytest.raises(BadInput, match=r"train_mine\.py: already exists"):
        write_study("mine", template="script")
    assert [file.name for file in tmp_path.iterdir()] == ["train_mine.py"]

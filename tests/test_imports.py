"""Who imports whom: no module is reached again from what it imports, imports inside functions included."""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

PACKAGE = Path(__file__).parents[1] / "ablate"
DOORS = {PACKAGE / room / "__init__.py" for room in (".", "cli", "command", "trainer")}


def in_order(package: str) -> list[str]:
    """Return the modules of `package`, each behind those that it imports anywhere in its file."""
    graph = grimp.build_graph(package, cache_dir=None)
    imported = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    return list(TopologicalSorter(imported).static_order())


def test_no_imports_go_round_in_a_circle() -> None:
    assert len(in_order("ablate")) > 100


def test_a_circle_through_a_function_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "circle").mkdir()
    (tmp_path / "circle" / "__init__.py").write_text('"""Two modules."""\n')
    (tmp_path / "circle" / "one.py").write_text("from circle import two\n")
    (tmp_path / "circle" / "two.py").write_text("def late():\n    from circle.one import two\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(CycleError, match=r"circle\.one"):
        in_order("circle")


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("__init__.py")), ids=lambda file: file.parent.name)
def test_a_package_is_no_more_than_its_docstring_unless_it_is_a_door(file: Path) -> None:
    body = ast.parse(file.read_text()).body
    assert file in DOORS or [type(part) for part in body] == [ast.Expr]

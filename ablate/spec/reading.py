"""Read a study file: from YAML text to a frozen `StudySpec`, every fault reported at its place in the file.

Does not import the trainer; `ablate.design` checks whether the settings exist."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ablate.errors import BadInput
from ablate.spec import cross_checks
from ablate.spec.addresses import check_address, leaves, replace
from ablate.spec.as_yaml import as_yaml
from ablate.spec.faults import Faults
from ablate.spec.file_text import read_text
from ablate.spec.model import StudySpec
from ablate.spec.places import Places, places_of, report
from ablate.spec.rules import Errors
from ablate.spec.scalars import resolve
from ablate.spec.seeds import AddedSeeds
from ablate.spec.study_file import StudyFile
from ablate.spec.yaml_tree import MappingNode, Node, ScalarNode, kind, parse_tree, plain

REQUIRED = [name for name, key in StudyFile.model_fields.items() if key.is_required()]


def read_study(study: Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> StudySpec:
    """Return a study.

    Args:
        study: The path of a YAML 1.2 file, or a mapping with the same keys and plain values.
        overrides: The arguments of `--set`, each `key=value`: a dotted setting and a YAML scalar or flow collection.

    Raises:
        BadInput: every fault of the file and the overrides, `file:line:column: key: what is wrong; how to fix it`.
    """
    if isinstance(study, Path):
        return parse_study(read_text(study), study, overrides)
    faults = Faults("study")
    text = as_yaml(study, faults)
    faults.stop_if_any()
    return parse_study(text, None, overrides)


def parse_study(text: str, path: Path | None = None, overrides: Sequence[str] = ()) -> StudySpec:
    """Return the study in `text`. Faults name `path`, and relative paths start there.

    Raises:
        BadInput: as in `read_study`.
    """
    faults = Faults(str(path) if path else "study")
    root = parse_tree(text, faults)
    if not isinstance(root, MappingNode):
        _report_no_mapping(root, faults)
        raise AssertionError("a file without a mapping is a fault")
    written, places = plain(root), places_of(root)
    # Filled with the valid keys, which are then checked against each other even if others are wrong.
    valid: dict[str, Any] = {}
    try:
        StudyFile.model_validate(written, context=valid)
    except ValidationError as error:
        report(error.errors(include_url=False), root, faults)
    valid.setdefault("settings", {})
    overridden = _override(valid["settings"], overrides, places, faults)
    try:
        with Errors() as errors:
            _check_together(valid, written, text, overridden, errors, faults)
    except ValidationError as error:
        report(error.errors(include_url=False), root, faults)
    faults.stop_if_any()
    if isinstance(seeds := valid["seeds"], AddedSeeds):
        valid |= {"seeds": seeds.seeds, "looking": seeds.looking}
    return StudySpec(**valid, path=path, places=places, overrides=tuple(overrides))


def _report_no_mapping(root: Node | None, faults: Faults) -> None:
    keys = "a study is a mapping with the keys " + ", ".join(REQUIRED)
    if root is None or (isinstance(root, ScalarNode) and root.value is None):
        faults.add((1, 1), "", f"the file is empty; {keys}")
    elif type(root) is not Node:
        faults.add(root.place, "", f"found {kind(root)}; write `key: value` lines: {keys}")
    faults.stop_if_any()


def _check_together(
    valid: dict[str, Any],
    written: dict[str, Any],
    text: str,
    overridden: Mapping[str, str],
    errors: Errors,
    faults: Faults,
) -> None:
    """Check the valid keys against each other, and spell levels as their factors do."""
    cross_checks.check_search(valid.get("design"), valid.get("seeds"), errors)
    names = written.get("factors")
    refused = set(map(str, names) if isinstance(names, dict) else ()) - {
        factor.name for factor in valid.get("factors", ())
    }
    factors = (
        cross_checks.check_conditions(valid["factors"], text, errors)
        if "factors" in valid and not refused
        else None
    )
    if factors is not None:
        cross_checks.check_settings_apart(valid["settings"], factors, overridden, errors, faults)
        valid["factors"] = factors
    for key in ("baseline", "best"):
        if key in valid and "factors" in valid:
            known = {factor.name: factor for factor in valid["factors"]}
            chosen = cross_checks.check_choice(key, valid[key], known, refused, text, errors)
            if key == "baseline" and factors is not None:
                cross_checks.check_baseline_complete(valid[key], chosen, factors, errors)
            if key == "best" and factors is not None:
                cross_checks.check_best_exists(chosen, factors, errors)
            valid[key] = chosen


def _override(
    settings: dict[str, Any], arguments: Sequence[str], places: Places, faults: Faults
) -> dict[str, str]:
    """Apply the `--set` arguments to `settings`; return address -> argument."""
    overridden: dict[str, str] = {}
    for argument in arguments:
        address, equals, text = argument.partition("=")
        try:
            if not equals:
                raise ValueError("no '='; write --set key=value, e.g. --set epochs=1")
            check_address(address)
            value = _typed(text)
            if not replace(settings, address, value):
                raise ValueError(f"a part of {address} is a value, not a mapping; set that part")
        except BadInput as error:
            for message in error.faults:
                faults.add((0, 0), f"--set {argument}", message.partition(": ")[2])
        except ValueError as error:
            faults.add((0, 0), f"--set {argument}", str(error))
        else:
            overridden[address] = argument
            inner = leaves(value, f"settings.{address}.") if isinstance(value, dict) else ()
            places.update(dict.fromkeys([f"settings.{address}", *inner], (0, 0)))
    return overridden


def _typed(text: str) -> Any:
    """Return the value of `text`: YAML if it starts with a bracket or a quote, otherwise one plain scalar.

    A plain scalar may contain ': ' and ' #', which YAML would read as a mapping and a comment.

    Raises:
        BadInput: it is not valid YAML.
        ValueError: it is a number that cannot be stored.
    """
    if text.strip()[:1] not in ("{", "[", '"', "'"):
        return resolve(text.strip())
    faults = Faults("--set")
    node = parse_tree(text, faults)
    faults.stop_if_any()
    return plain(node) if node is not None else None

"""A study file, read: from YAML text to a frozen `StudySpec`, every fault of the file named at its place.

Reads one small file and writes nothing. Knows no trainer: `ablate.design` says whether a setting exists."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablate.errors import BadInput
from ablate.spec import checks, fields, looking
from ablate.spec.addresses import leaves, put, replace
from ablate.spec.factors import Places, check_address, read_factors
from ablate.spec.faults import Faults
from ablate.spec.fields import Field, expected
from ablate.spec.model import Factor, Scalar, StudySpec
from ablate.spec.text import read_text
from ablate.spec.yaml_tree import MappingNode, Node, ScalarNode, parse_tree, plain, resolve

KEYS = (
    "study",
    "question",
    "trainer",
    "settings",
    "factors",
    "baseline",
    "best",
    "design",
    "seeds",
    "metric",
    "budget",
    "checkpoint_seconds",
    "hang_minutes",
)
REQUIRED = {  # with an example of what to add
    "study": "study: my_study",
    "trainer": "trainer: ablate.trainer",
    "factors": "factors: {l2: [0.0, 0.01]}",
    "baseline": "baseline: {l2: 0.0}",
    "design": "design: one_at_a_time",
    "seeds": "seeds: [11, 22, 33]",
    "metric": "metric: {name: dev/mean, goal: maximize}",
}


def read_study(path: Path, overrides: Sequence[str] = ()) -> StudySpec:
    """Return the study in the file at `path`.

    Args:
        path: A YAML 1.2 file.
        overrides: `key=value` each: a dotted setting and a YAML scalar or flow collection, for `settings`.

    Raises:
        BadInput: every fault of the file and the overrides, `file:line:column: key: what; what would do`.
    """
    return parse_study(read_text(path), path, overrides)


def parse_study(text: str, path: Path | None = None, overrides: Sequence[str] = ()) -> StudySpec:
    """Return the study in `text`; `path` is what faults name and relative paths start from.

    Raises:
        BadInput: as `read_study`.
    """
    faults = Faults(str(path) if path else "study")
    root = parse_tree(text, faults)
    if not isinstance(root, MappingNode):
        _report_no_mapping(root, faults)
        raise AssertionError("a file without a mapping is a fault")
    values = _Reader(faults).values(root, overrides)
    faults.stop_if_any()
    return StudySpec(**values, path=path)


def _report_no_mapping(root: Node | None, faults: Faults) -> None:
    keys = "a study is a mapping with the keys " + ", ".join(REQUIRED)
    if root is None or (isinstance(root, ScalarNode) and root.value is None):
        faults.add((1, 1), "", f"the file is empty; {keys}")
    else:
        expected(root, f"`key: value` lines: {keys}", faults)
    faults.stop_if_any()


class _Reader:
    """Reads the top-level keys; what is missing or at fault becomes None and a fault."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.places: Places = {}

    def values(self, root: MappingNode, overrides: Sequence[str]) -> dict[str, Any]:
        found = fields.fields(root, KEYS, self.faults)
        for key in (key for key in REQUIRED if key not in found):
            self.faults.add(root.place, key, f"missing; add e.g. {REQUIRED[key]}")
        self.places.update((key, name.place) for key, (name, _) in found.items())
        values = {
            "study": self.one(found, "study", fields.study_name),
            "question": self.question(found),
            "trainer": self.one(found, "trainer", fields.trainer_name),
            "metric": self.one(found, "metric", fields.metric),
            "budget": self.one(found, "budget", fields.budget),
            "checkpoint_seconds": self.one(found, "checkpoint_seconds", fields.positive),
            "hang_minutes": self.one(found, "hang_minutes", fields.positive),
        }
        if "seeds" in found:
            values.update(looking.seeds(found["seeds"][1], self.faults))
        if "design" in found:
            values.update(fields.design(found["design"][1], self.faults))
            checks.check_fresh_seeds(
                found["design"][1], values.get("search"), values.get("seeds"), self.faults
            )
            if "seeds" in found:
                checks.check_no_looks(
                    found["seeds"][1], values.get("search"), values.get("looking"), self.faults
                )
        values["settings"], overridden = self.settings(found, overrides)
        values.update(self.factors(found, values["settings"], overridden))
        values["places"] = self.places
        return {key: value for key, value in values.items() if value is not None}

    def one(self, found: Mapping[str, Field], key: str, read: Any) -> Any:
        return read(found[key][1], self.faults) if key in found else None

    def question(self, found: Mapping[str, Field]) -> str | None:
        return fields.text(found["question"][1], "a sentence", self.faults) if "question" in found else None

    def settings(
        self, found: Mapping[str, Field], overrides: Sequence[str]
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the nested settings, and address -> argument of those that the command line gave."""
        nested: dict[str, Any] = {}
        if "settings" in found and not _is_null(found["settings"][1]):
            whole = fields.mapping(found["settings"][1], "a mapping from settings to values", self.faults)
            for key, value in whole.pairs if whole else ():
                if not check_address(key, self.faults):
                    continue
                if not put(nested, key.text, plain(value)):
                    self.faults.add(key.place, key.key, "overlaps a setting above; give each setting once")
                self.remember(f"settings.{key.text}", key, value)
        overridden: dict[str, str] = {}
        for argument in overrides:
            self.override(argument, nested, overridden)
        return nested, overridden

    def remember(self, key: str, name: ScalarNode, value: Node) -> None:
        self.places[key] = name.place
        if isinstance(value, MappingNode):
            for inner_name, inner in value.pairs:
                self.remember(f"{key}.{inner_name.text}", inner_name, inner)

    def override(self, argument: str, nested: dict[str, Any], overridden: dict[str, str]) -> None:
        address, equals, text = argument.partition("=")
        name = ScalarNode((0, 0), f"--set {argument}", address, address)
        if not equals:
            self.faults.add((0, 0), name.key, "no '='; write --set key=value, e.g. --set epochs=1")
        elif check_address(name, self.faults):
            before = len(self.faults)
            value = self.override_value(argument, text)
            if len(self.faults) > before:
                return
            if not replace(nested, address, value):
                self.faults.add(
                    (0, 0), name.key, f"a part of {address} is a value, not a mapping; set that part"
                )
            overridden[address] = argument
            inner = leaves(value, f"settings.{address}.") if isinstance(value, dict) else ()
            self.places.update(dict.fromkeys([f"settings.{address}", *inner], (0, 0)))

    def override_value(self, argument: str, text: str) -> Any:
        """Only what opens a bracket or a quote is YAML; the rest is one plain scalar, ': ' and ' #' too."""
        key = f"--set {argument}"
        if text.strip()[:1] not in ("{", "[", '"', "'"):
            try:
                return resolve(text.strip())
            except ValueError as error:
                self.faults.add((0, 0), key, str(error))
                return None
        inner = Faults("--set")
        try:
            node = parse_tree(text, inner)
            inner.stop_if_any()
        except BadInput as error:
            for fault in error.faults:
                self.faults.add((0, 0), key, fault.partition(": ")[2])
            return None
        return plain(node) if node is not None else None

    def factors(
        self, found: Mapping[str, Field], settings: Mapping[str, Any], overridden: Mapping[str, str]
    ) -> dict[str, Any]:
        if "factors" not in found:
            return {}
        node = found["factors"][1]
        before = len(self.faults)
        read = read_factors(node, self.faults, self.places)
        names = {key.text for key, _ in node.pairs} if isinstance(node, MappingNode) else set()
        sound = len(self.faults) == before and len(read) == len(names)
        checked = checks.check_conditions(read, self.faults) if sound else None
        if checked is not None:
            checks.check_settings_apart(settings, checked, overridden, self.faults)
        factors = tuple(one.factor for one in checked or read)
        refused = names - {factor.name for factor in factors}
        chosen = self.choices(found, {factor.name: factor for factor in factors}, refused)
        baseline = found["baseline"][1] if "baseline" in found else None
        if checked and isinstance(baseline, MappingNode):
            named = [name.text for name, _ in baseline.pairs]
            checks.check_baseline_complete(baseline, named, chosen["baseline"], factors, self.faults)
        return {"factors": factors, **chosen}

    def choices(
        self, found: Mapping[str, Field], factors: Mapping[str, Factor], refused: set[str]
    ) -> dict[str, dict[str, Scalar]]:
        chosen = {}
        for key in ("baseline", "best"):
            if key in found:
                chosen[key] = checks.read_choice(found[key][1], factors, refused, self.faults)
        return chosen


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.value is None

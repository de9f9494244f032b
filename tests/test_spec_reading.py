"""What a good study file says."""

import pytest

from ablate.errors import BadInput
from ablate.spec.designs import Fractional
from ablate.spec.model import Scalar, StudySpec
from ablate.spec.reading import parse_study
from ablate.spec.scalars import resolve

GOOD = """
study: good
trainer: my_trainer
settings:
  epochs: 3
  data: {sentiment: {hub: a/b}}
  data.similarity: {files: data/sts-{split}.csv}
factors:
  lr: [1e-5, 2e-5]
  batches:
    levels:
      paper: {batch_size.a: 2, batch_size.b: 32}
      even:  {batch_size.a: 16, batch_size.b: 16}
  surgery: {levels: [none, pcgrad], only_when: {batches: [paper, even]}}
  shuffle: [off, on, true, "true"]
  depth: {levels: {shallow: 2, deep: 12}}
baseline: {lr: 0.00001, batches: even, surgery: none, shuffle: true, depth: shallow}
design: {kind: fractional, cells: 32}
seeds: [0, 4294967295]
metric: {name: dev/loss, goal: minimize, smallest_effect: 1}
budget: {hours: 1.5}
"""


@pytest.fixture
def good() -> StudySpec:
    return parse_study(GOOD)


def factor_level_names(spec: StudySpec, name: str) -> list[Scalar]:
    return [level.name for level in spec.factor(name).levels]


def test_settings_nest_whether_dotted_or_not(good: StudySpec) -> None:
    data = {"sentiment": {"hub": "a/b"}, "similarity": {"files": "data/sts-{split}.csv"}}
    assert good.settings == {"epochs": 3, "data": data}


def test_a_listed_level_sets_the_factor_it_is_named_after(good: StudySpec) -> None:
    assert good.factor("lr").levels[0].settings == {"lr": 1e-5}


def test_a_named_level_sets_several_settings(good: StudySpec) -> None:
    assert good.factor("batches").levels[0].settings == {"batch_size.a": 2, "batch_size.b": 32}


def test_a_named_level_may_be_one_value_of_the_factors_own_setting(good: StudySpec) -> None:
    assert good.factor("depth").levels[1].settings == {"depth": 12}


def test_levels_keep_the_order_of_the_file(good: StudySpec) -> None:
    assert factor_level_names(good, "batches") == ["paper", "even"]


def test_off_is_text_and_true_is_not_the_text_true(good: StudySpec) -> None:
    assert factor_level_names(good, "shuffle") == ["off", "on", True, "true"]
    assert good.baseline["shuffle"] is True


def test_a_level_is_found_by_its_value_and_kept_as_the_factor_writes_it(good: StudySpec) -> None:
    assert good.baseline["lr"] == 1e-5


def test_a_condition_lists_its_levels(good: StudySpec) -> None:
    assert good.factor("surgery").only_when == {"batches": ("paper", "even")}


def test_a_lone_condition_is_a_list_of_one() -> None:
    spec = parse_study(GOOD.replace("{batches: [paper, even]}", "{batches: even}"))
    assert spec.factor("surgery").only_when == {"batches": ("even",)}


def test_a_design_has_a_kind_and_perhaps_a_size(good: StudySpec) -> None:
    assert good.design == Fractional(cells=32)


def test_what_is_left_out_has_defaults(good: StudySpec) -> None:
    assert (good.question, good.checkpoint_seconds, good.budget.usd_per_hour) == ("", 60.0, None)


def test_places_count_lines_and_columns_from_one(good: StudySpec) -> None:
    assert good.places["settings.epochs"] == (5, 3)
    assert good.places["factors.lr.levels[1]"] == (9, 14)
    assert good.places["factors.batches.levels[0].batch_size.b"] == (12, 32)


def test_a_place_that_is_not_in_the_file_is_the_one_around_it(good: StudySpec) -> None:
    assert good.place("settings.data.sentiment.hub.x") == "study:6:22"


def test_the_path_and_places_are_no_part_of_a_study() -> None:
    moved = parse_study("# moved down by a comment\n" + GOOD)
    assert moved.model_dump() == parse_study(GOOD).model_dump()


def test_zero_in_a_baseline_is_the_level_zero_point_zero() -> None:
    text = GOOD.replace("lr: [1e-5, 2e-5]", "lr: [0.0, 1]").replace("lr: 0.00001", "lr: 0")
    assert isinstance(parse_study(text).baseline["lr"], float)


def test_a_level_may_be_any_text() -> None:
    odd = "a|b $x$ <b> \\\\ 😀 ../"
    text = GOOD.replace("[none, pcgrad]", f'[none, "{odd}"]')
    assert factor_level_names(parse_study(text), "surgery")[1] == "a|b $x$ <b> \\ 😀 ../"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1.", 1.0),
        (".5", 0.5),
        ("0o10", 8),
        ("0x1F", 31),
        ("-7", -7),
        ("True", True),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("off", "off"),
        ("2026_01_01", "2026_01_01"),
        ("1_0", "1_0"),
        ("0e5", 0.0),
        ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"),
        ("nan", "nan"),
        ("1e", "1e"),
    ],
)
def test_scalars_follow_the_yaml_core_schema(text: str, value: bool | float | str | None) -> None:
    assert (resolve(text), type(resolve(text))) == (value, type(value))


@pytest.mark.parametrize(("text", "worst"), [("", None), (", worst: 0", 0.0), (", worst: -2.5", -2.5)])
def test_a_metric_may_say_the_worst_it_can_be(text: str, worst: float | None) -> None:
    spec = parse_study(GOOD.replace("smallest_effect: 1", "smallest_effect: 1" + text))
    assert spec.metric.worst == worst


@pytest.mark.parametrize("text", [".nan", "-.inf", "1e999", str(2**63), "9" * 10_000])
def test_a_number_that_is_not_finite_or_too_large_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"finite|64 bits"):
        resolve(text)


@pytest.mark.parametrize(
    "text", ["010", "007", "00", "-01", "1_000", "-1_000_000.5", "0b11", "0B1", "-0x1F", "+0o17", "0xFF_FF"]
)
def test_a_number_that_yaml_reads_otherwise_than_people_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="could be text or a number; write a plain number, or quote it"):
        resolve(text)


def test_a_number_too_small_to_be_told_from_0_is_refused() -> None:
    with pytest.raises(ValueError, match="1e-400 is too small to be told from 0"):
        resolve("1e-400")


def test_factors_that_never_meet_may_set_the_same() -> None:
    text = """
study: s
trainer: t
factors:
  training: [joint, separate]
  slow: {levels: {x: {lr: 1}, y: {lr: 2}}, only_when: {training: joint}}
  fast: {levels: {x: {lr: 8}, y: {lr: 9}}, only_when: {training: separate}}
baseline: {training: joint, slow: x}
design: full
seeds: [1]
metric: {name: m}
"""
    assert len(parse_study(text).factors) == 3
    with pytest.raises(BadInput, match="fast: sets lr, and so does factor slow"):
        parse_study(text.replace("{training: separate}", "{training: [joint, separate]}"))


def test_256_factors_are_read_and_257_refused() -> None:
    def text(n: int) -> str:
        factors = "\n".join(f"  f{i}: [0, 1]" for i in range(n))
        baseline = "\n".join(f"  f{i}: 0" for i in range(n))
        rest = "design: one_at_a_time\nseeds: [1]\nmetric: {name: m}"
        return f"study: s\ntrainer: t\nfactors:\n{factors}\nbaseline:\n{baseline}\n{rest}\n"

    assert len(parse_study(text(256)).factors) == 256
    with pytest.raises(BadInput, match="257 factors; a study has at most 256"):
        parse_study(text(257))

from typing import Any

import pytest

from ablate.text import (
    as_it_looks,
    closest,
    duration,
    listed,
    one_line,
    plural,
    printable,
    shortened,
    shown,
    sounds_like_a_loss,
    split_list,
    suggestion,
)


@pytest.mark.parametrize(
    ("typed", "items"),
    [
        ("a, b", ["a", "b"]),
        ('"lr, max",head', ["lr, max", "head"]),
        (' "a ""b"", c" , d ', ['a "b", c', "d"]),
        ('say "hi",5"', ['say "hi"', '5"']),
        ('"a,b', ['"a', "b"]),
        ("a,,b,", ["a", "", "b", ""]),
        ("", [""]),
    ],
)
def test_a_list_is_split_at_commas_outside_double_quotes(typed: str, items: list[str]) -> None:
    assert split_list(typed) == items


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain", "plain"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("right\u202eto left", "right\\u202eto left"),
        ("1\u202f000\u00a0€", "1\u202f000\u00a0€"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, safe: str) -> None:
    assert printable(text) == safe


def test_one_line_has_no_breaks_and_nothing_invisible() -> None:
    assert one_line(" two\nlines\t\u200bof\x1b text ") == "two lines of text"


def test_a_long_name_keeps_both_its_ends() -> None:
    assert shortened("abcdefghij" * 10, 12) == "abcdefg…ghij"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "nothing (null)"), (True, "true"), ("a'b\n", '"a\'b\\n"'), (1.5, "1.5"), (["\x1b"], "['\\x1b']")],
)
def test_a_value_is_shown_as_yaml_writes_it(value: Any, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    ("typed", "known", "advice"),
    [
        ("surgry", ["surgery", "seed"], "did you mean 'surgery'?"),
        ("x", ["alpha", 2], "known: alpha, 2"),
        ("x", [], "there are none"),
        (
            "x",
            [f"name{n}" for n in range(14)],
            f"known: {', '.join(f'name{n}' for n in range(12))} and 2 more",
        ),
    ],
)
def test_a_mistyped_name_gets_the_closest_or_all(typed: str, known: list[int | str], advice: str) -> None:
    assert suggestion(typed, known) == advice


def test_a_huge_typed_name_is_compared_at_once() -> None:
    assert closest("a" * 10_000_000, ["b"]) is None


def test_counts_and_lists_read_as_english() -> None:
    assert (plural(1, "seed"), plural(0, "seed")) == ("1 seed", "0 seeds")
    assert listed(range(6)) == "0, 1, 2, 3 and 2 more"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.4 s"),
        (89, "89 s"),
        (90, "1.5 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (1e6, "278 h"),
        (None, "–"),
    ],
)
def test_a_duration_is_short_and_has_its_unit(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("name", ["val_loss", "dev/loss", "loss", "error_rate", "dev/ppl", "eval_loss@last"])
def test_names_of_losses(name: str) -> None:
    assert sounds_like_a_loss(name)


@pytest.mark.parametrize("name", ["dev/accuracy", "lossless", "dev/f1", "terror", "werewolf"])
def test_names_that_only_contain_one(name: str) -> None:
    assert not sounds_like_a_loss(name)


def test_an_accent_a_space_and_what_is_invisible_make_no_difference_to_look_at() -> None:
    assert as_it_looks("cafe\u0301\u00a0a\u200b") == as_it_looks("caf\u00e9 a")
    assert as_it_looks("x²") != as_it_looks("x2")

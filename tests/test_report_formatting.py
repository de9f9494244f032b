import numpy as np
import pytest

from ablate.report import formatting
from ablate.report.document import Numbers
from ablate.report.plots.labels import plot_text
from ablate.report.render import escaping
from ablate.stats.inference import infer

HOSTILE = "a_b $x$ | <script>alert(1)</script> `c` *d* [e](f) 🚀\nnew line @user #1 " + "long " * 50


def test_markdown_keeps_a_table_row_whole() -> None:
    escaped = escaping.markdown(HOSTILE)
    assert "\n" not in escaped
    assert escaped.replace("\\|", "").count("|") == 0


@pytest.mark.parametrize("bare", ["<script", "[e](", "`c`", "*d*", "@user", " $x"])
def test_markdown_leaves_no_markup(bare: str) -> None:
    assert bare not in escaping.markdown(HOSTILE)


def test_markdown_keeps_every_character_of_a_long_name() -> None:
    assert escaping.markdown("x" * 300) == "x" * 300


def test_plot_text_escapes_math() -> None:
    assert plot_text("cost $5 to $9") == r"cost \$5 to \$9"


def test_plot_text_names_what_the_font_lacks() -> None:
    assert plot_text("🚀") == "[rocket]"


def test_distinct_tells_names_apart_that_shortening_made_equal() -> None:
    names = ["a" * 20 + middle + "b" * 20 for middle in "xyz"]
    assert len(set(formatting.distinct(names, plot_text, 12))) == 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.82041, "0.8204"),
        (12.345, "12.35"),
        (-0.5, "−0.5000"),
        (1.2e-6, "1.20e−06"),
        (None, "–"),
        (0.0, "0.0000"),
        (-0.0, "0.0000"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert formatting.number(value) == text


def test_a_number_has_the_digits_of_the_interval_beside_it() -> None:
    assert formatting.interval((-0.0004, -1.24e-5)) == "[−0.0004, −0.0000]"
    assert formatting.signed(1.32e-6, beside=(-0.0013, 0.0013)) == "+0.0000"
    assert formatting.interval((-1e-7, 3e-7)) == "[−1.00e−07, +3.00e−07]"


def test_a_difference_of_rounding_is_said_to_be_one_unless_the_metric_is_as_small() -> None:
    inference = infer(np.array([2.1e-8, 1.5e-8, 1.8e-8]))
    assert Numbers.of(inference, size=0.8).delta == "0 within rounding"
    assert Numbers.of(inference, size=1e-6).delta == "+1.80e−08"


@pytest.mark.parametrize(("df", "text"), [(1013.0, "1013"), (2.34, "2.3"), (None, "–")])
def test_df_text(df: float | None, text: str) -> None:
    assert formatting.df_text(df) == text


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0341, ".034"),
        (0.0004, "< .001"),
        (1.0, "1.000"),
        (0.0499, ".0499"),
        (0.0496, ".0496"),
        (0.05, ".050"),
        (None, "–"),
    ],
)
def test_p_text(p: float | None, text: str) -> None:
    assert formatting.p_text(p) == text


def test_a_long_word_may_break_in_latex() -> None:
    assert escaping.latex("a" * 25 + " b") == r"\allowbreak{}".join("a" * 25) + " b"


def test_code_fences_backticks() -> None:
    assert escaping.code("a `b` c`") == "`` a `b` c` ``"

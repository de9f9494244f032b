"""Numbers and names, formatted for readers."""

from collections.abc import Callable, Sequence

MINUS = "\N{MINUS SIGN}"


def number(value: float | None, digits: int = 4, beside: Sequence[float] = ()) -> str:
    """Return `0.8204`, `12.35`, `1.2e-06`; an en dash for None.

    `beside`: the numbers printed next to it, such as its interval. Next to larger numbers, 1.2e-06 is written `0.0000`.
    """
    if value is None:
        return "–"
    # Turns −0 into 0.
    value += 0.0
    magnitude = abs(value)
    largest = max([magnitude, *map(abs, beside)])
    if magnitude != 0 and (largest < 10.0**-digits or magnitude >= 1e6):
        text = f"{value:.2e}"
    else:
        text = f"{value:.{digits if magnitude < 10 else 2}f}"
    return text.replace("-", MINUS)


def signed(value: float | None, beside: Sequence[float] = ()) -> str:
    """Return `+0.0123` or `−0.0123`."""
    if value is None:
        return "–"
    return ("+" if value > 0 else "") + number(value, beside=beside)


def interval(bounds: tuple[float, float] | None, *, sign: bool = True, beside: Sequence[float] = ()) -> str:
    """Return `[−0.0012, +0.0251]`; an en dash for None."""
    if bounds is None:
        return "–"
    beside = (*bounds, *beside)
    low, high = (signed(bound, beside) if sign else number(bound, beside=beside) for bound in bounds)
    return f"[{low}, {high}]"


def p_text(p: float | None) -> str:
    """Return `.034`, `< .001`, `.0499` (not `.050`, which is not below .05); an en dash for None."""
    if p is None:
        return "–"
    if p < 0.001:
        return "< .001"
    digits = next(
        digits for digits in range(3, 17) if (round(p, digits) < 0.05) == (p < 0.05) or digits == 16
    )
    return f"{p:.{digits}f}".removeprefix("0")


def p_equation(p: float) -> str:
    """Return `p = .034` or `p < .001`."""
    return f"p {p_text(p)}" if p < 0.001 else f"p = {p_text(p)}"


def df_text(df: float | None) -> str:
    """Return `54`, `2.3`; an en dash for None."""
    return "–" if df is None else f"{df:.1f}".removesuffix(".0")


def distinct(names: list[str], shorten: Callable[[str, int], str], width: int) -> list[str]:
    """Return `names` shortened to `width`, numbered where shortening made two of them equal."""
    short = [shorten(name, width) for name in names]
    return [f"{s} ({place})" if short.count(s) > 1 else s for place, s in enumerate(short, 1)]


def safe_field(value: object) -> object:
    """Return text that a spreadsheet would run as a formula with an apostrophe before it; anything else as it is.

    Source: OWASP, "CSV Injection".
    """
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") and not _is_number(value):
        return "'" + value
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

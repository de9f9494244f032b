"""Fields that no spreadsheet takes for a formula."""


def safe_field(value: object) -> object:
    """Return texts that a spreadsheet would run as a formula with an apostrophe before them; numbers as they are.

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

"""How long a server that is too busy asks to be left alone."""

import datetime
import email.utils


def retry_after(value: str | None) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date (RFC 9110, section 10.2.3); 0 for none, or for what is neither."""
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            then = email.utils.parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return 0.0
        then = then if then.tzinfo else then.replace(tzinfo=datetime.UTC)
        seconds = (then - datetime.datetime.now(datetime.UTC)).total_seconds()
    return min(seconds, 1e9) if seconds > 0 else 0.0  # `nan` and dates gone by are no reason to wait

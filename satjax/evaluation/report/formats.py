"""Figures as the text that people read on a page; what is None is a dash."""

from typing import Any


def figure(value: float | None, scale: float = 1, digits: int = 4) -> str:
    """`value * scale` with a fixed number of digits after the point."""
    return "–" if value is None else f"{scale * value:.{digits}f}"


def spread(deviation: float | None, scale: float = 1, digits: int = 4) -> str:
    """A standard deviation as it stands behind a mean; nothing where there is none."""
    return "" if deviation is None else f" ± {figure(deviation, scale, digits)}"


def percent(value: float | None) -> str:
    """A share in percent, without the sign."""
    return figure(value, 100, 2)


def ends(low: float | None, high: float | None, scale: float = 1, digits: int = 3) -> str:
    """The ends of an interval in brackets; nothing where one is None."""
    return "" if low is None or high is None else f"[{scale * low:.{digits}f}, {scale * high:.{digits}f}]"


def gain(interval: dict[str, Any], scale: float = 100, digits: int = 2) -> str:
    """The mean of an interval of differences, with its sign; of shares in points."""
    return "–" if interval["mean"] is None else f"{scale * interval['mean']:+.{digits}f}"


def dollars(value: float) -> str:
    """US dollars with three digits that count."""
    return f"${value:#.3g}" if value < 99.95 else f"${value:,.0f}"

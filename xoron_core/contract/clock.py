"""Time as the contract writes it: RFC 3339, UTC, milliseconds."""

from datetime import UTC, datetime


def now() -> str:
    """The present moment, e.g. `2026-01-31T12:00:00.000Z`."""
    return format_time(datetime.now(UTC))


def format_time(moment: datetime) -> str:
    """`moment` (aware) in the contract's form."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """The aware moment that `text` names.

    Raises: ValueError when it is not RFC 3339.
    """
    return datetime.fromisoformat(text)

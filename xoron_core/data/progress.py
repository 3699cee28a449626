"""How far something long is."""


def nothing() -> None:
    """Nobody wants to know."""

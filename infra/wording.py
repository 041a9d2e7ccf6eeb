"""Words as people write them."""


def counted(number: int, noun: str) -> str:
    """`1 view`, `2 views`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

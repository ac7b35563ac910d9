"""Words that messages are made of."""


def counted(number: int, noun: str) -> str:
    """Return text such as "1 ECG" or "1,014 ECGs"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

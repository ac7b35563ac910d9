"""Words that messages are made of."""


def counted(number: int, noun: str) -> str:
    """Return text such as "1 ECG" or "1,014 ECGs"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """Return text such as "5 s", "1 min 54 s" or "3 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"

"""Words that messages are made of."""

from runtime.messages import counted, duration


def test_one_has_no_plural():
    assert [counted(number, "ECG") for number in (0, 1, 1014)] == ["0 ECGs", "1 ECG", "1,014 ECGs"]


def test_a_duration_has_two_units_at_most():
    assert [duration(seconds) for seconds in (4.6, 59.6, 114, 11_100)] == [
        "5 s",
        "1 min 0 s",
        "1 min 54 s",
        "3 h 5 min",
    ]

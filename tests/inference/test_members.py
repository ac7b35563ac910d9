"""What holds for models that score together."""

from inference.members import strictest

CHECKED = {"quality_checks": True, "max_flat_seconds": 5.0, "min_qrs_mv": 0.05, "max_qrs_mv": 20.0}


def test_an_ensemble_refuses_what_one_of_its_members_would_refuse():
    other = CHECKED | {"max_flat_seconds": 7.0, "min_qrs_mv": 0.1, "max_qrs_mv": 10.0}
    expected = CHECKED | {"min_qrs_mv": 0.1, "max_qrs_mv": 10.0}
    assert strictest([CHECKED, other]) == strictest([other, CHECKED]) == expected
    unchecked = other | {"quality_checks": False}
    assert strictest([unchecked, CHECKED]) == CHECKED
    assert strictest([unchecked, unchecked]) == unchecked
    assert strictest([{}, CHECKED]) == CHECKED and strictest([{}]) == {}  # {}: of the first versions
    assert strictest([{"quality_checks": True}, CHECKED]) == CHECKED

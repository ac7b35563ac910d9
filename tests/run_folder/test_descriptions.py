"""What ``model.json`` says of a finished model."""

from described_models import describe

from metrics.calibration import Calibration


def test_each_label_has_its_calibration():
    described = describe(calibration_slopes=[1.0, 1.5], calibration_intercepts=[0.0, -0.5])
    assert described.calibrations == [Calibration(1.0, 0.0), Calibration(1.5, -0.5)]


def test_the_policy_of_the_thresholds_is_said():
    assert describe(threshold_policy="youden").threshold_source == "Youden, from validation"

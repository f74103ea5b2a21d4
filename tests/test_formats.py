from satjax.evaluation.report.formats import dollars, ends, figure, gain, percent


def test_figures_as_text():
    assert (figure(0.12346), figure(0.12345, 100, 1), figure(None)) == ("0.1235", "12.3", "–")
    assert (percent(0.12345), percent(None)) == ("12.35", "–")
    assert (ends(0.1, 0.25), ends(-0.1, 0.25, 100, 1)) == ("[0.100, 0.250]", "[-10.0, 25.0]")
    assert ends(None, 0.1) == ends(0.1, None) == ""
    assert (gain({"mean": 0.021}), gain({"mean": -0.021}, 1, 3), gain({"mean": None})) == ("+2.10", "-0.021", "–")


def test_dollars_have_three_digits_that_count():
    assert [dollars(value) for value in (0.08123, 4.9912, 20.0, 99.94, 99.97, 1234.5)] == [
        "$0.0812",
        "$4.99",
        "$20.0",
        "$99.9",
        "$100",
        "$1,234",
    ]

"""The line of progress tells how fast it goes and when it will be done."""

from medmail_cli.ui.progress import Pace, clock, speed


def test_the_rate_is_that_of_late() -> None:
    pace = Pace()
    assert pace.rate(0.0, 0) is None
    assert pace.rate(1.0, 500) is None
    assert pace.rate(2.0, 1000) == 500
    for second in range(3, 60):
        rate = pace.rate(float(second), 1000 + 10 * second)
    assert rate is not None
    assert 9.9 < rate < 10.1
    # the next piece of work begins anew, and one that stands still has no end
    assert pace.rate(60.0, 1) is None
    assert pace.rate(70.0, 1) is None


def test_durations_and_rates_as_people_read_them() -> None:
    assert [clock(seconds) for seconds in (4.6, 61, 3599.7, 36_061)] == [
        "0:05",
        "1:01",
        "1:00:00",
        "10:01:01",
    ]
    assert [speed(rate) for rate in (0.05, 1.5, 2.0, 123.4)] == ["3/min", "90/min", "2/s", "123/s"]

import pytest

from pipeline.cli.corpus import _range


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (31.2, 44.8, "31 to 45 s"),
        (0.31, 0.42, "0.3 to 0.4 s"),
        (120.0, 181.0, "2 to 3 min"),
        (118.0, 122.0, "about 2 min"),
        (100.0, 130.0, "about 2 min"),
        (5000.0, 9000.0, "1 to 2 h"),
        (9000.0, 14000.0, "2 to 4 h"),
    ],
)
def test_a_range_is_in_one_unit(low, high, shown):
    assert _range(low, high) == shown

"""The reconstruction beside the round trip: the table, from numbers made up."""

from benchmarks.fidelity.reconstruction import HEAD, row


def test_a_row_says_what_is_lost_in_the_mean_and_at_most() -> None:
    cells = row([(34.0, 30.0, 33.5), (32.0, 31.0, 32.1)])
    assert cells == ["33.0", "30.5", "2.50", "4.00", "32.8", "0.20", "0.50"]
    assert len(HEAD) == 1 + len(cells)

"""Batches of rows of like length, computed by hand."""

from cai.core.batching import by_length, in_order


def test_batches_hold_like_lengths_and_no_more_than_their_tokens():
    assert list(by_length([0, 1, 2, 3, 4], [10, 50, 20, 50, 10], 100)) == [[1, 3], [2, 0, 4]]
    assert list(by_length([0, 1, 2], [10, 51, 51], 100)) == [[1], [2], [0]]
    assert list(by_length([2, 0], [150, 3, 120], 100)) == [[0], [2]]
    assert list(by_length([], [], 100)) == []


def test_little_padding_where_a_forward_pass_is_paid_by_the_token():
    lengths = [100, 95, 80, 40, 38]
    # 100 + 95 of 200 are 2.5% padding; with 80 it is 25 of 300, 8%; with 40 it would be 85 of 400, 21%.
    assert list(by_length(range(5), lengths, 1000, padding=0.1)) == [[0, 1, 2], [3, 4]]
    assert list(by_length(range(5), lengths, 1000)) == [[0, 1, 2, 3, 4]]


def test_batches_in_order_count_the_padding():
    # 3 rows of 30 are 90; with the row of 40 they would be 4 of 40, 160. 40 and 10 are 2 of 40; 120 goes alone.
    assert list(in_order(range(6), [30, 20, 30, 40, 10, 120], 100)) == [[0, 1, 2], [3, 4], [5]]
    assert list(in_order([4, 2], [9, 9, 60, 9, 50], 110)) == [[4], [2]]
    assert list(in_order([], [], 100)) == []

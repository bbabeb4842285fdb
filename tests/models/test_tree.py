"""Rows of shared sequences, by hand: which tokens are read, what each one sees, and which node predicts what."""

import pytest
import torch

from cai.models.engines.tree import Span, TreeRow, blocks, pack, tree_mask

# One question of two options and one of three; 1 2 3 begins both.
#        1 2 3 | 4 -> 5      1 2 3 | 4 -> 6      1 2 3 7 | 8 -> 9
SPANS = [Span((1, 2, 3, 4, 5), 3), Span((1, 2, 3, 4, 6), 3), Span((1, 2, 3, 7, 8, 9), 4)]


def test_a_row_holds_each_shared_token_once() -> None:
    (row,) = pack(SPANS, 100, 100)
    assert row.tokens == [1, 2, 3, 4, 7, 8]
    assert row.depths == [0, 1, 2, 3, 3, 4]
    assert row.ends == [6, 6, 6, 4, 6, 6]
    # 4 is predicted by node 2 (token 3), 5 and 6 by node 3 (token 4); 8 by node 4 (token 7), 9 by node 5 (token 8).
    assert row.asked == [(0, [2, 3]), (1, [2, 3]), (2, [4, 5])]
    assert row.predictors == [2, 3, 4, 5] and not row.plain


def test_a_token_sees_its_ancestors_and_itself_alone() -> None:
    mask_B1TT = tree_mask([*pack(SPANS, 100, 100), *pack([Span((1, 2, 3), 1)], 100, 100)], torch.float32)
    assert mask_B1TT.shape == (2, 1, 6, 6)
    assert set(mask_B1TT.unique().tolist()) == {0.0, torch.finfo(torch.float32).min}
    sees = (mask_B1TT == 0).int()[:, 0].tolist()
    assert sees[0] == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 0, 1, 0],  # 7 does not see 4, its neighbour
        [1, 1, 1, 0, 1, 1],
    ]
    # Two tokens, then padding that sees itself.
    assert sees[1] == [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], *([int(k == n) for k in range(6)] for n in range(2, 6))]


def test_branches_part_at_any_depth() -> None:
    #  1 2 3 4 | 5 and 1 2 3 | 9 part at 3; 1 2 8 parts at 2, deeper ones first or not
    spans = [Span((1, 2, 8, 8), 3), Span((1, 2, 3, 4, 5), 4), Span((1, 2, 3, 9, 9), 4)]
    (row,) = pack(spans, 100, 100)
    assert row.tokens == [1, 2, 3, 4, 9, 8]
    assert row.depths == [0, 1, 2, 3, 3, 2]
    assert row.ends == [6, 6, 5, 4, 5, 6]
    assert row.asked == [(1, [3]), (2, [4]), (0, [5])]


def test_equal_sequences_and_beginnings_of_others_cost_nothing() -> None:
    spans = [Span((1, 2, 3, 9), 3), Span((1, 2, 3, 8), 3), Span((1, 2, 7), 2), Span((1, 2, 3, 4, 5), 3)]
    for share in (True, False):
        (row,) = pack(spans, 100, 100, share=share)
        assert row.tokens == [1, 2, 3, 4] and row.plain
        assert dict(row.asked) == {0: [2], 1: [2], 2: [1], 3: [2, 3]}


def test_without_sharing_each_sequence_has_its_row() -> None:
    rows = pack(SPANS, 100, 100, share=False)
    assert [row.tokens for row in rows] == [[1, 2, 3, 4], [1, 2, 3, 7, 8]]
    assert [row.asked for row in rows] == [[(0, [2, 3]), (1, [2, 3])], [(2, [3, 4])]]
    assert all(row.plain for row in rows)


def span(shared: int, own: int, mark: int) -> Span:
    """`shared` tokens that are the same in all, `own` tokens that are not, and a token to predict."""
    return Span((*range(shared), *[1000 + mark] * own, 0), shared)


@pytest.mark.parametrize(
    ("shared", "own", "rows"),
    [(10, 30, 1), (10, 31, 2)],  # a quarter of 40 tokens are there already; of 41, less than a quarter
)
def test_a_row_begins_where_sharing_saves_little(shared: int, own: int, rows: int) -> None:
    assert len(pack([span(shared, own, 1), span(shared, own, 2)], 1000, 1000)) == rows


@pytest.mark.parametrize(
    ("row_tokens", "most", "widths"),
    [
        (1000, 1000, [50]),  # 10 + 4 x 10
        (45, 1000, [40, 20]),  # a fourth branch would make 50
        (5, 1000, [40, 20]),  # twice the first sequence of 20
        (5, 30, [30, 30]),  # but no more than 30
        (5, 5, [20, 20, 20, 20]),  # a sequence longer than that goes alone
    ],
)
def test_a_row_is_no_wider_than_it_may_be(row_tokens: int, most: int, widths: list[int]) -> None:
    rows = pack([span(10, 10, mark) for mark in range(4)], row_tokens, most)
    assert [len(row.tokens) for row in rows] == widths


def test_sequences_are_found_together_whatever_their_order() -> None:
    spans = [Span((first, 5, 5, 5, branch, 7), 5) for branch in (1, 2) for first in (1, 2, 3)]
    rows = pack(spans, 100, 100)
    assert [row.tokens for row in rows] == [[first, 5, 5, 5, 1, 2] for first in (1, 2, 3)]
    assert [sorted(index for index, _ in row.asked) for row in rows] == [[0, 3], [1, 4], [2, 5]]


def test_nothing_to_ask() -> None:
    assert pack([], 10, 10) == []
    assert TreeRow().plain


def test_a_block_of_queries_attends_to_what_they_see() -> None:
    (row,) = pack(SPANS, 100, 100)  # nodes 0 1 2, then 3, then 4 5
    assert blocks(row, 2) == [(0, 2, [0, 1]), (2, 4, [0, 1, 2, 3]), (4, 6, [0, 1, 2, 4, 5])]
    assert blocks(row, 4) == [(0, 4, [0, 1, 2, 3]), (4, 6, [0, 1, 2, 4, 5])]


def test_block_attention_is_the_attention_under_the_mask() -> None:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    from cai.models.engines.tree import block_attention

    rows = [*pack([span(70, 60, mark) for mark in range(6)], 1000, 1000), *pack([span(9, 5, 0)], 1000, 1000)]
    mask_B1TT = tree_mask(rows, torch.float32)
    width = 70 + 6 * 60
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, width, 8)  # (B, H, T, D) each
    plain = ALL_ATTENTION_FUNCTIONS["sdpa"]
    whole_BTHD, _ = plain(torch.nn.Module(), query, key, value, mask_B1TT)
    with block_attention(rows, mask_B1TT):
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is not plain
        parts_BTHD, _ = ALL_ATTENTION_FUNCTIONS["sdpa"](torch.nn.Module(), query, key, value, mask_B1TT)
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is plain
    assert torch.allclose(parts_BTHD[0], whole_BTHD[0], atol=1e-5)
    assert torch.allclose(parts_BTHD[1, :14], whole_BTHD[1, :14], atol=1e-5)
    assert not parts_BTHD[1, 14:].any()  # padding attends to nothing

"""A tree of drafts: how rows are found and cut."""

from engine.speculation.draft import ROOT, DraftTree

TREE = DraftTree(
    tokens=(7, 1, 2, 1, 3),
    parents=(ROOT, 0, 0, 1, 2),
    log_probs=(0.0, -0.1, -2.0, -2.5, -3.0),
    sources=((), ("a",), ("b",), ("a", "b"), ("b",)),
)


def test_a_row_is_found_by_its_parent_and_token() -> None:
    assert TREE.children == {(0, 1): 1, (0, 2): 2, (1, 1): 3, (2, 3): 4}


def test_the_first_rows_of_a_tree_are_a_tree() -> None:
    for n_nodes in range(TREE.n_nodes + 1):
        cut = TREE.cut(n_nodes)
        assert cut.n_nodes == n_nodes
        assert all(parent < row for row, parent in enumerate(cut.parents))


def test_plain_decoding_is_a_tree_of_one_node() -> None:
    assert TREE.cut(0) == DraftTree.of_root(7)
    assert DraftTree.of_root(7).children == {}

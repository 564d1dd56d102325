"""Blocks see exactly what they will see when they draft."""

import pytest

torch = pytest.importorskip("torch")

from engine.train.drafter import Blocks, Drafter, DrafterConfig, default_taps, visible  # noqa: E402

CONFIG = DrafterConfig(
    n_layer=2,
    n_embd=32,
    n_ff=64,
    n_head=4,
    n_kv=2,
    head_dim=8,
    rope_theta=1e4,
    rms_eps=1e-6,
    taps=(0, 1),
    mask_id=9,
)


def test_a_row_sees_the_context_before_its_anchor_and_its_own_block() -> None:
    mask = visible(Blocks(torch.tensor([[2, 4]]), 2), n_context=5)[0, 0]

    assert mask.int().tolist() == [
        [1, 1, 0, 0, 0, 1, 1, 0, 0],
        [1, 1, 0, 0, 0, 1, 1, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 1, 1],
        [1, 1, 1, 1, 0, 0, 0, 1, 1],
    ]


def test_a_block_among_others_is_the_block_alone() -> None:
    torch.manual_seed(0)
    drafter, table = Drafter(CONFIG), torch.randn(50, 32)
    features, ids = torch.randn(1, 20, 64), torch.randint(0, 50, (1, 20))

    together = drafter(features, table, ids, Blocks(torch.tensor([[3, 8, 15]]), 4))
    # Features at and after the anchor are cut off, so nothing there can be seen.
    alone = drafter(features[:, :8], table, ids, Blocks(torch.tensor([[8]]), 4))

    assert torch.allclose(together[:, 1], alone[:, 0], atol=1e-5)


def test_only_the_anchors_token_enters_a_block() -> None:
    torch.manual_seed(0)
    drafter, table = Drafter(CONFIG), torch.randn(50, 32)
    ids = torch.arange(20)[None]
    blocks = Blocks(torch.tensor([[5]]), 3)

    rows = drafter.block_input(table, ids, blocks)

    assert torch.equal(rows[0], table[[5, CONFIG.mask_id, CONFIG.mask_id]])


@pytest.mark.parametrize(
    ("n_layers", "taps"),
    [(24, (1, 6, 11, 16, 21)), (64, (1, 16, 31, 46, 61)), (36, (1, 9, 17, 25, 33))],
)
def test_taps_are_those_of_published_drafters(n_layers: int, taps: tuple[int, ...]) -> None:
    assert default_taps(n_layers) == taps

"""Generation is greedy decoding, and texts are cut where they end or loop."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from engine.train.generate import Generator, end_of_text, start_of_loop  # noqa: E402
from tests.engine.train.toy import toy_target  # noqa: E402


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_each_token_is_the_likeliest_after_those_before(tmp_path: Path, architecture: str) -> None:
    target = toy_target(tmp_path, architecture)
    prompts, lengths = torch.randint(0, 250, (3, 20)), torch.tensor([12, 20, 15])

    # 140 positions: more keys than one step of the cache's reads.
    texts = Generator(target, 4, 150).generate(prompts, lengths, lengths, 140)

    best = target.logits(texts.ids.long()).argmax(-1)
    for row, length in enumerate(lengths.tolist()):
        assert torch.equal(texts.ids[row, :length].long(), prompts[row, :length])
        assert torch.equal(texts.ids[row, length:].long(), best[row, length - 1 : -1])


def test_drawn_tokens_follow_the_models_distribution(tmp_path: Path) -> None:
    target = toy_target(tmp_path)
    prompts = torch.randint(0, 250, (1, 16)).expand(1000, -1)
    lengths = torch.full((1000,), 16)
    draws = torch.Generator().manual_seed(1)

    texts = Generator(target, 1000, 17).generate(prompts, lengths, lengths, 17, 0.7, draws)

    shares = torch.bincount(texts.ids[:, 16].long(), minlength=target.h.n_vocab) / 1000
    expected = (target.logits(prompts[:1])[0, -1] / 0.7).softmax(-1)
    assert (shares - expected).abs().max() < 5 * (0.25 / 1000) ** 0.5


def test_a_text_ends_after_its_first_end_token() -> None:
    ids = torch.tensor([[7, 1, 2, 7, 3], [1, 2, 3, 4, 5]])

    assert end_of_text(ids, torch.tensor([1, 1]), (7,)).tolist() == [4, 5]


def test_a_loop_begins_where_the_text_first_repeats_its_period() -> None:
    straight = torch.arange(120)
    looping = torch.cat((torch.arange(60), torch.arange(40, 48).repeat(8)[:60]))
    starts = torch.tensor([10, 10])

    # 40..47 stand at 60..67 for the first time since the prompt; from 68 on they only repeat.
    assert start_of_loop(torch.stack((straight, looping)), starts).tolist() == [120, 68]

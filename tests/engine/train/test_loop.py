"""A toy run learns, and a checkpoint is the whole state."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from engine.train.loop import Trainer  # noqa: E402
from tests.engine.train.toy import toy_target, toy_trainer  # noqa: E402


def mean_loss(trainer: Trainer) -> float:
    """Over blocks that are the same in every call."""
    draws = torch.Generator().manual_seed(5)
    with torch.no_grad():
        batches = [trainer.pools[0].draw(4, draws) for _ in range(8)]
        return float(torch.stack([trainer.loss(batch, 12) for batch in batches]).mean())


def test_the_loss_falls(tmp_path: Path) -> None:
    trainer = toy_trainer(toy_target(tmp_path))
    before = mean_loss(trainer)

    trainer.train(lambda row: None, max_steps=60)

    assert mean_loss(trainer) < 0.7 * before
    assert [row["step"] for row in trainer.progress.history] == [50]


def test_a_resumed_run_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    target, path = toy_target(tmp_path), tmp_path / "checkpoint.pt"
    trainer = toy_trainer(target)
    trainer.train(lambda row: None, max_steps=7)
    trainer.save(path)
    resumed = toy_trainer(target)
    resumed.load(path)
    resumed.pools = trainer.pools  # texts are generated anew; here both draw from the same

    for one in (trainer, resumed):
        one.pools[0].forget_uses()
        for _ in range(3):
            one.step(fraction=0.9)  # quantized by now

    assert resumed.progress.step == trainer.progress.step == 10
    for a, b in zip(trainer.drafter.parameters(), resumed.drafter.parameters(), strict=True):
        assert torch.equal(a, b)
    assert all(torch.equal(a, b) for a, b in zip(trainer.average, resumed.average, strict=True))
    assert torch.equal(trainer.vocabulary, resumed.vocabulary)


def test_the_vocabulary_holds_what_the_target_says_and_how_it_ends(tmp_path: Path) -> None:
    trainer = toy_trainer(toy_target(tmp_path))
    texts = trainer.pools[0].texts
    said = torch.cat(
        [row[a:b] for row, a, b in zip(texts.ids, texts.starts, texts.ends, strict=True)]
    )

    counts = torch.bincount(said.long(), minlength=trainer.target.h.n_vocab)

    in_it = torch.isin(torch.arange(len(counts)), trainer.vocabulary)
    ends = torch.isin(torch.arange(len(counts)), torch.tensor(trainer.target.end_ids))
    assert len(trainer.vocabulary) == 64 and in_it[ends].all()
    assert counts[in_it & ~ends].min() >= counts[~in_it].max()


def test_a_step_draws_places_whose_tokens_the_target_chose(tmp_path: Path) -> None:
    trainer = toy_trainer(toy_target(tmp_path))
    batch = trainer.pools[0].draw(6, torch.Generator().manual_seed(0))

    best = trainer.target.logits(batch.ids).argmax(-1)
    for row in range(len(batch.ids)):
        anchors = batch.anchors[row][batch.is_anchor[row]]
        assert torch.equal(anchors, anchors.sort().values)
        assert (anchors < batch.ends[row] - 1).all()
        # An anchor is the target's own token, and so is the one that its block has to draft.
        assert torch.equal(best[row, anchors - 1], batch.ids[row, anchors])
        assert torch.equal(best[row, anchors], batch.ids[row, anchors + 1])

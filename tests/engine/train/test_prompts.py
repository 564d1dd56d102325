"""Prompts are of the kinds and lengths asked for, from the right documents."""

import numpy as np
import pytest

pytest.importorskip("torch")

from engine.train.prompts import KINDS, PromptMaker, Templates, make_templates  # noqa: E402
from engine.train.sources import LANGUAGES  # noqa: E402
from tests.engine.train.toy import N_IDS, toy_corpus, toy_templates  # noqa: E402


def test_every_kind_is_drawn_within_its_length() -> None:
    prompts = PromptMaker(toy_corpus(), toy_templates(), seed=0).draw(200, 64, 120)

    assert {prompt.kind for prompt in prompts} == set(range(len(KINDS)))
    assert all(24 <= len(prompt.ids) <= 120 for prompt in prompts)


def test_a_gap_is_cut_out_of_running_code() -> None:
    prompts = PromptMaker(toy_corpus(), toy_templates(), seed=0).draw(100, 100, 120)
    prefix, suffix, middle = toy_templates().fim or (0, 0, 0)

    for prompt in (p for p in prompts if KINDS[p.kind] == "fim"):
        ids = prompt.ids.tolist()
        cut = ids.index(suffix)
        assert ids[0] == prefix and ids[-1] == middle
        before, after = ids[1:cut], ids[cut + 1 : -1]
        for part in (before, after):  # the toy's documents count up
            assert np.all(np.diff(part) % N_IDS == 1)
        assert 4 <= (after[0] - before[-1] - 1) % N_IDS < 80


def test_held_out_documents_and_languages_are_kept_apart() -> None:
    maker = PromptMaker(toy_corpus(), toy_templates(), 0, held_out=True, language=1)

    assert {prompt.language for prompt in maker.draw(30, 64, 90)} == {1}
    with pytest.raises(ValueError, match="no documents"):
        PromptMaker(toy_corpus(), toy_templates(), 0, held_out=True, language=5)


def test_templates_survive_their_archive() -> None:
    names = ("im_start", "im_end", "fim_prefix", "fim_suffix", "fim_middle", "fim_pad")
    special = {f"<|{name}|>": 900 + index for index, name in enumerate(names)}
    made = make_templates(lambda text: [ord(c) for c in text], special, tuple(LANGUAGES))

    again = Templates.from_arrays(made.save_arrays(), len(LANGUAGES))

    assert again.mask_id == 905 and again.fim == (902, 903, 904)
    for one, other in zip(made.edits, again.edits, strict=True):
        assert len(one) == len(other) > 1
        assert {tuple(head) for head, _ in one} == {tuple(head) for head, _ in other}
    head, tail = made.edits[0][0]
    assert head[0] == 900 and bytes(head[-7:].tolist()) == b"python\n"
    assert tail.tolist().count(901) == 1


def test_a_model_without_special_tokens_cannot_mask() -> None:
    with pytest.raises(ValueError, match="mask"):
        make_templates(lambda text: [], {}, ("python",))

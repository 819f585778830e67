from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lm.checkpoints import EOS, WORDS
from textgym.errors import SettingsError
from textgym.lm import SequenceBatch, last_hidden, score_actions, scoring
from textgym.lm.scoring import sequence_hidden


def brute_force(lm, texts: list[list[int]]) -> torch.Tensor:
    """One unpadded forward pass a text."""
    return torch.stack([lm.hidden(torch.tensor([text or [EOS]]))[0, -1] for text in texts])


def padded(texts: list[list[int]], width: int) -> torch.Tensor:
    return torch.tensor([text + [-1] * (width - len(text)) for text in texts])


@pytest.mark.parametrize("kind", ["gpt2", "grouped"])
def test_last_hidden_is_one_pass_a_text(load, kind):
    lm = load(kind)
    generator = torch.Generator().manual_seed(0)
    texts = [
        torch.randint(0, len(WORDS), (n,), generator=generator).tolist()
        for n in (1, 30, 2, 0, 29, 7, 7, 0, 15)
    ]
    torch.testing.assert_close(
        last_hidden(lm, padded(texts, 32)), brute_force(lm, texts), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_decisions_share_their_text(load, kind):
    lm = load(kind)
    long = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9]
    short = [2, 7, 1]
    decisions = [(1, 0), (0, 14), (0, 2), (1, -1), (1, 2), (0, 2), (0, -1)]
    rows, positions = map(torch.tensor, zip(*decisions, strict=True))
    batch = SequenceBatch(padded([long, short], 16).int(), rows, positions)
    texts = [(long, short)[row][: at + 1] for row, at in decisions]
    torch.testing.assert_close(
        sequence_hidden(lm, batch), brute_force(lm, texts), atol=1e-5, rtol=1e-5
    )


def test_a_batch_of_empty_texts_alone(load):
    lm = load("gpt2")
    zeros = torch.zeros(3, dtype=torch.long)
    batch = SequenceBatch(torch.empty(1, 0, dtype=torch.int32), zeros, zeros - 1)
    torch.testing.assert_close(sequence_hidden(lm, batch), brute_force(lm, [[], [], []]))


def groups_of(lengths: list[int]) -> tuple[list[torch.Tensor], list[int]]:
    """The groups in which texts are scored; and, for each, its number, read from its last token."""
    groups = []

    def hidden(tokens, images):
        groups.append(tokens)
        return tokens[..., None]

    texts = [[at] * length for at, length in enumerate(lengths)]
    found = last_hidden(SimpleNamespace(hidden=hidden), padded(texts, max(lengths)))
    return groups, found.flatten().tolist()


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40))
@settings(deadline=None, max_examples=100)
def test_cuts_cover_every_text_and_never_lose(lengths):
    groups, found = groups_of(lengths)
    assert found == list(range(len(lengths)))
    assert all(bool((tokens[:, -1] >= 0).any()) for tokens in groups), "padding alone"
    assert sum(len(tokens) for tokens in groups) == len(lengths)
    assert sum(tokens.numel() for tokens in groups) <= len(lengths) * max(lengths)


def test_cuts_leave_no_large_waste():
    groups, _ = groups_of([5, 60, 5, 60] * 2 + [5] * 56)
    assert sorted(tuple(tokens.shape) for tokens in groups) == [(4, 60), (60, 5)]


@pytest.mark.parametrize(("limit", "saved"), [(10**9, 10**9), (60, 10**9), (60, 0), (60, 120)])
def test_scores_and_gradients_are_those_of_the_distribution(load, monkeypatch, limit, saved):
    monkeypatch.setattr(scoring, "MAX_LOGITS", limit)
    monkeypatch.setattr(scoring, "SAVED_LOGITS", saved)
    monkeypatch.setattr(scoring, "_PIECE", 30)
    lm = load("gpt2")
    torch.manual_seed(0)
    hidden = torch.randn(11, lm.hidden_size, requires_grad=True)
    actions = torch.randint(0, lm.vocab_size, (11,))
    weights = torch.randn(2, 11)
    head = lm.model.get_output_embeddings().weight

    log_probs, entropy = score_actions(lm, hidden, actions)
    ours = torch.autograd.grad(
        (weights[0] * log_probs + weights[1] * entropy).sum(), [hidden, head]
    )
    distribution = torch.distributions.Categorical(logits=lm.logits(hidden))
    expected = (distribution.log_prob(actions), distribution.entropy())
    torch.testing.assert_close((log_probs, entropy), expected, atol=1e-5, rtol=1e-5)
    theirs = torch.autograd.grad(
        (weights[0] * expected[0] + weights[1] * expected[1]).sum(), [hidden, head]
    )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)

    log_probs, entropy = score_actions(lm, hidden, actions)
    alone = torch.autograd.grad(log_probs.sum() + 0.0 * entropy.sum(), hidden)
    distribution = torch.distributions.Categorical(logits=lm.logits(hidden))
    theirs = torch.autograd.grad(distribution.log_prob(actions).sum(), hidden)
    torch.testing.assert_close(alone, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("saved", "passes"), [(0, 100), (24, 50 + 26), (50, 50)])
def test_logits_of_a_large_batch_are_never_whole(load, monkeypatch, saved, passes):
    lm = load("gpt2")
    monkeypatch.setattr(scoring, "MAX_LOGITS", 8 * lm.vocab_size)
    monkeypatch.setattr(scoring, "SAVED_LOGITS", saved * lm.vocab_size)
    rows = []
    plain = lm.logits
    monkeypatch.setattr(lm, "logits", lambda hidden: rows.append(len(hidden)) or plain(hidden))
    hidden = torch.randn(50, lm.hidden_size, requires_grad=True)
    log_probs, entropy = score_actions(lm, hidden, torch.zeros(50, dtype=torch.long))
    (log_probs.sum() + entropy.sum()).backward()
    assert max(rows) == 8
    # Once forward; those that were not saved once again for the gradient.
    assert sum(rows) == passes


def test_impossible_tokens_have_no_entropy():
    logits = torch.tensor([[0.0, 0.0, -torch.inf]], requires_grad=True)
    head = SimpleNamespace(vocab_size=3, logits=lambda hidden: hidden)
    log_probs, entropy = score_actions(head, logits, torch.tensor([1]))
    half = torch.tensor([0.5]).log()
    torch.testing.assert_close((log_probs, entropy), (half, -half))
    (gradient,) = torch.autograd.grad((log_probs + entropy).sum(), logits)
    torch.testing.assert_close(gradient, torch.tensor([[-0.5, 0.5, 0.0]]))


@pytest.mark.parametrize("kind", ["alternating", "mamba", "mamba2", "lstm", "t5", "bart"])
def test_sequences_are_scored_as_one_text_a_decision(load, kind):
    """Log-probabilities, entropies and gradients, for every kind of model."""
    lm = load(kind)
    generator = torch.Generator().manual_seed(0)
    texts, decisions, actions = [], [], []
    for row, (prompt, length) in enumerate([(3, 12), (1, 2), (5, 6), (2, 12), (4, 5)]):
        text = torch.randint(0, EOS, (length,), generator=generator)
        # Prompts of encoder-decoders end with eos; to the others it is a token like any other.
        text[prompt - 1] = EOS
        texts.append(text.tolist())
        decisions += [(row, at) for at in range(prompt - 1, length)]
    actions = torch.randint(0, len(WORDS), (len(decisions),), generator=generator)
    weights = torch.randn(2, len(decisions), generator=generator)
    parameters = list(lm.model.parameters())

    def gradients(hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        scores = torch.stack(score_actions(lm, hidden, actions))
        loss = (weights * scores).sum()
        return scores.detach(), *torch.autograd.grad(loss, parameters)

    rows, positions = map(torch.tensor, zip(*decisions, strict=True))
    ours = gradients(sequence_hidden(lm, SequenceBatch(padded(texts, 14), rows, positions)))
    theirs = gradients(brute_force(lm, [texts[row][: at + 1] for row, at in decisions]))
    # Some gradients are zero but for rounding: a bias of attention's keys changes nothing.
    scale = max(float(expected.abs().max()) for expected in theirs[1:])
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5 * scale, rtol=1e-4)


def test_one_action_per_observation(load):
    lm = load("gpt2")
    hidden = last_hidden(lm, padded([[1, 2], [3]], 8))
    with pytest.raises(SettingsError, match="1 actions for 2"):
        score_actions(lm, hidden, torch.tensor([4]))

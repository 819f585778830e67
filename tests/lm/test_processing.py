"""Sampling settings mean what transformers' logits processors do, also where they are combined."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.logits_process import LogitsProcessorList

from textgym.errors import SettingsError
from textgym.lm import KeptSets, Sampler, Sampling
from textgym.tokenization import load_tokenizer

WORDS = [f"w{index}" for index in range(299)] + ["<eos>"]
EOS = len(WORDS) - 1
TOKENIZER = load_tokenizer(WORDS)


def sampler_of(**settings) -> Sampler:
    return Sampler(Sampling.of(settings), TOKENIZER)


def theirs(settings, logits, texts):
    """Plain transformers, row by row and in the order of ``generate``."""
    rows = []
    for row, text in zip(logits, texts, strict=True):
        scores, ids = row[None].clone(), text[text >= 0][None].long()
        steps = LogitsProcessorList()
        if settings.get("repetition_penalty", 1.0) != 1.0 and ids.numel():
            steps.append(RepetitionPenaltyLogitsProcessor(settings["repetition_penalty"]))
        scores = steps(ids, scores)
        scores[:, list(settings.get("banned_tokens", []))] = -torch.inf
        if any(token not in ids for token in settings.get("required_tokens", [])):
            scores[:, EOS] = -torch.inf
        steps = LogitsProcessorList()
        if "temperature" in settings:
            steps.append(TemperatureLogitsWarper(settings["temperature"]))
        if "top_k" in settings:
            steps.append(TopKLogitsWarper(settings["top_k"]))
        if "top_p" in settings:
            steps.append(TopPLogitsWarper(settings["top_p"]))
        rows.append(steps(ids, scores)[0])
    return torch.stack(rows)


def ours(sampler, logits, texts):
    processed = sampler.process(logits, texts)
    kept = sampler.kept(processed)
    return processed if kept is None else processed.masked_fill(~kept.mask(), -torch.inf)


def batch(seed, rows=7, width=9, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, len(WORDS), generator=generator)
    texts = torch.randint(0, 12, (rows, width), generator=generator).int()
    lengths = torch.randint(0, width + 1, (rows, 1), generator=generator)
    lengths[0] = 0
    return logits, texts.masked_fill(torch.arange(width) >= lengths, -1)


@st.composite
def settings_of(draw):
    some = {
        "temperature": st.floats(0.1, 3.0),
        "top_k": st.integers(1, 400),
        "top_p": st.floats(0.01, 0.99),
        "repetition_penalty": st.sampled_from([0.5, 1.3, 2.0]),
        "banned_tokens": st.lists(st.integers(20, 298), max_size=5),
        "required_tokens": st.lists(st.integers(0, 12), max_size=2),
    }
    names = draw(st.sets(st.sampled_from(sorted(some))))
    return {name: draw(some[name]) for name in sorted(names)}


@given(settings_of(), st.integers(0, 10**6), st.sampled_from([0.01, 3.0, 30.0]))
def test_settings_are_those_of_transformers(settings, seed, scale):
    logits, texts = batch(seed, scale=scale)
    found, expected = ours(sampler_of(**settings), logits, texts), theirs(settings, logits, texts)
    probs = torch.softmax(expected, -1)
    # At the very edge of top-p, sums in another order may decide about one more token.
    differ = (found == -torch.inf) != (expected == -torch.inf)
    assert int(differ.sum(-1).max()) <= (1 if "top_p" in settings else 0)
    if not differ.any():
        torch.testing.assert_close(torch.softmax(found, -1), probs, atol=2e-6, rtol=1e-4)


def test_top_k_keeps_ties_as_transformers_does():
    logits = torch.tensor([[1.0, 3.0, 2.0, 2.0, 2.0, 0.0] + [-9.0] * 294])
    texts = torch.full((1, 4), -1)
    kept = sampler_of(top_k=2).kept(logits)
    assert kept.mask()[0].nonzero()[:, 0].tolist() == [1, 2, 3, 4]
    expected = theirs({"top_k": 2}, logits, texts)
    assert torch.equal(kept.mask(), expected > -torch.inf)


def test_fewer_possible_tokens_than_top_k():
    banned = list(range(3, 300))
    sampler = sampler_of(top_k=50, banned_tokens=banned)
    logits, texts = batch(0)
    mask = sampler.kept(sampler.process(logits, texts)).mask()
    assert mask.any(0).nonzero()[:, 0].tolist() == [0, 1, 2]
    assert (mask.sum(-1) == 3).all()


SETTINGS = [
    {},
    {"temperature": 0.7},
    {"top_k": 20},
    {"top_p": 0.8},
    {"top_k": 30, "top_p": 0.9, "temperature": 1.5, "repetition_penalty": 1.4},
    {"banned_tokens": ["w3", 5, "<eos>"], "repetition_penalty": 1.2},
    {"required_tokens": ["w1"]},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_draws_are_of_the_processed_distribution(settings):
    sampler = sampler_of(**settings)
    logits, texts = batch(3, rows=1, scale=1.5)
    texts[0, :3] = torch.tensor([1, 4, 4])
    draws = 60_000
    tokens, log_probs, kept = sampler.sample(logits.expand(draws, -1), texts.expand(draws, -1))
    by_id = {**settings}
    if "banned_tokens" in settings:
        by_id["banned_tokens"] = [3, 5, EOS]
    if "required_tokens" in settings:
        by_id["required_tokens"] = [1]
    probs = torch.softmax(theirs(by_id, logits, texts)[0].double(), -1)
    torch.testing.assert_close(log_probs.double(), probs.log()[tokens], atol=1e-5, rtol=1e-5)
    counts, expected = torch.bincount(tokens, minlength=len(WORDS)), draws * probs
    assert not counts[probs == 0].any()
    common = expected > 5
    statistic = ((counts - expected)[common] ** 2 / expected[common]).sum()
    degrees = int(common.sum()) - 1
    # Chi-square has mean k and variance 2 k: five deviations.
    assert abs(float(statistic) - degrees) < 5 * (2 * degrees) ** 0.5
    assert (kept is not None) == sampler.truncates
    if kept is not None:
        assert torch.equal(kept.take(torch.tensor([7])).mask()[0], probs > 0)


def test_the_likeliest_token_is_that_of_the_processed_distribution():
    logits, texts = batch(4)
    for settings in SETTINGS[1:5]:
        tokens, log_probs, _ = sampler_of(**settings).sample(logits, texts, deterministic=True)
        expected = torch.log_softmax(theirs(settings, logits, texts), -1)
        assert torch.equal(tokens, expected.argmax(-1))
        torch.testing.assert_close(log_probs, expected.amax(-1), atol=1e-5, rtol=1e-5)


def test_eos_waits_for_what_is_required():
    sampler = sampler_of(required_tokens=[3, "w5"])
    texts = torch.tensor([[3, 1, -1], [5, 3, -1], [5, 1, 3], [-1, -1, -1]])
    logits = torch.zeros(4, len(WORDS))
    possible = sampler.process(logits, texts)[:, EOS] > -torch.inf
    assert possible.tolist() == [False, True, True, False]
    assert (sampler.process(logits, texts)[:, :EOS] == 0).all()
    # Without any column of texts, too.
    assert not (sampler.process(logits, texts[:, :0])[:, EOS] > -torch.inf).any()


def test_gradients_are_those_of_the_distribution():
    logits, texts = batch(5)
    logits.requires_grad_()
    settings = {"temperature": 0.6, "repetition_penalty": 1.7, "top_k": 9}
    sampler = sampler_of(**settings)
    tokens, _, kept = sampler.sample(logits, texts)
    picked = torch.log_softmax(sampler.process(logits, texts, kept), -1).gather(1, tokens[:, None])
    (found,) = torch.autograd.grad(picked.sum(), logits)
    # The definition, out of differentiable parts.
    seen = torch.zeros_like(logits, dtype=torch.bool)
    for row, text in enumerate(texts):
        seen[row, text[text >= 0].long()] = True
    penalised = torch.where(logits < 0, logits * 1.7, logits / 1.7)
    scores = torch.where(seen, penalised, logits) / 0.6
    scores = scores.masked_fill(~kept.mask(), -torch.inf)
    (expected,) = torch.autograd.grad(
        torch.log_softmax(scores, -1).gather(1, tokens[:, None]).sum(), logits
    )
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@given(st.integers(1, 70), st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(0, 99))
def test_kept_sets_are_stored_small_and_come_back(size, shares, seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(len(shares), size, generator=generator) < torch.tensor(shares)[:, None]
    kept = KeptSets.of_mask(mask)
    assert torch.equal(kept.mask(), mask)
    assert len(kept) == len(shares)
    stored = 4 * kept.ids.numel() + kept.bits.numel()
    assert stored == sum(min(4 * int(row.sum()), -(-size // 8)) for row in mask)
    which = torch.randint(0, len(shares), (9,), generator=generator)
    assert torch.equal(kept.take(which).mask(), mask[which])
    assert torch.equal(
        KeptSets.join([kept, kept.take(which)]).mask(), torch.cat([mask, mask[which]])
    )


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_settings_survive_json(settings):
    sampling = Sampling.of(settings)
    assert Sampling.of(json.loads(json.dumps(sampling.as_dict()))) == sampling
    assert Sampler(sampling, TOKENIZER).plain == (not settings)


def test_settings_that_let_everything_pass_are_plain():
    assert sampler_of(temperature=1, top_k=300, top_p=1.0, repetition_penalty=1).plain
    assert not sampler_of(top_k=299).plain


def test_tokens_are_named_as_the_vocabulary_or_the_text_has_them():
    tokenizer = load_tokenizer()
    the = tokenizer.encode(" the")[0]
    for name in (the, " the", tokenizer.token(the)):
        assert Sampler(Sampling(banned_tokens=(name,)), tokenizer).banned == (the,)


REFUSED = [
    ({"temperature": 0}, r"temperature=0.*deterministic=True"),
    ({"temperature": float("nan")}, "temperature=nan"),
    ({"temperature": True}, "temperature=True"),
    ({"top_k": 0}, r"top_k=0"),
    ({"top_k": 2.5}, r"top_k=2\.5"),
    ({"top_p": 0.0}, r"top_p=0\.0"),
    ({"top_p": 1.1}, r"top_p=1\.1"),
    ({"repetition_penalty": -1}, "repetition_penalty=-1"),
    ({"banned_tokens": "w1"}, r"banned_tokens='w1'.*\['w1'\]"),
    ({"banned_tokens": [1.5]}, r"banned_tokens has 1\.5"),
    ({"temprature": 1.0}, r"no setting 'temprature'; did you mean 'temperature'"),
    ({"banned_tokens": ["w12x"]}, r"'w12x'.*did you mean 'w12'"),
    ({"banned_tokens": [300]}, "id 300.*0 to 299"),
    ({"banned_tokens": list(range(300))}, "banned_tokens has all 300"),
    ({"required_tokens": ["<eos>"]}, "required_tokens has eos"),
    ({"required_tokens": ["w1"], "banned_tokens": [1, 2]}, r"\['w1'\]"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_impossible_settings(settings, message):
    with pytest.raises(SettingsError, match=message):
        sampler_of(**settings)


def test_requirements_need_an_eos():
    with pytest.raises(SettingsError, match="no eos token"):
        Sampler(Sampling(required_tokens=("a",)), load_tokenizer(["a", "b"], add_eos=False))


def test_a_sampling_is_a_dictionary_or_itself():
    sampling = Sampling(temperature=0.5)
    assert Sampling.of(sampling) is sampling
    assert Sampling.of(None) == Sampling()
    with pytest.raises(SettingsError, match=r"dict\(temperature"):
        Sampling.of(0.7)


def test_order_of_rows_does_not_matter():
    """A row's set depends on its own logits: wide and narrow rows do not disturb each other."""
    logits, texts = batch(6, rows=4)
    logits[1] *= 10
    logits[2] *= 0.01
    sampler = sampler_of(top_p=0.9)
    together = sampler.kept(sampler.process(logits, texts)).mask()
    for order in itertools.permutations(range(4)):
        rows = list(order)
        again = sampler.kept(sampler.process(logits[rows], texts[rows])).mask()
        assert torch.equal(again, together[rows])
    assert together[2].sum() > 200 > 3 > together[1].sum()


def test_what_an_encoder_reads_does_not_count_as_written():
    """As in transformers, whose processors see the decoder's tokens alone."""
    tokenizer = load_tokenizer(["a", "b", "c", "d", "<eos>"])
    eos = tokenizer.eos_id
    settings = Sampling(repetition_penalty=1.7, required_tokens=("b",))
    sampler = Sampler(settings, tokenizer, prompt_ends=True)
    logits = torch.tensor([[1.0, -1.0, 2.0, 0.5, -0.5]]).repeat(3, 1)
    texts = torch.tensor([[1, 0, eos, -1, -1], [1, eos, 0, 2, -1], [0, eos, 1, 0, 0]])
    found = sampler.process(logits, texts)
    for row, response in enumerate(([], [0, 2], [1, 0, 0])):
        expected = logits[row : row + 1].clone()
        if response:
            processor = RepetitionPenaltyLogitsProcessor(1.7)
            expected = processor(torch.tensor([response]), expected)
        if 1 not in response:
            expected[:, eos] = -torch.inf
        torch.testing.assert_close(found[row : row + 1], expected)

"""Diagnostics against closed forms, brute force, and what the environment itself has seen."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import KVWriter, Logger
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from agents import grpo
from tests.conversations import Parley
from tests.lm.checkpoints import EOS, WORDS, write_tokenizer
from tests.pictures import Colour
from textgym.sb3 import (
    Checkpoints,
    DiagnosticsCallback,
    DiagnosticsWarning,
    LMPolicy,
    LMReplayBuffer,
    LMRolloutBuffer,
    TopKPolicy,
    load_checkpoint,
    make_vec_env,
)
from textgym.sb3.diagnostics.cross_scoring import Text, cross_scores, distinct, text_of
from textgym.sb3.diagnostics.estimates import (
    mutual_information,
    reward_shares,
    share_without_variance,
)
from textgym.sb3.diagnostics.watch import Watch
from textgym.wrappers import TopKActions

pytestmark = pytest.mark.filterwarnings("ignore::textgym.sb3.DiagnosticsWarning")

MI, MOST = "diagnostics/mutual_information", "diagnostics/mutual_information_max"


class Rows(KVWriter):
    """All rows of a log."""

    def __init__(self):
        self.rows = []

    def write(self, key_values, key_excluded, step=0):
        self.rows.append(dict(key_values))

    def close(self):
        pass


def low(prompts, completions, **_):
    return [sum(word[1:] < "2" for word in text.split()) / 10 for text in completions]


def words(completions):
    return [None if text == "" else float(len(text.split())) for text in completions]


def learn(model, steps, callback, **kwargs):
    """Train, and return the rows of the log."""
    rows = Rows()
    model.set_logger(Logger(None, [rows]))
    model.learn(steps, callback=callback, **kwargs)
    return rows.rows


def make_ppo(venv, lm, **kwargs):
    return PPO(
        LMPolicy, venv, n_steps=16, batch_size=32, n_epochs=1, seed=0, device="cpu",
        policy_kwargs={"lm": lm}, rollout_buffer_class=LMRolloutBuffer, **kwargs,
    )  # fmt: skip


# ---------------------------------------------------------------------- formulas


def test_mutual_information_of_extremes():
    ignoring = np.tile(np.array([[-3.0], [-1.0], [-700.0], [-2.0]]), (1, 4))
    assert mutual_information(ignoring) == pytest.approx(0, abs=1e-12)
    copying = np.where(np.eye(4), -0.5, -np.inf)
    assert mutual_information(copying) == pytest.approx(np.log(4))
    assert mutual_information(copying - 5000) == pytest.approx(np.log(4)), "no underflow"


@pytest.mark.parametrize("seed", range(5))
def test_its_expectation_is_the_mutual_information_and_less_with_another_model(seed):
    """By enumeration of all responses, where each of M prompts has its own distribution."""
    rng = np.random.default_rng(seed)
    p, other = rng.dirichlet(np.ones(3), (2, 4))  # p(y | x): M = 4 prompts, 3 responses
    joint = p / 4
    marginal = joint.sum(0)
    truth = (joint * np.log(joint / (marginal / 4))).sum()

    def expectation(model):
        total = 0.0
        for responses in itertools.product(range(3), repeat=4):
            probability = np.prod([p[x, y] for x, y in enumerate(responses)])
            total += probability * mutual_information(np.log(model[:, responses].T))
        return total

    assert expectation(p) == pytest.approx(truth)
    assert expectation(other) < truth


def test_reward_shares_against_numpy():
    rng = np.random.default_rng(0)
    terms = {"a": rng.normal(size=50), "b": rng.exponential(size=50), "c": rng.normal(size=50)}
    terms["b"][::7] = np.nan
    weights = {"a": 2.0, "b": -0.5, "c": 0.0}
    shares = reward_shares(terms, weights)
    values = {"a": 2 * terms["a"], "b": -0.5 * np.nan_to_num(terms["b"])}
    covariance = np.cov(values["a"], values["b"])
    for at, name in enumerate("ab"):
        assert shares[name] == pytest.approx(covariance[at].sum() / covariance.sum())
    assert list(shares) == ["a", "b"], "a term of weight 0 is not rewarded"
    assert sum(shares.values()) == pytest.approx(1)
    # Terms that do not depend on each other: the shares of their variances.
    square = np.array([0.0, 0, 1, 1]), np.array([0.0, 1, 0, 1])
    assert reward_shares({"x": square[0], "y": square[1]}, {"x": 3, "y": 1}) == pytest.approx(
        {"x": 0.9, "y": 0.1}
    )


def test_no_shares_without_several_terms_or_variance():
    values = np.arange(3.0)
    assert reward_shares({"a": values}, {}) == {}
    assert reward_shares({"a": values, "b": values}, {"b": 0.0}) == {}
    assert reward_shares({"a": values, "b": -values}, {}) == {}
    assert reward_shares({"a": np.array([]), "b": np.array([])}, {}) == {}


def test_share_without_variance():
    assert share_without_variance([]) is None
    assert share_without_variance([[1, 1, 1], [0.1 * 3, 0.3], [0, 1], [5]]) == 0.75


def test_prompts_are_taken_at_equal_distances_and_their_responses_in_turn():
    texts = [
        Text(np.array([prompt], np.int32), np.array([take], np.int32))
        for take in range(3)
        for prompt in range(6)
    ]
    found = [(int(text.prompt[0]), int(text.response[0])) for text in distinct(texts, 3)]
    assert found == [(0, 0), (2, 1), (4, 2)]
    assert len(distinct(texts, 10)) == 6


def test_cross_scores_are_those_of_transformers(checkpoint, make_env):
    """Pair by pair, from the logits of the plain model."""
    rng = np.random.default_rng(1)
    texts = [
        Text(
            rng.integers(0, 22, size, dtype=np.int32),
            rng.integers(0, 22, length, dtype=np.int32),
        )
        for size, length in ((1, 4), (5, 7), (3, 1), (6, 2))
    ]
    plain = AutoModelForCausalLM.from_pretrained(checkpoint("llama"))
    policy = make_ppo(make_env(), checkpoint("llama")).policy
    found, read = cross_scores(policy.lm, texts, 13)
    assert read == sum(len(text.prompt) for text in texts) + 4 * 4 * 7
    for i, j in itertools.product(range(4), repeat=2):
        prompt, response = texts[j].prompt, texts[i].response
        ids = torch.from_numpy(np.concatenate([prompt, response])).long()[None]
        with torch.no_grad():
            logits = torch.log_softmax(plain(ids).logits[0], -1)
        places = torch.arange(len(prompt) - 1, len(prompt) + len(response) - 1)
        truth = logits[places, ids[0, len(prompt) :]].sum()
        assert found[i, j] == pytest.approx(truth.item(), abs=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "sliding", "alternating", "t5", "mamba", "lstm"])
def test_cross_scores_are_those_of_the_policy(kind, checkpoint):
    """Step by step, from its distribution after each observation; top-k is left out."""
    sampling = {"temperature": 0.7, "banned_tokens": ("w3",), "repetition_penalty": 1.3}
    venv = one_word(12, tokenizer=checkpoint(kind), max_prompt_tokens=2, max_new_tokens=5)
    model = PPO(
        LMPolicy, venv, n_steps=16, batch_size=32, seed=0, device="cpu",
        policy_kwargs={"lm": checkpoint(kind), "sampling": sampling},
        rollout_buffer_class=LMRolloutBuffer,
    )  # fmt: skip
    seen = []

    class Spy(BaseCallback):
        def _on_step(self):
            seen.extend(
                info
                for info, done in zip(self.locals["infos"], self.locals["dones"], strict=True)
                if done
            )
            return True

    model.learn(12 * 16, callback=Spy())
    texts = distinct([text_of(info, venv.unwrapped.tokenizer) for info in seen], 5)
    assert len(texts) == 5
    policy = model.policy
    found, _ = cross_scores(policy.lm, texts, 7, policy.sampler)
    for i, j in itertools.product(range(5), repeat=2):
        prompt, response = texts[j].prompt, texts[i].response
        total = 0.0
        for at, token in enumerate(response):
            observation = np.full((1, 7), -1, np.int32)
            written = np.concatenate([prompt, response[:at]])
            observation[0, : len(written)] = written
            with torch.no_grad():
                after = policy.get_distribution(torch.from_numpy(observation)).distribution
            total += float(after.logits[0, int(token)])
        assert found[i, j] == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize("pictures", [False, True])
def test_the_text_of_an_episode_is_its_prompt_and_the_agents_first_turn(pictures):
    """As recorded step by step."""
    task = Colour() if pictures else Parley()
    tokenizer = WORDS if pictures else [*Parley.tokenizer, "<eos>"]
    venv = make_vec_env("TextGen-v0", 4, 0, prompts=task, tokenizer=tokenizer, max_prompt_tokens=4)
    end, rng = len(tokenizer) - 1, np.random.default_rng(0)

    def tokens_of(observation):
        return observation["tokens"] if pictures else observation

    observations = venv.reset()
    prompts = [list(row[row >= 0]) for row in tokens_of(observations)]
    turns = [[] for _ in range(4)]
    ended = 0
    for _ in range(60):
        actions = np.where(rng.random(4) < 0.3, end, rng.integers(0, end, 4))
        for row, action in enumerate(actions):
            if end not in turns[row]:
                turns[row].append(int(action))
        before = observations
        observations, _, dones, infos = venv.step(actions)
        for row in np.flatnonzero(dones):
            text = text_of(infos[row], venv.unwrapped.tokenizer)
            assert list(text.prompt) == prompts[row]
            assert list(text.response) == turns[row]
            if pictures:
                assert (text.image == before["image"][row]).all()
            new = tokens_of(observations)[row]
            prompts[row], turns[row] = list(new[new >= 0]), []
            ended += 1
    assert ended > 10


# ---------------------------------------------------------------------- in a training


@pytest.fixture(scope="module")
def copying(tmp_path_factory):
    """A model that repeats the last token for ever."""
    return write_markov(tmp_path_factory.mktemp("copying"), copies=True)


@pytest.fixture(scope="module")
def ignoring(tmp_path_factory):
    """A model whose tokens are uniform, whatever the text is."""
    return write_markov(tmp_path_factory.mktemp("ignoring"), copies=False)


def write_markov(folder, copies):
    size = len(WORDS)
    config = GPT2Config(
        vocab_size=size, n_embd=size, n_layer=1, n_head=1, n_positions=32, bos_token_id=EOS,
        eos_token_id=EOS,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.transformer.wte.weight.copy_(torch.eye(size))
        if copies:
            model.transformer.ln_f.weight.fill_(10.0)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return str(folder)


def one_word(n_envs=16, **kwargs):
    """Each prompt is one word, and each of 20 words is a prompt."""
    defaults = {"prompts": WORDS[:20], "reward": {low: 1.0, words: 0.1}, "max_prompt_tokens": 1}
    settings = {"tokenizer": WORDS, "max_new_tokens": 4, **defaults, **kwargs}
    return make_vec_env("TextGen-v0", n_envs, 0, **settings)


def test_a_policy_that_copies_its_prompt(copying):
    rows = learn(make_ppo(one_word(), copying, learning_rate=0.0), 16 * 64, DiagnosticsCallback())
    found = [row[name] for row in rows for name in (MI, MOST) if name in row]
    assert found
    assert found == pytest.approx([np.log(8)] * len(found), abs=1e-5)
    assert all(row["diagnostics/entropy"] == pytest.approx(0, abs=1e-5) for row in rows)
    assert rows[-1]["episode/finish_length"] == 1


def test_a_policy_that_ignores_its_prompt_is_reported_once(ignoring):
    model = make_ppo(one_word(), ignoring, learning_rate=0.0)
    callback = DiagnosticsCallback()
    with pytest.warns(DiagnosticsWarning, match="hardly depend on the prompt") as caught:
        rows = learn(model, 16 * 320, callback)
    about = [one for one in caught if "depend on the prompt" in str(one.message)]
    assert len(about) == 1
    assert "(mutual information 0.00 of at most 2.08 nats)" in str(about[0].message)
    found = [row[MI] for row in rows if MI in row]
    assert len(found) >= 2
    assert found == pytest.approx([0.0] * len(found), abs=1e-5)
    entropies = [row["diagnostics/entropy"] for row in rows]
    assert entropies == pytest.approx([np.log(len(WORDS))] * len(rows), abs=1e-5)
    assert len(caught) == len(callback.watch.warnings)
    for one, (_, sentence) in zip(caught, callback.watch.warnings, strict=True):
        assert sentence in str(one.message)


@pytest.mark.parametrize("sampling", [{"top_k": 5}, {"top_p": 0.7, "temperature": 0.5}])
def test_truncated_sampling_is_estimated_from_below(copying, sampling):
    model = PPO(
        LMPolicy, one_word(), n_steps=16, batch_size=32, seed=0, device="cpu", learning_rate=0.0,
        policy_kwargs={"lm": copying, "sampling": sampling}, rollout_buffer_class=LMRolloutBuffer,
    )  # fmt: skip
    rows = learn(model, 16 * 16, DiagnosticsCallback())
    assert rows[0][MI] == pytest.approx(np.log(8), abs=1e-5)


def test_the_cost_is_bounded(checkpoint, make_env, monkeypatch):
    """Eight environment steps for each token that is read."""
    from textgym.sb3.diagnostics import dependence

    read = []

    def counted(lm, texts, width, sampler=None):
        assert len({text.key for text in texts}) == len(texts)
        found = cross_scores(lm, texts, width, sampler)
        read.append(found.tokens)
        return found

    monkeypatch.setattr(dependence, "cross_scores", counted)
    model = make_ppo(make_env(n_envs=16), checkpoint())
    learn(model, 16 * 16 * 40, DiagnosticsCallback())
    assert len(read) >= 3
    assert sum(read[:-2]) <= model.num_timesteps / 8, "the last two are paid in advance"


class Witness(BaseCallback):
    """All episodes that ended, with their rows and rollouts."""

    def __init__(self):
        super().__init__()
        self.ended, self.rollout, self.log_probs = [], 0, []

    def _on_step(self):
        for row, done in enumerate(self.locals["dones"]):
            if done:
                self.ended.append((self.rollout, row, self.locals["infos"][row]))
        return True

    def _on_rollout_end(self):
        self.rollout += 1
        if "rollout_buffer" in self.locals:
            self.log_probs.append(self.locals["rollout_buffer"].log_probs.copy())


def shares_of(infos):
    """From the texts alone."""
    texts = [info["response"] for info in infos]
    first = np.array(low(texts, texts))
    second = 0.1 * np.array([value or 0.0 for value in words(texts)])
    covariance = np.cov(first, second)
    return covariance.sum(1) / covariance.sum()


def test_values_of_a_training_against_its_episodes(checkpoint):
    n = 16
    model = make_ppo(one_word(n, prompts=[*WORDS[:4], "w2 w3"], max_prompt_tokens=2), checkpoint())
    witness, callback = Witness(), DiagnosticsCallback(prompts=0)
    rows = learn(model, n * 16 * 6, [witness, callback])
    assert not any(MI in row for row in rows)
    assert len(rows) == 6
    lengths = defaultdict(list)
    for _, row, info in witness.ended:
        lengths[row].append(info["episode"]["l"])
    first = np.mean([lengths[row][:4] for row in range(n)])  # 64 in all
    for number, row in enumerate(rows):
        now = [info for rollout, _, info in witness.ended if rollout == number]
        upto = [info for rollout, _, info in witness.ended if rollout <= number]
        window = upto[-max(64, len(now)) :]
        assert [row["reward_shares/low"], row["reward_shares/words"]] == pytest.approx(
            shares_of(window)
        )
        groups = defaultdict(list)
        for info in window:
            groups[info["prompt"]].append(info["episode"]["r"])
        tied = np.mean([len(set(group)) == 1 for group in groups.values() if len(group) >= 4])
        assert row["diagnostics/groups_without_variance"] == tied
        ratio = np.mean([info["episode"]["l"] for info in now]) / first
        known = all(
            sum(each == at and rollout <= number for rollout, each, _ in witness.ended) >= 4
            for at in range(n)
        )
        assert ("diagnostics/length_ratio" in row) == known
        if known:
            assert row["diagnostics/length_ratio"] == pytest.approx(ratio, rel=1e-5)
        assert row["diagnostics/entropy"] == pytest.approx(-witness.log_probs[number].mean())
    assert known
    assert "train/explained_variance" in rows[-1]
    courses = callback.watch.courses()
    assert courses["diagnostics/entropy"][-1][0] == model.num_timesteps
    # Over all points, it is the mean of all episodes, as in the log.
    counts = [row["episode/count"] for row in rows]
    entropies = [row["diagnostics/entropy"] for row in rows]
    low_, high = min(entropies), max(entropies)
    assert sum(counts) > 64 * 3
    assert 3 <= len(courses["diagnostics/entropy"]) <= len(rows)
    assert all(low_ <= value <= high for _, value in courses["diagnostics/entropy"])


def test_shaping_is_not_a_term_next_to_which_another_dominates(checkpoint):
    def potential(prompts, completions, **_):
        return low(prompts, completions)

    shares = {}
    for name, reward in (("one", {low: 1.0}), ("two", {low: 1.0, words: 0.1})):
        venv = one_word(reward=reward, step_reward=potential)
        rows = learn(make_ppo(venv, checkpoint()), 16 * 32, DiagnosticsCallback(prompts=0))
        assert "reward_terms/step_reward" in rows[-1]
        shares[name] = {key for key in rows[-1] if key.startswith("reward_shares/")}
    assert shares == {"one": set(), "two": {"reward_shares/low", "reward_shares/words"}}


def test_groups_of_grpo(checkpoint, tmp_path):
    """Its own groups, not all responses to a prompt: there are two prompts alone."""

    def coin(prompts, completions, **_):
        return [float(len(text) % 2) for text in completions]

    venv = make_vec_env(
        "TextGen-v0", 12, 0, prompts=["w1", "w2"], tokenizer=WORDS, max_prompt_tokens=1,
        max_new_tokens=3, reward=coin, group_size=2,
    )  # fmt: skip
    settings = grpo.Settings(lm=checkpoint(), group_size=2, out=tmp_path, device="cpu", kl_coef=0.0)
    agent = grpo.make_agent(venv, 0, settings)
    witness = Witness()
    rows = learn(agent, 200, CallbackList([witness, DiagnosticsCallback()]))
    for number, row in enumerate(rows):
        returns = np.zeros(12)
        for rollout, at, info in witness.ended:
            if rollout == number:
                returns[at] = info["episode"]["r"]
        tied = (returns[::2] == returns[1::2]).mean()
        assert row["diagnostics/groups_without_variance"] == pytest.approx(tied)
        assert row["diagnostics/entropy"] > 0
    assert len({row["diagnostics/groups_without_variance"] for row in rows}) > 2


def make_dqn(venv, lm):
    return DQN(
        TopKPolicy, venv, gamma=1.0, learning_starts=0, exploration_initial_eps=0.0,
        exploration_final_eps=0.0, train_freq=4, gradient_steps=2, batch_size=16, seed=0,
        device="cpu", buffer_size=1000, replay_buffer_class=LMReplayBuffer,
        replay_buffer_kwargs={"n_steps": None, "gamma": 1.0}, policy_kwargs={"lm": lm},
    )  # fmt: skip


def proposing(lm):
    return one_word(8, wrapper=lambda envs: TopKActions(envs, lm=lm, k=4, device="cpu"))


def test_proposals(copying, ignoring):
    """The texts are written of proposals, and the frozen model scores them."""
    rows = learn(make_dqn(proposing(ignoring), ignoring), 1200, DiagnosticsCallback())
    found = [row[MI] for row in rows if MI in row]
    assert found
    assert found == pytest.approx([0.0] * len(found), abs=1e-5)
    # At first the policy is the model's among four tokens that are equally likely.
    entropies = [row["diagnostics/entropy"] for row in rows if "diagnostics/entropy" in row]
    assert entropies[0] == pytest.approx(np.log(4), abs=0.3)
    rows = learn(make_dqn(proposing(copying), copying), 300, DiagnosticsCallback())
    assert next(row[MI] for row in rows if MI in row) == pytest.approx(np.log(8), abs=1e-5)


def test_the_entropy_of_a_choice(checkpoint):
    """At first, that of the model's probabilities among the proposals."""
    venv = proposing(checkpoint())
    observations = venv.reset()
    probabilities = np.exp(observations["logprobs"].astype(np.float64))
    probabilities /= probabilities.sum(1, keepdims=True)
    expected = -(probabilities * np.log(probabilities)).sum(1).mean()
    model = make_dqn(venv, checkpoint())
    assert model.policy.choice_entropy(observations) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["ppo", "dqn"])
def test_a_training_is_the_same_with_and_without_it(kind, checkpoint):
    """Bit for bit: weights, and the random generators at the end."""

    def trained(*callbacks):
        if kind == "ppo":
            model = make_ppo(one_word(), checkpoint())
        else:
            model = make_dqn(proposing(checkpoint()), checkpoint())
        rows = learn(model, 16 * 64, list(callbacks))
        generators = torch.random.get_rng_state(), np.random.get_state()[1]
        return dict(model.policy.state_dict()), generators, rows

    weights, generators, rows = trained(DiagnosticsCallback())
    assert any(MI in row for row in rows)
    without, others, rows = trained()
    assert not any(MI in row for row in rows)
    assert weights.keys() == without.keys()
    assert all(torch.equal(weights[name], without[name]) for name in weights)
    assert torch.equal(generators[0], others[0])
    assert (generators[1] == others[1]).all()


@pytest.mark.parametrize("kind", ["ppo", "dqn"])
def test_a_resumed_training_logs_the_same(kind, checkpoint, tmp_path):
    def make():
        if kind == "ppo":
            return make_ppo(one_word(), checkpoint())
        return make_dqn(proposing(checkpoint()), checkpoint())

    def without_times(rows):
        return [
            {key: value for key, value in row.items() if not key.startswith("time/")}
            for row in rows
        ]

    truth = DiagnosticsCallback()
    rows = learn(make(), 16 * 192, truth)

    first = DiagnosticsCallback()
    saving = Checkpoints(tmp_path, every=256, extra=first.get_state)
    begun = learn(make(), 16 * 48, [first, saving])
    second, model = DiagnosticsCallback(), make()
    rest = Rows()
    model.set_logger(Logger(None, [rest]))
    second.set_state(load_checkpoint(model, tmp_path))
    model.learn(16 * 192 - model.num_timesteps, callback=second, reset_num_timesteps=False)
    assert without_times(begun + rest.rows) == without_times(rows)
    assert second.watch.courses() == truth.watch.courses()
    assert second.watch.warnings == truth.watch.warnings
    assert any(MI in row for row in rest.rows)


def test_the_last_update_is_the_last_point(checkpoint):
    """Its explained variance is not written before the next rollout."""
    model, callback = make_ppo(one_word(), checkpoint()), DiagnosticsCallback()
    rows = learn(model, 16 * 64, callback)
    assert len(rows) == 4
    explained = callback.watch.courses()["train/explained_variance"]
    unwritten = model.logger.name_to_value["train/explained_variance"]
    assert explained[-1] == (model.num_timesteps, pytest.approx(unwritten))
    information = callback.watch.courses()[MI]
    assert [step for step, _ in information] == [256, model.num_timesteps]
    assert sum(MI in row for row in rows) == 1
    state = callback.get_state()
    learn(model, 256, callback, reset_num_timesteps=False)
    again = DiagnosticsCallback()
    again.set_state(state)
    assert len(again.watch.courses()["train/explained_variance"]) == len(explained) - 1


def test_another_training_begins_anew(checkpoint):
    model, callback = make_ppo(one_word(), checkpoint()), DiagnosticsCallback()
    learn(model, 256, callback)
    learn(model, 256, callback)
    assert callback.watch.courses()["episode/length"][0][0] == 256
    learn(model, 256, callback, reset_num_timesteps=False)
    assert callback.watch.courses()["episode/length"][-1][0] == 512
    assert all(isinstance(each, Rows) for each in model.logger.output_formats)


def test_agents_and_environments_of_others():
    """No text, no language model, no infos: what there is, is logged."""
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, seed=0, device="cpu")
    rows = learn(model, 64, DiagnosticsCallback())
    assert rows[0]["diagnostics/entropy"] == pytest.approx(np.log(2), abs=0.05)
    assert not any(name.startswith("reward_shares") for name in rows[0])


# ---------------------------------------------------------------------- warnings


def course(rows, first=None):
    """The sentences that rows of a log give."""
    found = []
    watch = Watch(lambda step, sentence: found.append((step, sentence)))
    for step, row in enumerate([*([first] if first else []), *rows]):
        watch.add(step, row)
    return found


TIED = "diagnostics/groups_without_variance"
EXPLAINED = "train/explained_variance"
RATIO = {"diagnostics/length_ratio": 2.5, "episode/length": 50.0}


@pytest.mark.parametrize(
    ("rows", "at", "says"),
    [
        ([{MI: 0.02, MOST: 2.77}] * 4, 1, "(mutual information 0.02 of at most 2.77 nats)"),
        ([{TIED: 0.94}] * 9, 2, "94% of the groups"),
        ([{EXPLAINED: -0.2}] * 12, 9, "explained variance -0.20, below 0"),
        ([{"diagnostics/entropy": 2.0}, *[{"diagnostics/entropy": 0.01}] * 5], 3, "0.010 nats"),
        ([RATIO] * 4, 2, "50 tokens on average, 2.5 times as many"),
        ([{"episode/length": 9.0}, *[{"episode/finish_length": 0.97}] * 4], 3, "97% of the"),
        ([{"reward_shares/a": 0.98, "reward_shares/b": 0.02}] * 4, 2, "term 'a' explains 98%"),
    ],
)
def test_a_warning(rows, at, says):
    ((step, sentence),) = course(rows)
    assert step == at
    assert says in sentence


def test_no_warning():
    assert course([{MI: 0.5, MOST: 2.77}, {MI: 0.0, MOST: 2.77}] * 5) == [], "not twice in a row"
    assert course([{MI: 0.0, MOST: 0.0}] * 5) == []
    assert course([{TIED: 0.94}, {"episode/length": 3.0}, {TIED: 0.94}, {TIED: 0.5}] * 5) == []
    assert course([{EXPLAINED: -0.2}] * 9) == []
    assert course([{EXPLAINED: float("nan")}] * 20) == []
    assert course([{"diagnostics/entropy": 0.01}] * 9) == [], "it was so from the beginning"
    assert course([{"episode/length": 9.0, "episode/finish_length": 1.0}] * 9) == []
    assert course([{"reward_shares/a": 0.6, "reward_shares/b": 0.4}] * 9) == []


def test_a_long_history_is_thinned():
    watch = Watch(lambda *_: None)
    for step in range(5000):
        watch.add(step, {"episode/length": float(step)})
    points = watch.courses()["episode/length"]
    assert 128 <= len(points) <= 256
    steps, values = zip(*points, strict=True)
    assert list(steps) == sorted(set(steps))
    assert steps[-1] == 4999
    assert all(before <= after for before, after in itertools.pairwise(values))


def test_rows_of_few_episodes_are_averaged():
    """Weighted by their episodes; the rest at the end is a point too."""
    watch = Watch(lambda *_: None)
    for step, (count, value) in enumerate([(10, 1.0), (30, 2.0), (40, 4.0), (5, 7.0)]):
        watch.add(step, {"episode/length": value, "episode/count": count})
    mean = (10 * 1 + 30 * 2 + 40 * 4) / 80
    assert watch.courses()["episode/length"] == [(2, pytest.approx(mean)), (3, 7.0)]
    rare = [{TIED: 1.0, "episode/count": 8}] * 20
    assert course(rare) == [], "160 episodes are two rows, and not three"
    assert [step for step, _ in course(rare * 2)] == [23]

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from tests.rewards.neural.checkpoints import CONTEXT, WORDS, write
from textgym.errors import RewardError
from textgym.rewards.neural.classifier import Classifier, RewardModel

LABELS = {"id2label": {0: "NEGATIVE", 1: "neutral", 2: "POSITIVE"}}
TEXTS = [
    "the movie was very good !",
    "bad",
    "the cat sat on the mat , a dog ran .",
    "not good . not good",
    "strange unknown words",
    "it was great <eos>",
    "",
]
CHAT = "{% for m in messages %}<{{ m.role[0] }}> {{ m.content }} <eos>\n{% endfor %}"


@pytest.fixture(scope="module", params=["bert", "gpt2", "roberta"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    where = tmp_path_factory.mktemp(request.param)
    return write(where, request.param, "classes", num_labels=3, **LABELS)


def library(folder: str, texts: list[Any], **options: Any) -> list[dict[str, float]]:
    """The scores of transformers' pipeline, text by text."""
    pipe = pipeline("text-classification", model=folder, device="cpu", top_k=None, **options)
    # A decoder reads no empty text there: the start token stands for it here.
    texts = [text or "<eos>" if pipe.tokenizer.cls_token is None else text for text in texts]
    return [{one["label"]: one["score"] for one in pipe([text])[0]} for text in texts]


@pytest.mark.parametrize("batch_tokens", [1, 12, 8192])
def test_it_is_the_pipelines(folder: str, batch_tokens: int) -> None:
    expected = library(folder, TEXTS)
    logits = library(folder, TEXTS, function_to_apply="none")
    options = {"device": "cpu", "batch_tokens": batch_tokens}
    assert max(one["POSITIVE"] for one in expected) - min(one["POSITIVE"] for one in expected) > 0.1
    for label, index in (("POSITIVE", 2), ("neutral", 1)):
        wanted = [one[label] for one in expected]
        for name in (label, index, label.swapcase()):
            assert Classifier(folder, name, **options)(TEXTS, TEXTS) == pytest.approx(wanted, 1e-4)
        logs = Classifier(folder, label, "log_probability", **options)(TEXTS, TEXTS)
        assert logs == pytest.approx([math.log(one) for one in wanted], abs=1e-4)
        raw = Classifier(folder, label, "logit", **options)(TEXTS, TEXTS)
        assert raw == pytest.approx([one[label] for one in logits], abs=1e-4)


def test_labels_that_do_not_exclude_each_other(tmp_path: Path) -> None:
    write(tmp_path, "bert", "classes", problem_type="multi_label_classification", **LABELS)
    expected = library(str(tmp_path), TEXTS)
    assert abs(sum(expected[0].values()) - 1) > 0.01
    got = Classifier(str(tmp_path), "POSITIVE", device="cpu")(TEXTS, TEXTS)
    assert got == pytest.approx([one["POSITIVE"] for one in expected], rel=1e-4)
    one = write(tmp_path / "one", "bert", "classes", num_labels=1)
    expected = [next(iter(scores.values())) for scores in library(one, TEXTS)]
    assert Classifier(one, 0, device="cpu")(TEXTS, TEXTS) == pytest.approx(expected, rel=1e-4)


def test_pairs(tmp_path: Path) -> None:
    folder = write(tmp_path, "bert", "classes", **LABELS)
    prompts = ["the cat", "a dog ran on the mat", "it", "the film was very good"]
    pairs = [{"text": p, "text_pair": t} for p, t in zip(prompts, TEXTS[:4], strict=True)]
    expected = [one["POSITIVE"] for one in library(folder, pairs)]
    got = Classifier(folder, "POSITIVE", pair=True, device="cpu")(prompts, TEXTS[:4])
    assert got == pytest.approx(expected, rel=1e-4)
    # The order of the two counts, and so does what is second.
    turned = Classifier(folder, "POSITIVE", pair=True, device="cpu")(TEXTS[:4], prompts)
    assert turned != pytest.approx(expected, rel=1e-3)
    joined = Classifier(folder, "POSITIVE", template="{prompt} {completion}", device="cpu")
    together = [f"{p} {t}" for p, t in zip(prompts, TEXTS[:4], strict=True)]
    wanted = [one["POSITIVE"] for one in library(folder, together)]
    assert joined(prompts, TEXTS[:4]) == pytest.approx(wanted, rel=1e-4)


def test_braces_within_texts_are_left_alone(tmp_path: Path) -> None:
    folder = write(tmp_path, "bert", "classes", **LABELS)
    reward = Classifier(folder, 0, template="{prompt} . {completion} {x}", device="cpu")
    plain = Classifier(folder, 0, device="cpu")
    text = "{completion} . {prompt} {0} {x}"
    assert reward(["{completion}"], ["{prompt} {0}"]) == plain([""], [text])


@pytest.mark.parametrize("kind", ["bert", "gpt2", "roberta"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_long_texts_lose_one_end(tmp_path: Path, kind: str, side: str) -> None:
    folder = write(tmp_path, kind, "classes", **LABELS)
    around = 0 if kind == "gpt2" else 2
    # RoBERTa's 17 positions begin behind that of its padding token.
    room = CONTEXT - around
    words = [WORDS[i * 5 % len(WORDS)] for i in range(60)]
    kept = words[:room] if side == "right" else words[-room:]
    reward = Classifier(folder, 1, truncate=side, device="cpu")
    expected = reward([""], [" ".join(kept)])
    assert reward([""], [" ".join(words)]) == expected
    shorter = kept[:-1] if side == "right" else kept[1:]
    assert reward([""], [" ".join(shorter)]) != pytest.approx(expected, rel=1e-6)
    few = Classifier(folder, 1, truncate=side, max_tokens=4 + around, device="cpu")
    kept = words[:4] if side == "right" else words[-4:]
    assert few([""], [" ".join(words)]) == reward([""], [" ".join(kept)])
    with pytest.raises(RewardError, match=f"max_tokens=17, but .* reads at most {CONTEXT} tokens"):
        Classifier(folder, 1, max_tokens=17, device="cpu")([""], ["a"])


@pytest.mark.parametrize("pad", [None, "spare row", "eos"])
def test_a_decoder_reads_the_last_token(tmp_path: Path, pad: str | None) -> None:
    """Also where that is eos, and padding would be, as single texts do in transformers."""
    options = {"vocab_size": 40} if pad == "spare row" else {}
    if pad == "eos":  # Then transformers itself passes over a text's own eos.
        options = {"pad_token_id": 4}
    folder = write(tmp_path, "gpt2", "classes", **LABELS, **options)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = ["good <eos>", "the cat sat on the mat", "good", "<eos> bad bad <eos> <eos>", "dog ran"]
    expected = []
    for text in texts:
        with torch.no_grad():
            expected.append(float(model(**tokenizer(text, return_tensors="pt")).logits[0, 1]))
    got = Classifier(folder, 1, "logit", device="cpu")([""] * 5, texts)
    assert got == pytest.approx(expected, abs=1e-4)
    assert (abs(expected[0] - expected[2]) < 1e-5) == (pad == "eos")


def test_padding_on_the_left_for_xlnet(tmp_path: Path) -> None:
    folder = write(tmp_path, "xlnet", "classes", **LABELS)
    reward = Classifier(folder, 1, "logit", cache_size=0, device="cpu")
    alone = [reward([""], [text])[0] for text in TEXTS]
    assert reward([""] * len(TEXTS), TEXTS) == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "score"}, "output .*not 'score'"),
        ({"label": None}, "label .*not None"),
        ({"label": True}, "label .*not True"),
        ({"template": "{prompt}"}, "template must"),
        ({"template": "{completion}", "pair": True}, "pair=True .*template"),
        ({"truncate": "both"}, "truncate .*not 'both'"),
        ({"max_tokens": 0}, "max_tokens .*not 0"),
    ],
)
def test_impossible_options(options: dict, message: str) -> None:
    with pytest.raises(RewardError, match=f"^classifier: .*{message}"):
        Classifier(**{"model": "m", "label": 0, **options})


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("POSITVE", r"'POSITVE'.*did you mean 'POSITIVE'\?.*0: 'NEGATIVE', 1: 'neutral'"),
        (3, "cannot find the label 3 .* Its labels: 0: 'NEGATIVE'"),
        (-1, "cannot find the label -1"),
    ],
)
def test_unknown_labels(tmp_path: Path, label: Any, message: str) -> None:
    folder = write(tmp_path, "bert", "classes", **LABELS)
    with pytest.raises(RewardError, match=message):
        Classifier(folder, label, device="cpu")([""], ["a"])


def test_a_regression_has_no_probability(tmp_path: Path) -> None:
    folder = write(tmp_path, "bert", "classes", num_labels=1, problem_type="regression")
    with pytest.raises(RewardError, match="use output='logit', or the reward 'reward_model'"):
        Classifier(folder, 0, device="cpu")([""], ["a"])
    assert Classifier(folder, 0, "logit", device="cpu")([""], ["a"]) == RewardModel(
        folder, template="{completion}", device="cpu"
    )([""], ["a"])


# -- reward models ---------------------------------------------------------------------------------


def raw(folder: str, *texts: Any, **options: Any) -> list[float]:
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        inputs = [tokenizer(*text, return_tensors="pt", **options) for text in texts]
        return [float(model(**one).logits[0, 0]) for one in inputs]


def test_reward_models(tmp_path: Path) -> None:
    folder = write(tmp_path, "bert", "classes", num_labels=1)
    prompts, said = ["the cat", "a film", "it was"], [" sat", "good", "not very good !"]
    pairs = list(zip(prompts, said, strict=True))
    joined = [(p + t,) for p, t in pairs]
    expected = raw(folder, *joined)
    assert RewardModel(folder, device="cpu")(prompts, said) == pytest.approx(expected, abs=1e-4)
    scaled = RewardModel(folder, center=0.5, scale=2.0, device="cpu")(prompts, said)
    assert scaled == pytest.approx([(one - 0.5) / 2 for one in expected], abs=1e-4)
    in_pairs = RewardModel(folder, form="pair", device="cpu")(prompts, said)
    assert in_pairs == pytest.approx(raw(folder, *pairs), abs=1e-4)
    template = RewardModel(folder, template="{completion} . {prompt}", device="cpu")
    turned = raw(folder, *[(f"{t} . {p}",) for p, t in pairs])
    assert template(prompts, said) == pytest.approx(turned, abs=1e-4)
    with pytest.raises(RewardError, match="its tokenizer has no chat template; use form='text'"):
        RewardModel(folder, form="chat", device="cpu")(prompts, said)


def test_chats(tmp_path: Path) -> None:
    options = {"num_labels": 1, "n_positions": 64}
    folder = write(tmp_path, "gpt2", "classes", tokenizer={"chat_template": CHAT}, **options)
    prompts, said = ["the cat", "a film"], ["sat", "was very good !"]
    turns = [f"<u> {p} <eos>\n<a> {t} <eos>\n" for p, t in zip(prompts, said, strict=True)]
    expected = raw(folder, *[(one,) for one in turns], add_special_tokens=False)
    for form in ("auto", "chat"):
        got = RewardModel(folder, form=form, device="cpu")(prompts, said)
        assert got == pytest.approx(expected, abs=1e-4)
    system = RewardModel(folder, system="bad dog", device="cpu")(prompts, said)
    with_system = [(f"<s> bad dog <eos>\n{one}",) for one in turns]
    assert system == pytest.approx(raw(folder, *with_system), abs=1e-4)
    plain = RewardModel(folder, form="text", device="cpu")(prompts, said)
    joined = raw(folder, *[(p + t,) for p, t in zip(prompts, said, strict=True)])
    assert plain == pytest.approx(joined, abs=1e-4)


def test_a_reward_model_reads_messages_in_its_own_template(tmp_path: Path) -> None:
    options = {"num_labels": 1, "n_positions": 64}
    folder = write(tmp_path, "gpt2", "classes", tokenizer={"chat_template": CHAT}, **options)
    talks: list[list[dict[str, str]]] = [
        [{"role": "system", "content": "bad dog"}, {"role": "user", "content": "the cat"}],
        [{"role": "user", "content": "a film"}, {"role": "assistant", "content": "was very"}],
    ]
    said = ["sat", " good !"]
    expected = raw(
        folder,
        ("<s> bad dog <eos>\n<u> the cat <eos>\n<a> sat <eos>\n",),
        ("<u> a film <eos>\n<a> was very good ! <eos>\n",),
        add_special_tokens=False,
    )
    reward = RewardModel(folder, device="cpu")
    # As TRL gives them, and as an environment does: rendered by the template of the policy.
    assert reward(talks, said) == pytest.approx(expected, abs=1e-4)
    rendered = ["[S] bad dog [U] the cat [A]", "[U] a film [A] was very"]
    assert reward(rendered, said, messages=talks) == pytest.approx(expected, abs=1e-4)
    assert reward(rendered, said) != pytest.approx(expected, abs=1e-4)
    plain = RewardModel(folder, form="text", device="cpu")(rendered, said, messages=talks)
    texts = [("bad dog\nthe catsat",), ("a film\nwas very good !",)]
    assert plain == pytest.approx(raw(folder, *texts), abs=1e-4)


def test_the_completion_of_a_long_prompt_is_read(tmp_path: Path) -> None:
    folder = write(tmp_path, "gpt2", "classes", num_labels=1)
    reward = RewardModel(folder, device="cpu")
    good, bad = reward(["the cat " * 50] * 2, ["good", "bad"])
    assert good != pytest.approx(bad, abs=1e-4)


def test_a_reward_model_has_one_label(tmp_path: Path) -> None:
    folder = write(tmp_path, "bert", "classes", **LABELS)
    with pytest.raises(RewardError, match=r"it has 3 labels, .* use the reward 'classifier'"):
        RewardModel(folder, device="cpu")([""], ["a"])
    for options in ({"scale": 0.0}, {"scale": -1.0}, {"center": math.nan}):
        with pytest.raises(RewardError, match="center must"):
            RewardModel(folder, **options)
    with pytest.raises(RewardError, match="form must"):
        RewardModel(folder, form="dialogue")


def test_pickles(tmp_path: Path) -> None:
    folder = write(tmp_path, "bert", "classes", **LABELS)
    reward = Classifier(folder, "positive", "logit", truncate="left", device="cpu")
    values = reward(TEXTS, TEXTS)
    again = pickle.loads(pickle.dumps(reward))
    assert repr(again) == repr(reward)
    assert again(TEXTS, TEXTS) == values

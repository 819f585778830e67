"""Sentences translated by hand, and the splits by enumeration."""

import copy
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.documents import document_scores
from textgym.data.rows import as_row
from textgym.errors import TaskError
from textgym.tasks.translate import chinese as translate_chinese
from textgym.tasks.translate import english as translate_english
from textgym.tasks.translate.lexicon import ADJECTIVES, HELD_OUT, NOUNS, PLACES, TIMES, VERBS
from textgym.tasks.translate.meaning import Unreadable, clauses, parts, phrases
from textgym.tasks.translate.task import DIRECTIONS, Translate
from textgym.tasks.translate.world import draw_sentence
from textgym.tasks.translate.writer import chinese, english
from textgym.testing import check_task

BOTH = [(direction, level) for direction in DIRECTIONS for level in Translate.levels]


class Back(Translate):
    """The other direction, as a class for `check_task`."""

    def __init__(self, level=None, split="train"):
        super().__init__(level, split, direction="zh-en")


def test_contract_in_the_other_direction():
    check_task(Back, n=60)


def meaning(text):
    """The parts of a sentence that both languages have."""
    into_chinese = not text.isascii()
    reader = translate_chinese if into_chinese else translate_english
    said = parts(reader.read(text), into_chinese)
    assert "wrong" not in str(said)
    return {part for part in said if ".measure=" not in part}


def fits(gold, text):
    """Whether a text has exactly the parts `gold`."""
    said = dict(part.split("=") for part in meaning(text))
    wanted = dict(part.replace("_", " ").split("=") for part in gold)
    return said.keys() == wanted.keys() and all(
        wanted[role] in values.split("|") for role, values in said.items()
    )


# Sentences translated by hand: their meaning, and possible wordings in both languages.
BY_HAND = [
    (
        "verb=buy tense=past time=yesterday place=market agent=teacher patient=hat"
        " patient.det=two patient.adj=red",
        "Yesterday the teacher bought two red hats at the market."
        "|The teacher bought two red hats at the market yesterday."
        "|The teacher bought two red hats yesterday in the market."
        "|Yesterday, the teacher has bought two red hats at the market.",
        "老师昨天在市场买了两顶红帽子。|昨天老师在市场买了两顶红色的帽子。"
        "|教师昨天在市场里购买了两顶红的帽子。|昨天，老师在市场买了两顶红色帽子。",
    ),
    (
        "verb=write tense=past polarity=not agent=she patient=letter patient.det=any",
        "She did not write any letters.|She didn't write any letters.|She has not written letters."
        "|She did not write a letter.",
        "她没写信。|她没有写信。",
    ),
    (
        "verb=read tense=future mood=question agent=Anna patient=book patient.det=this",
        "Will Anna read this book?|Is Anna going to read this book?",
        "安娜会读这本书吗？|安娜会看这本书吗？|安娜要读这一本书吗？|安娜将会阅读这本书吗？",
    ),
    (
        "verb=give tense=past agent=he patient=key patient.owner=I to=doctor",
        "He gave the doctor my key.|He gave my key to the doctor.",
        "他给了医生我的钥匙。|他把我的钥匙给了医生。|他交给了大夫我的钥匙。",
    ),
    (
        "verb=eat tense=present time=every_day agent=I patient=egg patient.det=three",
        "I eat three eggs every day.|Every day I eat three eggs.",
        "我每天都吃三个鸡蛋。|我每天吃三个鸡蛋。|每天我吃三个鸡蛋。|每天我都吃三个鸡蛋。",
    ),
    (
        "verb=dance tense=progressive time=now place=garden agent=student agent.det=plural",
        "Now the students are dancing in the garden.|The students are dancing in the garden now.",
        "学生们现在正在花园里跳舞。|现在学生们在花园里跳舞。|学生们现在正在花园跳舞。",
    ),
    (
        "verb=don tense=want agent=Emma patient=scarf patient.owner=Rosa",
        "Emma wants to wear Rosa's scarf.",
        "艾玛想戴罗莎的围巾。|艾玛想要戴罗莎的围巾。",
    ),
    (
        "verb=wear tense=past agent=Emma patient=coat patient.det=a patient.adj=old",
        "Emma wore an old coat.",
        "艾玛穿了一件旧大衣。|艾玛穿了一件旧外套。|艾玛穿了一件旧的大衣。",
    ),
    (
        "verb=ride tense=can agent=they patient=horse patient.det=that patient.adj=aged",
        "They can ride that old horse.|They can ride the old horse.",
        "他们能骑那匹老马。|他们会骑那匹老马。|她们可以骑那匹老马。",
    ),
    (
        "verb=have tense=present polarity=not agent=we patient=cat patient.det=any",
        "We do not have any cats.|We don't have cats.",
        "我们没有猫。",
    ),
    (
        "verb=make tense=past for=Lucy agent=Paul patient=kite patient.det=a",
        "Paul made a kite for Lucy.|Paul made Lucy a kite.",
        "保罗给露西做了一只风筝。|保罗为露西做了一个风筝。",
    ),
    (
        "verb=lose tense=past agent=Tom patient=ring patient.verb=buy patient.tense=past"
        " patient.agent=nurse patient.time=last_week",
        "Tom lost the ring that the nurse bought last week."
        "|Tom lost the ring which the nurse bought last week.",
        "汤姆弄丢了护士上周买的戒指。|汤姆丢了护士上个星期买的那枚戒指。"
        "|汤姆把护士上周买的戒指弄丢了。",
    ),
    (
        "verb=sleep tense=past agent=driver agent.verb=sell agent.tense=past agent.patient=car"
        " agent.patient.det=a",
        "The driver who sold a car slept.|The driver that sold a car slept.",
        "卖了一辆汽车的司机睡觉了。|那个卖了一辆车的司机睡了。",
    ),
    (
        "verb=think tense=present agent=Sara that.verb=know that.tense=present that.agent=chef"
        " that.that.verb=cook that.that.tense=past that.that.agent=you that.that.patient=fish"
        " that.that.patient.det=a",
        "Sara thinks that the chef knows that you cooked a fish."
        "|Sara thinks the chef knows you cooked a fish.",
        "萨拉觉得厨师知道你煮了一条鱼。|萨拉认为厨师知道你做了一条鱼。",
    ),
    (
        "verb=cry tense=past agent=boy because.verb=steal because.tense=past because.agent=Adam"
        " because.patient=ball because.patient.owner=he",
        "The boy cried because Adam stole his ball.|Because Adam stole his ball, the boy cried.",
        "因为亚当偷了他的球，所以男孩哭了。|男孩哭了，因为亚当偷了他的球。"
        "|因为亚当偷走了他的球，男孩哭了。",
    ),
    (
        "verb=help tense=past agent=farmer patient=she but.verb=thank but.tense=past"
        " but.polarity=not but.agent=she but.patient=he",
        "The farmer helped her, but she did not thank him.",
        "农民帮助了她，但是她没感谢他。|农夫帮了她，可是她没有谢他。",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("said", "ours", "theirs"), BY_HAND)
def test_sentences_translated_by_hand(said, ours, theirs):
    for text in (*ours.split("|"), *theirs.split("|")):
        assert fits(said.split(), text), (text, meaning(text))
    first, second = ours.split("|")[0], theirs.split("|")[0]
    for task, source, answers in (
        (Translate(3), f"English: {first}\nChinese:", theirs.split("|")),
        (Translate(3, direction="zh-en"), f"中文: {second}\nEnglish:", ours.split("|")),
    ):
        row = task.complete_row({"prompt": source})
        for answer in answers:
            assert task.score(f" {answer}", row) == 1.0, answer


@pytest.mark.parametrize(
    "text",
    [
        "She buy a hat.", "She buys an hat.", "She bought two hat.", "She did not bought a hat.",
        "She bought hat.", "she bought a hat.", "She bought a hat", "She bought a hat?",
        "Did she buy a hat.", "She a hat bought.", "She bought a hat .", "She  bought a hat.",
        "They is dancing.", "I are dancing.", "He want to dance.", "The boys dances.",
        "She bought a hat, she cried.", "She bought a hat red.", "Anna gave a book.extra.",
        "The doctor who a hat bought slept.", "Bought she a hat?", "She bought these hat.",
        "她买了两顶帽子", "她买了两顶帽子吗。", "她买了两顶帽子？", "她两顶帽子买了。",
        "她买了两顶帽子昨天。", "她在市场昨天买了两顶帽子。", "她买了两顶帽子在市场。",
        "她买了 两顶帽子。", "她买了漂亮帽子。", "她不买了两顶帽子。", "她没买了两顶帽子。",
        "她会买了两顶帽子。", "两顶帽子。", "她买了两顶帽子。她买了两顶帽子。", "她没会买帽子。",
        "她买了帽子们。", "她买老师的。", "因为她哭了。", "她哭了，他笑了。", "她买了两顶帽子.",
        "她买了两顶 hats。", "她正公园跳舞。", "她正在在跳舞。", "。", "？",
    ],
)  # fmt: skip
def test_ungrammatical_texts(text):
    reader = translate_english if text.isascii() else translate_chinese
    with pytest.raises(Unreadable):
        reader.read(text)


def row_of(sentence, direction="en-zh"):
    task = Translate(direction=direction)
    shape = "English: {}\nChinese:" if direction == "en-zh" else "中文: {}\nEnglish:"
    return task, task.complete_row({"prompt": shape.format(sentence)})


@pytest.mark.parametrize(
    ("text", "f1"),
    [
        # Verb, tense, time, agent, patient, number, measure word: seven parts.
        (" 老师昨天买了两顶帽子。", 1),
        ("昨天老师买了两顶帽子。", 1),
        (" 老师昨天买了两个帽子。", 6 / 7),  # the measure word
        (" 老师昨天买了三顶帽子。", 6 / 7),  # the number
        (" 老师昨天卖了两顶帽子。", 6 / 7),  # the verb
        (" 老师昨天买了两把雨伞。", 6 / 7),  # the thing, with its own measure word
        (" 老师昨天买两顶帽子。", 6 / 7),  # the tense
        (" 老师买了两顶帽子。", 2 * 6 / 13),  # no time: one part less
        (" 老师昨天在市场买了两顶帽子。", 2 * 7 / 15),  # a place: one part more
        (" 老师昨天买了帽子。", 2 * 5 / 13),  # another number, so no measure word
        (" 他哭了。", 2 * 1 / 10),  # in the past, that is all
    ],
)
def test_scores_by_hand(text, f1):
    task, row = row_of("The teacher bought two hats yesterday.")
    assert task.score(text, row) == pytest.approx(f1**3)


@pytest.mark.parametrize(
    ("text", "pairs", "length"),
    [
        # The reference, 老师昨天买了两顶帽子。, has 11 characters and so 12 pairs with its ends.
        (" 老师昨天买了两顶帽子", 10, 10),
        (" 老师买了两顶帽子昨天。", 2 + 5 + 1 + 1, 11),
        (" hat", 0, 3),
        (" 老师老师老师", 2, 6),
    ],
)
def test_similarity_by_hand(text, pairs, length):
    task, row = row_of("The teacher bought two hats yesterday.")
    assert row["reference"] == " 老师昨天买了两顶帽子。"
    assert task.score(text, row) == pytest.approx(0.4 * (2 * pairs / (12 + length + 1)) ** 3)


def test_similarity_in_english_is_of_words():
    task, row = row_of("老师昨天买了两顶帽子。", "zh-en")
    assert row["reference"] == " The teacher bought two hats yesterday."
    # "The teacher" and "bought two" of 7 and 7 pairs, and the beginning.
    assert task.score(" The teacher have bought two hat.", row) == pytest.approx(
        0.4 * (2 * 3 / (7 + 7)) ** 3
    )


@pytest.mark.parametrize(
    ("source", "direction", "text", "f1"),
    [
        # An additional or missing negation, which is a wrong part as well.
        ("The teacher bought two hats yesterday.", "en-zh", "老师昨天没买两顶帽子。", 2 * 7 / 15),
        ("The teacher bought two hats yesterday.", "en-zh", "老师昨天没买这顶帽子。", 2 * 6 / 15),
        ("The girl did not dance.", "en-zh", "女孩跳舞了。", 2 * 3 / 7),
        (
            "老师昨天买了两顶帽子。",
            "zh-en",
            "The teacher did not buy two hats yesterday.",
            2 * 6 / 13,
        ),
        # In a nested clause.
        ("Tom thinks that Anna cried.", "en-zh", "汤姆觉得安娜没哭。", 2 * 6 / 13),
    ],
)
def test_the_opposite_meaning_scores_low(source, direction, text, f1):
    task, row = row_of(source, direction)
    assert task.score(text, row) == pytest.approx(0.4 * f1**3)


USUAL = [
    ("I eat Adam's egg every year.", "我每年都吃亚当的鸡蛋。|每年我都吃亚当的鸡蛋。"),
    ("The boy stole two letters this morning.", "这个男孩今早偷了两封信。|那男孩今早偷了两封信。"),
    ("The boys met Tom.", "这些男孩遇见了汤姆。|男孩们遇见了汤姆。|那些男孩子遇到过汤姆。"),
    ("Did David wash any blankets last month?", "大卫上个月洗过毯子吗？|大卫上月有没有洗过毯子？"),
    ("She did not wash any blankets.", "她没洗过毯子。|她没有洗过毯子。"),
    ("The girl did not dance.", "女孩没跳过舞。|女孩没有跳舞。"),
    ("The girl danced.", "女孩跳过舞。|女孩跳过舞了。"),
    (
        "Emma did not ride that white cow with the driver in the garden.",
        "艾玛没在花园里和司机一起骑那头白牛。|艾玛没有和司机在花园里一起骑那头白牛。"
        "|艾玛和司机没有一起在院里骑那头白牛。",
    ),
    (
        "Does Adam want to wear this beautiful ring in the village next week?",
        "亚当下周想在村里戴这枚漂亮的戒指吗？|亚当下周想在村里面戴这枚漂亮的戒指吗？",
    ),
    ("They will laugh in the garden.", "他们会在花园中笑。|他们会在院里笑。"),
    (
        "His doctor laughed because the driver helped the student.",
        "他的医生笑了因为司机帮助了学生。|他的医生笑了，因为那个司机帮助了这个学生。",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("english", "answers"), USUAL)
def test_usual_chinese(english, answers):
    task, row = row_of(english)
    for answer in answers.split("|"):
        assert task.score(f" {answer}", row) == 1.0, answer


@pytest.mark.parametrize(
    "text",
    [
        "她都每天吃三个鸡蛋。", "她昨天都吃了三个鸡蛋。", "她不洗过毯子。", "她会洗过毯子。",
        "她没洗过毯子了。", "她没跳了舞。", "她不跳过舞。", "她想跳过舞。", "她在村里里哭了。",
        "她在村哭了。", "她一起哭了。", "她和他一起一起哭了。", "她哭了他笑了。",
        "她在在村子里哭。", "她在正在村子里哭。", "她正在正在村子里哭。",
    ],
)  # fmt: skip
def test_unusual_chinese_is_ungrammatical(text):
    with pytest.raises(Unreadable):
        translate_chinese.read(text)


@pytest.mark.parametrize(
    ("text", "f1"),
    [
        # Verb, tense, agent, patient: four parts; articles are not parts.
        ("The girl met the student.", 1),
        ("A girl met a student.", 1),
        ("The girl met students.", 1),
        ("Girls met the students.", 1),
        ("The girl met two students.", 2 * 4 / 9),  # a number: one part more
        ("The girl met my student.", 2 * 4 / 9),
        ("The girl met this student.", 2 * 4 / 9),
        ("The girl met any students.", 2 * 4 / 9),  # not a question
        ("A girl met a doctor.", 3 / 4),
        ("The girl met the doctor.", 3 / 4),  # no article makes up for it
    ],
)
def test_bare_nouns_take_any_article(text, f1):
    task, row = row_of("女孩遇见了学生。", "zh-en")
    assert row["reference"] == " The girl met the student."
    assert task.score(f" {text}", row) == pytest.approx(f1**3)


@pytest.mark.parametrize(
    ("chinese", "answers", "wrong"),
    [
        (
            "大卫洗了毯子吗？",
            "Did David wash any blankets?|Did David wash the blanket?|Did David wash a blanket?"
            "|Did David wash blankets?",
            "Did David wash that blanket?",
        ),
        (
            "杰克喂了学生画的牛。",
            "Jack fed the cow that a student drew.|Jack fed cows which the student drew.",
            "Jack fed two cows that the student drew.",
        ),
        ("杰克喂了那头牛。", "Jack fed that cow.|Jack fed the cow.", "Jack fed a cow."),
        ("学生们哭了。", "The students cried.", "The student cried."),
        ("两个学生哭了。", "Two students cried.", "The students cried."),
    ],
)
def test_determiners_by_hand(chinese, answers, wrong):
    task, row = row_of(chinese, "zh-en")
    for answer in answers.split("|"):
        assert task.score(f" {answer}", row) == 1.0, answer
    assert task.score(f" {wrong}", row) < 0.9


def test_articles_matter_in_the_other_direction():
    task, row = row_of("The boy cried.")
    # Verb, tense, agent; a number and its measure word are two more.
    assert task.score(" 一个男孩哭了。", row) == pytest.approx((2 * 3 / 8) ** 3)
    # An omitted optional part costs nothing, but a wrong measure word does.
    assert task.score(" 这个男孩哭了。", row) == 1.0
    assert task.score(" 这本男孩哭了。", row) == pytest.approx((2 * 3 / 7) ** 3)


def test_roles_matter():
    task, row = row_of("Anna met Tom.")
    assert task.score(" 安娜遇见了汤姆。", row) == 1.0
    assert task.score(" 汤姆遇见了安娜。", row) == pytest.approx((2 / 4) ** 3)


@pytest.mark.parametrize(("direction", "level"), BOTH)
@pytest.mark.parametrize("split", ["train", "eval"])
def test_references_have_the_meaning(direction, level, split):
    """Source and reference parse to the meaning, without the shortcut for the reference."""
    task, rng = Translate(level, split, direction), np.random.default_rng(level)
    for _ in range(400):
        row = task.sample(rng)
        other = {**row, "reference": f"{row['reference']}x"}
        assert task.score(row["reference"], other) == 1.0, row
        completed = task.complete_row({"prompt": row["prompt"]})
        assert completed == row
        assert task.complete_row(row) == row


LIKE = {
    sort: [name for name, noun in NOUNS.items() if noun.sort == sort]
    for sort in {noun.sort for noun in NOUNS.values()}
}


def corruptions(clause):
    """Meanings that differ from a clause in one respect."""

    def changed(change):
        other = copy.deepcopy(clause)
        change(other)
        return other

    for number, phrase in enumerate(phrases(clause)):
        if phrase.head in NOUNS:
            names = LIKE[NOUNS[phrase.head].sort]
            head = names[(names.index(phrase.head) + 1) % len(names)]
            yield changed(lambda one, n=number, h=head: setattr(phrases(one)[n], "head", h))
        if phrase.det in ("a", "two", "this"):
            det = {"a": "two", "two": "three", "this": "a"}[phrase.det]
            yield changed(lambda one, n=number, d=det: setattr(phrases(one)[n], "det", d))
        if phrase.adj:
            yield changed(lambda one, n=number: setattr(phrases(one)[n], "adj", ""))
    for number, part in enumerate(clauses(clause)):
        if not part.ask and part.tense != "progressive":
            yield changed(lambda one, n=number, p=part: setattr(clauses(one)[n], "neg", not p.neg))
        if part.time:
            time = list(TIMES)[list(TIMES).index(part.time) - 1]
            yield changed(lambda one, n=number, t=time: setattr(clauses(one)[n], "time", t))
            yield changed(lambda one, n=number: setattr(clauses(one)[n], "time", ""))
        if part.place:
            place = list(PLACES)[list(PLACES).index(part.place) - 1]
            yield changed(lambda one, n=number, p=place: setattr(clauses(one)[n], "place", p))
        if part.tense in ("past", "future"):
            tense = {"past": "future", "future": "past"}[part.tense]
            yield changed(lambda one, n=number, t=tense: setattr(clauses(one)[n], "tense", t))
    if clause.other is None and not clause.neg:
        yield changed(lambda one: setattr(one, "ask", not one.ask))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(BOTH))
def test_every_corruption_lowers_the_score(seed, case):
    direction, level = case
    task = Translate(level, direction=direction)
    write = chinese if direction == "en-zh" else english
    clause = draw_sentence(iter(np.random.default_rng(seed).random(99).tolist()).__next__, level)
    row = task.generate(np.random.default_rng(seed))
    assert f" {write(clause)}" == row["reference"]
    for other in corruptions(clause):
        text = f" {write(other)}"
        assert text != row["reference"]
        assert task.score(text, row) < 0.95, (text, row)


SILENT = set("里上的会正在个给是汽雨鸡理邀助感弄觉昂都")
"""What may be left out somewhere: 花园里, 明天会, 但是, 每天都, and half of 正在, 汽车, 帮助."""


@pytest.mark.parametrize(("direction", "level"), BOTH)
def test_attacks(direction, level):
    task, rng = Translate(level, direction=direction), np.random.default_rng(level)
    rows = [task.sample(rng) for _ in range(150)]
    for row, other in zip(rows, rows[1:] + rows[:1], strict=True):
        right, wrong = row["reference"], other["reference"]
        body, end = right[:-1], right[-1]
        stop, comma, space, or_ = ("。", "，", "", "或者") if direction == "en-zh" else (
            ".", ",", " ", " or"
        )  # fmt: skip
        for text in (
            right + wrong, wrong + right, right + stop, right + space + right.strip(), f"{right} x",
            body + or_ + wrong, body + comma + wrong, body, f"{right}{row['prompt']}",
            row["prompt"] + right, right.upper() + "!", " ".join(right), f'"{right.strip()}"',
            f"{body}({wrong.strip()}){end}",
        ):  # fmt: skip
            assert task.score(text, row) <= 0.4, text
        if direction == "en-zh":
            for at in range(1, len(right)):
                text = right[:at] + right[at + 1 :]
                silent = right[at] in SILENT or right[at - 1 : at + 2] == "村子里"
                assert task.score(text, row) < 1.0 or silent, (text, row)


@pytest.mark.parametrize(("direction", "level"), BOTH)
def test_constant_sentences_score_low(direction, level):
    """The best constant sentence scores nearly 0."""
    task, rng = Translate(level, direction=direction), np.random.default_rng(level)
    rows = [task.sample(rng) for _ in range(150)]
    texts = [row["reference"] for row in rows[:40]]
    texts += [" 他买了一个苹果。", " 汤姆昨天买了一本书。", " He bought a book."]
    best = max(np.mean([task.score(text, row) for row in rows[40:]]) for text in texts)
    assert best < 0.06


BASELINES = {
    ("en-zh", 1): (0.36, 0.33), ("en-zh", 2): (0.22, 0.23), ("en-zh", 3): (0.34, 0.10),
    ("zh-en", 1): (0.04, 0.34), ("zh-en", 2): (0.02, 0.22), ("zh-en", 3): (0.01, 0.10),
}  # fmt: skip


@pytest.mark.parametrize(("direction", "level"), BOTH)
def test_baselines_and_documents(direction, level):
    task, rng = Translate(level, direction=direction), np.random.default_rng(level + 5)
    rows = [task.sample(rng) for _ in range(400)]
    baselines = task.baselines()
    for name, expected in zip(("gloss", "skeleton"), BASELINES[direction, level], strict=True):
        mean = np.mean([task.score(baselines[name](row, rng), row) for row in rows])
        assert mean == pytest.approx(expected, abs=0.06)

    scores = document_scores(task, 300, " ")
    assert 0.35 < np.mean(scores) < 0.65
    assert np.std(scores) > 0.2


# ------------------------------------------------------------------ splits


def pairs_of(row):
    """Verbs with their objects and adjectives with their nouns, from the parts of a meaning."""
    found = dict(part.split("=") for part in row["meaning"])
    pairs = set()
    for role, value in found.items():
        outer, _, name = role.rpartition(".")
        if name == "adj":
            pairs.add((value, found[outer]))
        if name != "verb":
            continue
        before = f"{outer}." if outer else ""
        if f"{before}patient" in found:
            pairs.add((value, found[f"{before}patient"]))
        elif outer in found and f"{before}agent" in found:  # a relative clause without an object
            pairs.add((value, found[outer]))
    return pairs


def structures_of(row):
    roles = [part.partition("=")[0] for part in row["meaning"]]
    return {role for role in roles if role in ("agent.verb", "that.that.verb")}


@pytest.mark.parametrize(("direction", "level"), BOTH)
def test_eval_recombines_words_of_train(direction, level):
    rows = {}
    for split in ("train", "eval"):
        task, rng = Translate(level, split, direction), np.random.default_rng(7)
        rows[split] = [task.sample(rng) for _ in range(10_000 if split == "train" else 2_000)]
    assert not {row["prompt"] for row in rows["train"]} & {row["prompt"] for row in rows["eval"]}
    for row in rows["train"]:
        assert not pairs_of(row) & HELD_OUT
        assert not structures_of(row)
        assert row["novel"] == []
    known, new = set(), set()
    for row in rows["train"]:
        known |= pairs_of(row)
    for row in rows["eval"]:
        held = pairs_of(row) & HELD_OUT
        new |= held
        assert held or structures_of(row)
        assert len(row["novel"]) >= 1
        assert {" ".join(pair) for pair in held} <= set(row["novel"])
    words = {part.partition("=")[2] for row in rows["train"] for part in row["meaning"]}
    assert not new & known
    assert len(new) > (60 if level == 1 else 100)
    for row in rows["eval"]:
        assert {part.partition("=")[2] for part in row["meaning"]} <= words


def test_train_has_every_word_of_the_lexicon():
    """By enumeration: every held-out word occurs with others in the train split."""
    company = defaultdict(set)
    for name, verb in VERBS.items():
        for noun in verb.nouns:
            if (name, noun) not in HELD_OUT:
                company[name].add(noun)
                company[noun].add(name)
        assert not verb.nouns or len(company[name]) > len(verb.nouns) / 2
    for name, adjective in ADJECTIVES.items():
        nouns = {noun for noun in NOUNS if NOUNS[noun].sort in adjective.sorts}
        free = {noun for noun in nouns if (name, noun) not in HELD_OUT}
        assert len(free) > len(nouns) / 2
    for noun in NOUNS:
        assert len(company[noun]) >= 3, noun
    for name, noun in HELD_OUT:
        assert (name in VERBS and noun in VERBS[name].nouns) or (
            name in ADJECTIVES and NOUNS[noun].sort in ADJECTIVES[name].sorts
        )


def test_items_are_stable_and_the_same_in_both_directions():
    there, back = Translate(2), Translate(2, direction="zh-en")
    for index in range(20):
        assert there.item(index) == there.item(index)
        one, other = there.item(index), back.item(index)
        assert one["prompt"] == f"English:{other['reference']}\nChinese:"
        assert other["prompt"] == f"中文:{one['reference']}\nEnglish:"


def test_unknown_direction():
    with pytest.raises(TaskError, match="en-zh, zh-en"):
        Translate(direction="en-de")


# ------------------------------------------------------------------ public data

PUBLIC = [
    {"translation": {"en": "The committee met on Monday.", "zh": "委员会星期一开会。"}},
    {"translation": {"zh": "委员会星期一开会。", "en": "The committee met on Monday."}, "id": 3},
    {"en": "The committee met on Monday.", "zh": "委员会星期一开会。"},
    {"zh-CN": "委员会星期一开会。", "en": "The committee  met on Monday.\n"},
    {"source": "The committee met on Monday.", "target": "委员会星期一开会。"},
    {"source": "委员会星期一开会。", "target": "The committee met on Monday."},
]


@pytest.mark.parametrize("raw", PUBLIC)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_public_rows(raw, direction):
    sacrebleu = pytest.importorskip("sacrebleu")
    task, before = Translate(direction=direction), copy.deepcopy(raw)
    row = task.complete_row(as_row(task.convert(raw), "a row"))
    assert raw == before
    ours, theirs = "The committee met on Monday.", "委员会星期一开会。"
    if direction == "en-zh":
        assert row["prompt"] == f"English: {ours}\nChinese:"
        right, near = theirs, "委员会周一开了会。"
    else:
        assert row["prompt"] == f"中文: {theirs}\nEnglish:"
        right, near = ours, "The commission met Monday."
    assert row["reference"] == f" {right}"
    assert row["direction"] == direction
    assert row.get("id") == raw.get("id")
    assert task.score(f" {right}", row) == 1.0
    expected = sacrebleu.sentence_chrf(near, [right]).score / 100
    assert 0 < expected < 1
    assert task.score(near, row) == pytest.approx(expected)
    assert task.score("", row) == 0.0
    assert task.score("q", row) == 0.0


@pytest.mark.parametrize(
    "raw",
    [
        {"prompt": "Hello"}, {"text": "委员会"}, {"source": "a", "target": "b"}, {"en": "Hello"},
        {"translation": {"en": "Hello", "de": "Hallo"}}, {"translation": "委员会"},
        {"source": 1, "target": "委员会"}, {"prompt": "x", "en": "Hello", "zh": "你好"},
    ],
)  # fmt: skip
def test_unknown_rows_are_unchanged(raw):
    assert Translate().convert(raw) == raw


@pytest.mark.parametrize(
    "prompt", ["", "Hello", "English: \nChinese:", "中文: \nEnglish:", "English: Xyz.\nChinese:"]
)
def test_any_prompt_can_be_judged(prompt):
    task = Translate()
    row = task.complete_row({"prompt": prompt})
    assert task.score(" 他哭了。", row) == 0.0


WORDS = [
    "the", "that", "who", "he", "thinks", "knows", "bought", "her", "a", "hat", "did", "and", ".",
]  # fmt: skip
PIECES = [
    "给", "那个", "我觉得", "的书", "的", "买", "了", "老师", "他", "。", "一", "把", "在", "没",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=200),
        st.lists(st.sampled_from(PIECES), max_size=70).map("".join),
        st.tuples(st.lists(st.sampled_from(PIECES), max_size=3), st.integers(1, 40)).map(
            lambda pair: "".join(pair[0]) * pair[1] + "他哭了。"
        ),
        st.lists(
            st.sampled_from(WORDS),
            max_size=70,
        ).map(lambda words: " ".join(words).capitalize() + "."),
    )
)
def test_junk_is_judged(text):
    for direction in DIRECTIONS:
        task = Translate(3, direction=direction)
        row = task.item(0)
        for junk in (text, row["reference"] + text, text + row["reference"]):
            value = task.score(junk, row)
            assert type(value) is float
            assert 0 <= value <= 1
        shape = "English: {}\nChinese:" if direction == "en-zh" else "中文: {}\nEnglish:"
        task.score(text, task.complete_row({"prompt": shape.format(text * 20)}))

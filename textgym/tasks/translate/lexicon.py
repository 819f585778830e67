"""The English and Chinese words of the translation task, and their combinations.

An English word with several Chinese translations has several senses: "old" is ``old`` for things
and ``aged`` for living beings, "wear" is ``wear`` for coats and shirts and ``don`` for hats and
rings. References use the first Chinese word of a sense; the others are accepted.
"""

from __future__ import annotations

from typing import NamedTuple


class Noun(NamedTuple):
    """A noun: English singular and plural, Chinese words, suitable measure words, and its sort."""

    one: str
    many: str
    chinese: tuple[str, ...]
    measures: tuple[str, ...]
    sort: str


class Adjective(NamedTuple):
    """An adjective: English word, Chinese words, and the sorts of nouns that it suits."""

    english: str
    chinese: tuple[str, ...]
    sorts: tuple[str, ...]


class Verb(NamedTuple):
    """A verb: English forms, Chinese words, its kind, and its possible objects.

    `uses` is a string of letters: ``h`` for verbs with a habitual, ``p`` with a progressive, ``f``
    with a beneficiary.
    """

    base: str
    third: str
    past: str
    participle: str
    ing: str
    chinese: tuple[str, ...]
    kind: str
    nouns: tuple[str, ...]
    uses: str
    outdoors: bool

    @property
    def forms(self) -> tuple[str, str, str, str, str]:
        """The English forms."""
        return self.base, self.third, self.past, self.participle, self.ing


def _nouns(sort: str, table: str) -> dict[str, Noun]:
    nouns = {}
    for line in table.strip().splitlines():
        one, many, chinese, measures = line.split()
        nouns[one] = Noun(one, many, tuple(chinese.split("/")), tuple(measures.split("/")), sort)
    return nouns


NOUNS = (
    _nouns(
        "food",
        """
        apple apples 苹果 个
        egg eggs 鸡蛋/蛋 个
        cake cakes 蛋糕 个/块
        fish fish 鱼 条
        pear pears 梨/梨子 个
        orange oranges 橙子/橘子 个
        """,
    )
    | _nouns(
        "print",
        """
        book books 书 本
        letter letters 信 封
        map maps 地图 张/幅
        novel novels 小说 本/部
        newspaper newspapers 报纸 份/张
        dictionary dictionaries 词典/字典 本/部
        poem poems 诗 首
        """,
    )
    | _nouns(
        "clothes",
        """
        hat hats 帽子 顶
        scarf scarves 围巾 条
        coat coats 大衣/外套 件
        shirt shirts 衬衫/衬衣 件
        skirt skirts 裙子 条
        sweater sweaters 毛衣 件
        """,
    )
    | _nouns(
        "thing",
        """
        umbrella umbrellas 雨伞/伞 把
        key keys 钥匙 把
        chair chairs 椅子 把/张
        lamp lamps 灯/台灯 盏
        candle candles 蜡烛 支/根
        mirror mirrors 镜子 面/个
        ball balls 球 个
        doll dolls 娃娃/洋娃娃/玩偶 个
        violin violins 小提琴 把
        kite kites 风筝 只/个
        rose roses 玫瑰/玫瑰花 朵/支/枝
        camera cameras 相机/照相机 台/个/部/架
        bicycle bicycles 自行车/单车 辆
        car cars 汽车/车/轿车 辆
        ring rings 戒指 枚/个/只
        blanket blankets 毯子 条
        """,
    )
    | _nouns(
        "animal",
        """
        cat cats 猫 只
        dog dogs 狗 只/条
        horse horses 马 匹
        bird birds 鸟 只
        rabbit rabbits 兔子 只
        duck ducks 鸭子 只
        sheep sheep 羊/绵羊 只/头
        cow cows 牛/奶牛 头
        """,
    )
    | _nouns(
        "person",
        """
        teacher teachers 老师/教师 个/位/名
        student students 学生 个/位/名
        doctor doctors 医生/大夫 个/位/名
        nurse nurses 护士 个/位/名
        farmer farmers 农民/农夫 个/位/名
        chef chefs 厨师 个/位/名
        driver drivers 司机 个/位/名
        painter painters 画家 个/位/名
        singer singers 歌手 个/位/名
        neighbour neighbours 邻居 个/位
        friend friends 朋友 个/位
        boy boys 男孩/男孩子 个/名
        girl girls 女孩/女孩子 个/名
        """,
    )
)

NAMES = {
    "Tom": "汤姆", "Paul": "保罗", "Jack": "杰克", "Adam": "亚当", "David": "大卫",
    "Peter": "彼得", "Simon": "西蒙", "Anna": "安娜", "Lucy": "露西", "Emma": "艾玛",
    "Rosa": "罗莎", "Alice": "爱丽丝", "Helen": "海伦", "Sara": "萨拉",
}  # fmt: skip

PRONOUNS = {
    "I": ("me", "my", ("我",)),
    "you": ("you", "your", ("你", "您", "你们")),
    "he": ("him", "his", ("他",)),
    "she": ("her", "her", ("她",)),
    "we": ("us", "our", ("我们", "咱们")),
    "they": ("them", "their", ("他们", "她们")),
}
"""By subject form: object form, possessive, Chinese words."""

_COLOURS = ("clothes", "thing")
ADJECTIVES = {
    "red": Adjective("red", ("红", "红色"), _COLOURS),
    "blue": Adjective("blue", ("蓝", "蓝色"), _COLOURS),
    "white": Adjective("white", ("白", "白色"), (*_COLOURS, "animal")),
    "black": Adjective("black", ("黑", "黑色"), (*_COLOURS, "animal")),
    "big": Adjective("big", ("大",), ("food", "thing", "animal")),
    "small": Adjective("small", ("小",), ("food", "thing", "animal")),
    "new": Adjective("new", ("新", "崭新"), ("print", "clothes", "thing")),
    "old": Adjective("old", ("旧",), ("print", "clothes", "thing")),
    "aged": Adjective("old", ("老", "年老"), ("animal", "person")),
    "cheap": Adjective("cheap", ("便宜",), ("food", "clothes", "thing")),
    "expensive": Adjective("expensive", ("昂贵", "贵"), ("food", "clothes", "thing")),
    "beautiful": Adjective("beautiful", ("漂亮", "美丽", "好看"), ("clothes", "thing", "animal")),
    "fresh": Adjective("fresh", ("新鲜",), ("food",)),
    "delicious": Adjective("delicious", ("好吃", "美味", "可口"), ("food",)),
    "interesting": Adjective("interesting", ("有趣", "有意思"), ("print",)),
    "important": Adjective("important", ("重要",), ("print",)),
    "warm": Adjective("warm", ("暖和", "温暖"), ("clothes",)),
    "dirty": Adjective("dirty", ("脏",), ("clothes", "thing")),
    "fat": Adjective("fat", ("胖", "肥"), ("animal",)),
    "clever": Adjective("clever", ("聪明",), ("animal", "person")),
    "young": Adjective("young", ("年轻",), ("person",)),
    "famous": Adjective("famous", ("有名", "著名", "出名"), ("person",)),
    "brave": Adjective("brave", ("勇敢",), ("person",)),
    "kind": Adjective("kind", ("善良", "好心"), ("person",)),
    "lazy": Adjective("lazy", ("懒", "懒惰"), ("animal", "person")),
}

JOINED = frozenset("红蓝白黑大小新旧老胖脏懒")
"""Adjectives that references attach to the noun without 的."""


def _of(*names: str) -> tuple[str, ...]:
    """Nouns by name, and all nouns of a sort by the sort."""
    found: list[str] = []
    for name in names:
        found += [noun for noun in NOUNS if NOUNS[noun].sort == name] or [name]
    return tuple(dict.fromkeys(found))


def _verb(
    forms: str, chinese: str, kind: str, nouns: tuple[str, ...] = (), uses: str = "", out: int = 0
) -> Verb:
    base, third, past, participle, ing = forms.split()
    return Verb(
        base, third, past, participle, ing, tuple(chinese.split("/")), kind, nouns, uses, bool(out)
    )


_WARES = _of("food", "print", "clothes", "thing")
_LENT = _of("book", "novel", "dictionary", "map", "umbrella", "camera", "bicycle", "car", "violin")

VERBS = {
    "buy": _verb(
        "buy buys bought bought buying", "买/购买", "do", _of(*_WARES, "animal"), "hpf"
    ),
    "sell": _verb("sell sells sold sold selling", "卖/出售", "do", _of(*_WARES, "animal"), "hp"),
    "find": _verb(
        "find finds found found finding", "找到/发现", "do",
        _of("print", "clothes", "thing", "animal"),
    ),
    "lose": _verb(
        "lose loses lost lost losing", "弄丢/丢/丢失", "do", _of("print", "clothes", "thing")
    ),
    "steal": _verb("steal steals stole stolen stealing", "偷/偷走", "do", _WARES),
    "see": _verb(
        "see sees saw seen seeing", "看见/看到/见到", "do", _of("animal", "clothes", "thing")
    ),
    "read": _verb("read reads read read reading", "读/看/阅读", "do", _of("print"), "hp"),
    "write": _verb(
        "write writes wrote written writing", "写", "do", _of("book", "letter", "novel", "poem"),
        "hpf",
    ),
    "eat": _verb("eat eats ate eaten eating", "吃", "do", _of("food"), "hp"),
    "cook": _verb(
        "cook cooks cooked cooked cooking", "煮/做/烧", "do", _of("egg", "fish", "duck"), "hpf"
    ),
    "make": _verb(
        "make makes made made making", "做/制作", "do",
        _of("clothes", "cake", "candle", "doll", "kite", "chair"), "hpf",
    ),
    "draw": _verb(
        "draw draws drew drawn drawing", "画", "do", _of("animal", "apple", "rose", "map", "car"),
        "hpf",
    ),
    "wash": _verb(
        "wash washes washed washed washing", "洗", "do",
        _of("clothes", "apple", "pear", "dog", "car", "blanket"), "hpf",
    ),
    "wear": _verb(
        "wear wears wore worn wearing", "穿", "do", _of("coat", "shirt", "skirt", "sweater"), "h"
    ),
    "don": _verb("wear wears wore worn wearing", "戴", "do", _of("hat", "scarf", "ring"), "h"),
    "feed": _verb("feed feeds fed fed feeding", "喂", "do", _of("animal"), "hp"),
    "ride": _verb(
        "ride rides rode ridden riding", "骑", "do", _of("horse", "bicycle", "cow"), "hp", 1
    ),
    "repair": _verb(
        "repair repairs repaired repaired repairing", "修理/修/修好", "do",
        _of("chair", "lamp", "umbrella", "violin", "kite", "camera", "bicycle", "car"), "hpf",
    ),
    "borrow": _verb("borrow borrows borrowed borrowed borrowing", "借", "do", _LENT, "h"),
    "help": _verb("help helps helped helped helping", "帮助/帮", "meet", _of("person"), "hp"),
    "visit": _verb(
        "visit visits visited visited visiting", "拜访/看望/探望", "meet", _of("person"), "h"
    ),
    "meet": _verb(
        "meet meets met met meeting", "遇见/遇到/碰见/碰到", "meet", _of("person")
    ),
    "thank": _verb("thank thanks thanked thanked thanking", "感谢/谢", "meet", _of("person")),
    "invite": _verb("invite invites invited invited inviting", "邀请/请", "meet", _of("person")),
    "like": _verb(
        "like likes liked liked liking", "喜欢", "state", _of(*_WARES, "animal"),
    ),
    "need": _verb("need needs needed needed needing", "需要", "state", _of("clothes", "thing")),
    "have": _verb("have has had had having", "有", "state", _of(*_WARES, "animal")),
    "sleep": _verb("sleep sleeps slept slept sleeping", "睡觉/睡", "move", (), "hp"),
    "dance": _verb("dance dances danced danced dancing", "跳舞", "move", (), "hp"),
    "swim": _verb("swim swims swam swum swimming", "游泳", "move", (), "hp", 1),
    "sing": _verb("sing sings sang sung singing", "唱歌", "move", (), "hp"),
    "work": _verb("work works worked worked working", "工作/上班", "move", (), "hp"),
    "cry": _verb("cry cries cried cried crying", "哭", "move", (), "hp"),
    "laugh": _verb("laugh laughs laughed laughed laughing", "笑", "move", (), "hp"),
    "rest": _verb("rest rests rested rested resting", "休息", "move", (), "hp"),
    "give": _verb("give gives gave given giving", "给/送/交", "give", _WARES, ""),
    "lend": _verb("lend lends lent lent lending", "借", "give", _LENT, ""),
    "send": _verb("send sends sent sent sending", "寄/送", "give", _of("print", "clothes"), ""),
    "know": _verb("know knows knew known knowing", "知道", "think"),
    "think": _verb("think thinks thought thought thinking", "觉得/认为/想", "think"),
    "say": _verb("say says said said saying", "说", "think"),
    "believe": _verb("believe believes believed believed believing", "相信", "think"),
}  # fmt: skip

TIMES = {
    "yesterday": ("昨天",),
    "last night": ("昨晚", "昨天晚上", "昨夜"),
    "last week": ("上周", "上个星期", "上星期"),
    "last month": ("上个月", "上月"),
    "last year": ("去年",),
    "this morning": ("今天早上", "今早", "今天早晨", "今天上午"),
    "tomorrow": ("明天",),
    "tonight": ("今晚", "今天晚上", "今夜"),
    "next week": ("下周", "下个星期", "下星期"),
    "next month": ("下个月", "下月"),
    "next year": ("明年",),
    "every day": ("每天", "天天"),
    "every morning": ("每天早上", "每天早晨", "每天上午"),
    "every week": ("每周", "每个星期", "每星期"),
    "every year": ("每年",),
    "now": ("现在", "此刻"),
}
PAST, FUTURE = tuple(TIMES)[:6], tuple(TIMES)[6:11]
HABIT, NOW = tuple(TIMES)[11:15], tuple(TIMES)[15:]

PLACES = {
    "library": ("in", ("图书馆",), ""),
    "school": ("at", ("学校",), ""),
    "market": ("at", ("市场",), ""),
    "museum": ("at", ("博物馆",), ""),
    "hospital": ("in", ("医院",), ""),
    "station": ("at", ("车站", "火车站"), ""),
    "restaurant": ("in", ("饭馆", "餐馆", "餐厅", "饭店"), ""),
    "kitchen": ("in", ("厨房",), "里"),
    "park": ("in", ("公园",), "里"),
    "garden": ("in", ("花园",), "里"),
    "village": ("in", ("村子", "村庄"), "里"),
    "forest": ("in", ("森林", "树林"), "里"),
    "beach": ("at", ("海滩", "沙滩"), "上"),
}
"""English preposition, Chinese words, and their suffix in references."""

OUTDOORS = ("park", "garden", "village", "forest", "beach")

NUMBERS = {"a": "一", "two": "两", "three": "三", "five": "五", "ten": "十"}
COUNTED = {**NUMBERS, "this": "这", "that": "那"}
"""Determiners that take a measure word."""

PLURALS = {
    "many": ("很多", "许多", "不少", "好多"),
    "some": ("一些",),
    "these": ("这些",),
    "those": ("那些",),
}
"""Determiners of a plural noun, without a measure word."""

_PERIOD = 6
"""About one in this many pairs is held out of the train split."""


def _hold_out() -> frozenset[tuple[str, str]]:
    """Pairs of a verb or adjective and a noun that the train split lacks."""
    held = set()
    pairs = {name: verb.nouns for name, verb in VERBS.items()} | {
        name: tuple(noun for noun in NOUNS if NOUNS[noun].sort in adjective.sorts)
        for name, adjective in ADJECTIVES.items()
    }
    order = {noun: number for number, noun in enumerate(NOUNS)}
    for number, (name, nouns) in enumerate(pairs.items()):
        for noun in nouns:
            if len(nouns) >= _PERIOD // 2 and (order[noun] + number) % _PERIOD == 0:
                held.add((name, noun))
    return frozenset(held)


HELD_OUT = _hold_out()
"""Pairs of verb and object, or adjective and noun, that only occur in the eval split."""

"""The caption task: scores by hand and by brute force, and scenes decoded from their pixels."""

import io
import zlib
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgym.errors import DataError, TaskError
from textgym.tasks.caption.picture import COLOURS as RGB
from textgym.tasks.caption.reader import read
from textgym.tasks.caption.task import Caption
from textgym.tasks.caption.world import COLOURS, SHAPES, SIZES
from textgym.testing import check_task


def thing(size, colour, shape, cell):
    return {"shape": shape, "colour": colour, "size": size, "row": cell // 3, "column": cell % 3}


def row(*things, shade=10):
    return {"prompt": "", "reference": "", "scene": list(things), "shade": shade}


ONE = row(thing("big", "red", "circle", 0))
TWO = row(thing("big", "red", "circle", 3), thing("small", "blue", "square", 4))
THREE = row(
    thing("big", "red", "circle", 0),
    thing("big", "red", "circle", 2),
    thing("small", "blue", "square", 4),
)
ROWS = {1: ONE, 2: TWO, 3: THREE}


def test_contract():
    check_task(Caption, n=60)


@pytest.mark.parametrize(
    ("level", "text"),
    [
        (1, "a red circle is at the top left"),
        (1, "There's a red circle in the top-left corner."),
        (1, "there is a big red circle in the upper left corner of the picture"),
        (1, "The circle is red. It is at the top left."),
        (1, "The circle at the top left is red."),
        (1, "At the top left there is a red circle."),
        (1, "In the top left corner, a red circle."),
        (1, "This is a picture of a red circle in the top left."),
        (1, "It is a red circle at the top left."),
        (1, "There is one shape. It is a red circle at the top left."),
        (1, "There is a circle. It is red and at the top left."),
        (1, "Red circle, top left."),
        (1, "A red circle is in the top row. It is in the left column."),
        (2, "A big red circle is left of a small blue square."),
        (2, "A small blue square is to the right of a big red circle."),
        (2, "On the left is a big red circle and in the middle is a small blue square."),
        (2, "There is a large red circle, and to its right there is a little blue square."),
        (2, "There are two shapes: a big red circle on the left and a small blue square in the"
            " center."),
        (2, "A big, red circle is on the left of a tiny, blue square."),
        (2, "The red circle is big. The blue square is small. The circle is left of the square."),
        (2, "I see a small blue square with a big red circle to the left of it."),
        (2, "There is a red circle and a blue square. The circle is big and left of the square. The"
            " square is small."),
        (3, "Two big red circles are above a small blue square."),
        (3, "There are two big red circles and a small blue square below them."),
        (3, "A small blue square is in the middle. Above it are two big red circles."),
        (3, "Two big red circles. They are above a small blue square."),
        (3, "A big red circle is at the top left, another big red circle is at the top right and a"
            " small blue square is in the middle."),
        (3, "2 large red circles over 1 small blue square"),
        (3, "A big red circle and a big red circle are above a small blue square."),
    ],
)  # fmt: skip
def test_every_way_to_say_it(level, text):
    for form in (text, f" {text}", text.upper(), text.replace("red circle", "red disc")):
        assert Caption(level).score(form, ROWS[level]) == 1.0


BOTTOM = {"scene": [{**ROWS[1]["scene"][0], "row": 2, "column": 1}]}


@pytest.mark.parametrize(
    ("place", "score"),
    [
        ("in the bottom middle", 1),
        ("at the lower centre", 1),
        ("in the middle of the bottom row", 1),
        ("at the bottom in the middle", 1),
        # The row comes first if no word separates them, and an adjective has a noun.
        ("in the middle bottom", 0),
        ("in the centre lower", 0),
        ("lower in the middle", 0),
        ("bottom in the middle", 0),
        ("at the lower", 0),
    ],
)
def test_places_are_said_in_the_order_of_english(place, score):
    assert Caption(1).score(f" There is a red circle {place}.", {**ROWS[1], **BOTTOM}) == score


@pytest.mark.parametrize(
    ("level", "text", "coverage", "faults"),
    [
        (1, "", 0, 0),
        (1, "There is a shape.", 0, 0),
        (1, "There is a circle.", 1 / 3, 0),
        (1, "There is a red circle.", 2 / 3, 0),
        (1, "There is a red shape at the top.", 1.5 / 3, 0),
        (1, "There is a red circle in the left column.", 2.5 / 3, 0),
        (1, "There is a small red circle at the top left.", 1, 1),
        (1, "There is a blue circle at the top left.", 2 / 3, 1),
        (1, "There is a blue square at the top left.", 1 / 3, 2),
        (1, "There is a red circle at the bottom.", 2 / 3, 1),
        (1, "There is a red circle at the top left and at the bottom right.", 1, 1),
        (1, "There is a circle at the top left. It is red. It is blue.", 1, 1),
        (1, "There is a red circle at the top left. It is red.", 1, 1),
        (1, "There is a red circle at the top left. It is at the top left.", 1, 1),
        (1, "There is a red circle at the top left. There is a red circle at the top left.", 1, 3),
        (1, "Two red circles are at the top left.", 1, 3),
        (1, "There are two shapes. There is a red circle at the top left.", 1, 1),
        (1, "There is a red circle at the top left. Caption: yes.", 1, 2),
        (1, "There is a red circle at the top left.\nI see a red circle.", 1, 2),
        (1, "There is a red circle at the top left. That is not true.", 1, 2),
        (1, "There is a red circle at the top left." + " walrus" * 8, 1, 3),
        (1, "There is a red circle at the top left. " + "q" * 96, 1, 4),
        (1, "There is a red circle at the top left top left top left.", 1, 2),
        (1, "At the top left, at the top left, at the top left is a red circle.", 0, 3),
        (2, "A big red circle is left of a small blue square left of the blue square.", 1, 1),
        (2, "A big red circle is left of a small blue square, the square, the square.", 1, 2),
        (1, "The circle is red and red and red. It is at the top left.", 1, 2),
        (1, "There is a red or blue circle at the top left.", 0, 2),
        (1, "There is a red blue circle at the top left.", 0, 2),
        (1, "There is a red circle, maybe at the top left.", 0, 2),
        (1, "It is at the top left.", 0, 1),
        (2, "There is a big red circle and a small blue square.", 6 / 8, 0),
        (2, "A circle is left of a square.", 4 / 8, 0),
        (2, "A shape is left of another shape.", 2 / 8, 0),
        (2, "A big red circle is next to a small blue square.", 7 / 8, 0),
        (2, "A big red circle is right of a small blue square.", 6 / 8, 1),
        (2, "A big red circle is left of a big blue square.", 7 / 8, 1),
        (2, "A big red circle is above and to the left of a small blue square.", 1, 1),
        (2, "A big red square is left of a small blue circle.", 6 / 8, 2),
        (2, "A big red circle is left of a small blue square. The square is right of the circle.",
         1, 1),
        (2, "A big red circle is on the left.", 4 / 8, 0),
        (3, "There are three shapes: two big red circles and a small blue square.", 9 / 12, 0),
        (3, "There are two big red circles.", 6 / 12, 0),
        (3, "There are two circles.", 2 / 12, 0),
        (3, "There are two big red circles. It is in the middle.", 6 / 12, 2),
        (3, "There is a big red circle above a small blue square.", 8 / 12, 0),
        (3, "There are two big red circles below a small blue square.", 9 / 12, 2),
        (3, "There are three big red circles above a small blue square.", 1, 4),
    ],
)  # fmt: skip
def test_scores_by_hand(level, text, coverage, faults):
    assert Caption(level).score(" " + text, ROWS[level]) == pytest.approx(coverage**2 / 2**faults)


# --- An independent score for all sentences of two forms -----------------------------------------

CELLS = {
    "at the top left": {0}, "at the top": {0, 1, 2}, "at the top right": {2},
    "on the left": {0, 3, 6}, "in the middle": {4}, "on the right side": {2, 5, 8},
    "in the lower left": {6}, "at the bottom": {6, 7, 8}, "in the bottom right corner": {8},
    "in the top middle": {1}, "in the middle row": {3, 4, 5},
}  # fmt: skip
BEST = {"at the top": 1, "on the left": 3, "on the right side": 5, "at the bottom": 7}


@pytest.mark.parametrize("cell", range(9))
def test_all_sentences_about_one_thing(cell):
    scene = row(thing("big", "green", "cross", cell))
    for colour, shape, place in product((*COLOURS, ""), (*SHAPES, "thing"), (*CELLS, "")):
        true = (colour == "green") + (shape == "cross")
        false = (colour not in ("green", "")) + (shape not in ("cross", "thing"))
        empty = not colour and shape == "thing" and not place
        if place:
            inside = cell in CELLS[place]
            exact = inside and (len(CELLS[place]) == 1 or BEST.get(place) == cell)
            true += 1.0 if exact else 0.5 * inside
            false += not inside
        text = f" There is a {colour} {shape} {place}".replace("  ", " ").rstrip() + "."
        expected = 0.0 if empty else (true / 3) ** 2 / 2**false
        assert Caption(1).score(text, scene) == pytest.approx(expected), text


LOOKS = list(product(("big", "small"), ("red", "white"), ("circle", "cross")))
HOLDS = {
    "left of": lambda a, b: a % 3 < b % 3, "to the right of": lambda a, b: a % 3 > b % 3,
    "above": lambda a, b: a // 3 < b // 3, "under": lambda a, b: a // 3 > b // 3,
}  # fmt: skip


def test_all_sentences_about_two_things():
    """Both matches of the objects are tried, and the better one counts."""
    rng = np.random.default_rng(0)
    sentences = list(product(LOOKS, HOLDS, LOOKS))
    for _ in range(60):
        cells = rng.choice(9, 2, replace=False).tolist()
        looks = [LOOKS[i] for i in rng.integers(8, size=2)]
        scene = row(*(thing(*look, cell) for look, cell in zip(looks, cells, strict=True)))
        for number in rng.choice(len(sentences), 80, replace=False):
            one, relation, other = sentences[number]
            values = []
            for i, j in permutations(range(2)):
                true = sum(map(str.__eq__, one, looks[i])) + sum(map(str.__eq__, other, looks[j]))
                holds = HOLDS[relation](cells[i], cells[j])
                values.append(((true + 2 * holds) / 8) ** 2 / 2 ** (6 - true + (not holds)))
            a, b = " ".join(one), " ".join(other)
            for text in (f" A {a} is {relation} a {b}.", f" {relation} a {b} there is a {a}."):
                assert Caption(2).score(text, scene) == pytest.approx(max(values)), text


# --- The picture -------------------------------------------------------------------------------


def see(picture):
    """The objects in a picture, decoded from the widths of their lines."""
    found = []
    for cell in range(9):
        y, x = cell // 3 * 12, cell % 3 * 12
        part = picture[:, y : y + 12, x : x + 12].astype(int)
        mask = (part != part[:, 11:, 11:]).any(axis=0)  # this corner is always background
        if not mask.any():
            continue
        pixels = part[:, mask]
        assert (pixels == pixels[:, :1]).all()
        rgb = pixels[:, 0]
        colour = min(RGB, key=lambda name: abs(rgb - RGB[name]).sum())
        widths = [int(line.sum()) for line in mask if line.any()]
        top, bottom, wide = widths[0], widths[-1], max(widths)
        assert mask.any(axis=0).sum() == len(widths) == wide
        if top == bottom == wide:
            shape = "square"
        elif bottom == wide:
            shape = "triangle"
        elif top == widths[1]:
            shape = "cross"
        else:
            shape = "diamond" if top == 1 else "circle"
        found.append(thing({7: "small", 11: "big"}[wide], colour, shape, cell))
    return found


@pytest.mark.parametrize("level", Caption.levels)
def test_the_picture_holds_the_scene(level):
    task, rng = Caption(level), np.random.default_rng(level)
    pictures = {}
    for _ in range(500):
        start = task.sample(rng)
        picture = task.image(start)
        assert picture.shape == task.image_shape
        assert picture.dtype == np.uint8
        assert picture[:, 35, 35].tolist() == [start["shade"]] * 3
        assert see(picture) == start["scene"]
        plain = task.image({**start, "shade": 0}).tobytes()
        assert pictures.setdefault(plain, task.identity(start)) == task.identity(start)


def test_all_kinds_of_objects_look_different():
    looks = {
        Caption().image(row(thing(*look, 4))).tobytes() for look in product(SIZES, COLOURS, SHAPES)
    }
    assert len(looks) == len(SIZES) * len(COLOURS) * len(SHAPES)
    assert Caption().image({"scene": []}).tobytes() == bytes(3 * 36 * 36)


@pytest.mark.parametrize(
    "change", [{"shape": "star"}, {"row": 3}, {"row": -1}, {"column": "left"}, {"size": None}]
)
def test_objects_that_cannot_be_drawn(change):
    with pytest.raises(TaskError, match=r"^scene: "):
        Caption().image(row({**thing("big", "red", "circle", 0), **change}))


def test_splits_divide_scenes_and_not_questions():
    seen = {}
    for split in ("train", "eval"):
        rng = np.random.default_rng(0)
        rows = [Caption(1, split).sample(rng) for _ in range(2000)]
        seen[split] = {tuple(sorted(start["scene"][0].items())) for start in rows}
        assert len({start["prompt"] for start in rows}) == 5
    assert not seen["train"] & seen["eval"]
    assert 200 < len(seen["train"]) <= 270
    turned = {**TWO, "scene": TWO["scene"][::-1], "prompt": "x"}
    assert Caption(2).identity(TWO) == Caption(2).identity(turned)


# --- Captions and cheats -----------------------------------------------------------------------


@pytest.mark.parametrize("level", Caption.levels)
def test_own_captions(level):
    task, rng = Caption(level), np.random.default_rng(level)
    for _ in range(1500):
        start = task.sample(rng)
        assert task.score(start["reference"], start) == 1.0
        assert len(start["reference"].split()) <= 30
        claims = read(start["reference"])
        assert claims.faults == 0
        assert len(claims.objects) == level
        cells = [(one["row"], one["column"]) for one in start["scene"]]
        assert len(set(cells)) == level
        assert cells == sorted(cells)


@pytest.mark.parametrize("level", Caption.levels)
def test_each_false_word_costs(level):
    """Replace a word of the scene by another of its kind, which makes the caption false."""
    task, rng = Caption(level), np.random.default_rng(level)
    checked = 0
    for _ in range(400):
        start = task.sample(rng)
        words = start["reference"].split(" ")
        for kind in (COLOURS, SIZES, SHAPES):
            used = {one[name] for one in start["scene"] for name in ("colour", "size", "shape")}
            for number, word in enumerate(words):
                others = [other for other in kind if other not in used]
                bare = word.strip(".,")
                if bare in kind and others:
                    text = " ".join(
                        [*words[:number], word.replace(bare, others[0]), *words[number + 1 :]]
                    )
                    assert task.score(text, start) <= 0.5, text
                    checked += 1
    assert checked > 400


@pytest.mark.parametrize("level", Caption.levels)
def test_a_guess_scores_less_than_silence(level):
    """Averaged over its possible values, an unseen attribute is better left out."""
    task = Caption(level)
    before = "There is a" if level == 1 else "There is a small"
    after = "." if level == 1 else " left of a big white cross."
    rest = () if level == 1 else (thing("big", "white", "cross", 5),)
    rest += () if level < 3 else (thing("big", "white", "cross", 8),)
    after = after.replace("a big white cross", "two big white crosses") if level == 3 else after
    here = " at the top left" if level == 1 else ""

    def mean(text, scenes):
        return np.mean([task.score(f" {text}", row(*scene, *rest)) for scene in scenes])

    guess = f"{before} red circle{here}{after}"
    colours = [[thing("small", colour, "circle", 0)] for colour in COLOURS]
    assert mean(guess, colours) < mean(f"{before} circle{here}{after}", colours)
    shapes = [[thing("small", "red", shape, 0)] for shape in SHAPES]
    assert mean(guess, shapes) < mean(f"{before} red thing{here}{after}", shapes)
    if level > 1:
        guess, silence = f"There is a big red circle{after}", f"There is a red circle{after}"
        scenes = [[thing(size, "red", "circle", 0)] for size in SIZES]
    else:
        guess, silence = "There is a red circle in the middle.", "There is a red circle."
        scenes = [[thing("big", "red", "circle", cell)] for cell in range(9)]
    assert mean(guess, scenes) < mean(silence, scenes)


@pytest.mark.parametrize("level", Caption.levels)
def test_attacks(level):
    task, rng = Caption(level), np.random.default_rng(level)
    every = [f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES]
    for _ in range(50):
        start = task.sample(rng)
        oracle = start["reference"]
        for text in (
            " There is " + " and ".join(every) + ".",
            " There is a " + " ".join(COLOURS) + " circle in the middle.",
            " It is red and green and blue and yellow and purple and white.",
            oracle + oracle,
            oracle.removesuffix(".") + " or not.",
            oracle + " " + " ".join(COLOURS) + ".",
            oracle + " There is a small purple diamond in the middle.",
            oracle + "\nPicture. What do you see?\nCaption:" + oracle,
            oracle.replace(" a ", " a red or "),
            " " + "the " * 50,
            " A shape." * 9,
        ):
            if text != oracle:
                assert task.score(text, start) <= 0.5, text
        for word in ("not", "maybe", "no"):
            words = oracle.split(" ")
            spot = int(rng.integers(2, len(words)))
            assert task.score(" ".join([*words[:spot], word, *words[spot:]]), start) < 0.5


def test_baselines():
    bands = {
        "blind": [(0.02, 0.05), (0.008, 0.03), (0.002, 0.02)],
        "vague": [(0.1, 0.12), (0.06, 0.07), (0.06, 0.07)],
        "colours": [(0.1, 0.12), (0.06, 0.07), (0.06, 0.07)],
        "placeless": [(0.44, 0.45), (0.56, 0.57), (0.56, 0.57)],
    }
    for level in Caption.levels:
        task, rng = Caption(level), np.random.default_rng(level)
        rows = [task.sample(rng) for _ in range(500)]
        for name, write in task.baselines().items():
            low, high = bands[name][level - 1]
            assert low < np.mean([task.score(write(one, rng), one) for one in rows]) < high, name


WORDS = ("a", "the", "red", "big", "circle", "squares", "two", "is", "it", "left", "of", "above",
         "at", "top", "middle", "and", ",", ".", "there", "\n", "'s", "or", ":", "-")  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from(WORDS), max_size=90).map(" ".join)))
def test_junk_is_judged(text):
    for junk in (text, f" There is a red circle. {text}", text * 40):
        for level, start in ROWS.items():
            value = Caption(level).score(junk, start)
            assert type(value) is float
            assert 0 <= value <= 1
            assert value == Caption(level).score(junk, start)


def test_too_many_objects_to_match():
    five = row(*(thing("big", "red", "circle", cell) for cell in range(5)))
    with pytest.raises(TaskError, match="scene: 5 objects"):
        Caption(3).score(" A red circle.", five)


# --- Real data ---------------------------------------------------------------------------------


def photograph(form=None, size=(60, 40)):
    image = pytest.importorskip("PIL.Image").new("RGB", size, (200, 100, 50))
    if form is None:
        return image
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("caption", "A dog runs  on the grass."),
        ("caption", ["A dog runs on the grass.", "A brown dog plays."]),
        ("captions", np.array(["A dog runs on the grass.", "A brown dog plays."], dtype=object)),
        ("sentences_raw", ["A dog runs on the grass.", "A brown dog plays."]),
        ("sentences", {"raw": "A dog runs on the grass.", "tokens": ["a", "dog"]}),
        ("sentences", [{"raw": "A dog runs on the grass."}, {"raw": "A brown dog plays."}]),
        ("text", "A dog runs on the grass.\n"),
    ],
)
def test_convert(column, value):
    task, image = Caption(), photograph("PNG")
    made = task.convert({"image": image, column: value})
    assert made["image"] == image
    assert made["prompt"] == "Picture. What do you see?\nCaption:"
    assert made["reference"] == made["references"][0] == " A dog runs on the grass."
    parquet = {**made, "references": np.array(made["references"], dtype=object)}
    assert task.score(made["reference"], parquet) == 1.0
    for text in made["references"]:
        assert task.score(text, made) == 1.0
    assert task.score(" A dog runs.", made) == pytest.approx(2 * (3 / 3) * (3 / 6) / (1 + 1 / 2))
    assert task.score(" Caption", made) == task.score("", made) == 0.0
    assert task.score(" A dog runs on the grass." * 3, made) == 0.0
    assert (task.image(made)[:, 5, 5] == [200, 100, 50]).all()


def test_convert_leaves_other_rows():
    for other in ({"text": "x"}, {"image": "a.png"}, ONE, {"image": None, "caption": "x"}):
        assert Caption().convert(other) == other
    own = {"image": "a.png", "caption": "A cat.", "prompt": "Say:"}
    assert Caption().convert(own)["prompt"] == "Say:"
    with pytest.raises(DataError, match="column 'caption'"):
        Caption().convert({"image": "a.png", "caption": []})


def test_all_forms_of_a_picture_are_the_same(tmp_path):
    task, png = Caption(), photograph("PNG")
    path = tmp_path / "dog.png"
    path.write_bytes(png)
    array = np.asarray(photograph())
    forms = [png, str(path), path, {"bytes": png, "path": None}, {"bytes": None, "path": str(path)},
             photograph(), array, array.copy()]  # fmt: skip
    for form in forms:
        picture = task.image({"prompt": "", "image": form})
        assert picture.shape == (3, 36, 36)
        assert picture.dtype == np.uint8
        assert (picture == np.array([200, 100, 50]).reshape(3, 1, 1)).all()


def test_pictures_keep_their_orientation():
    """Red on the left, green at the bottom: no axis is swapped or flipped."""
    pytest.importorskip("PIL")
    array = np.zeros((72, 144, 3), dtype=np.uint8)
    array[:, :72, 0] = 250
    array[36:, :, 1] = 250
    picture = Caption().image({"image": array})
    assert picture[:, 4, 4].tolist() == [250, 0, 0]
    assert picture[:, 4, 30].tolist() == [0, 0, 0]
    assert picture[:, 30, 30].tolist() == [0, 250, 0]
    same = np.ascontiguousarray(picture.transpose(1, 2, 0))
    assert (Caption().image({"image": same}) == picture).all()


@pytest.mark.parametrize(
    "image",
    [
        b"no picture",
        "missing.png",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        3.5,
        ["a.png"],
        {"url": "x"},
        np.zeros((4, 4, 3)),
        np.zeros((4, 4), dtype=np.uint8),
        np.zeros((0, 4, 3), dtype=np.uint8),
        None,
    ],
)
def test_invalid_pictures(image):
    pytest.importorskip("PIL")
    with pytest.raises(TaskError):
        Caption().image({"prompt": "", "image": image})


def test_broken_and_huge_pictures():
    # Truncated, and a format that Pillow reads but `Caption` does not accept.
    for image in (photograph("PNG", (500, 500))[:200], photograph("PCX")):
        with pytest.raises(TaskError, match="image: cannot be read"):
            Caption().image({"image": image})
    header = photograph("PNG", (1, 1))
    for size in (8_000, 12_000, 60_000):  # over the limit, over Pillow's warning, over its error
        large = header[:16] + size.to_bytes(4) * 2 + header[24:]
        crc = zlib.crc32(large[12:29]).to_bytes(4)
        with pytest.raises(TaskError, match="image: too large"):
            Caption().image({"image": large[:29] + crc + large[33:]})

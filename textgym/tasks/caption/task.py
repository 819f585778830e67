"""Say what is in a picture: every claim of a caption is checked against the scene."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textgym.data.rows import Row
from textgym.errors import TaskError
from textgym.tasks.base import Baseline, Task
from textgym.tasks.caption.picture import draw_scene, load_picture
from textgym.tasks.caption.public import convert, likeness, prompt_of
from textgym.tasks.caption.reader import LIMIT, read
from textgym.tasks.caption.truth import judge
from textgym.tasks.caption.world import (
    COLOURS,
    GRID,
    GROUPS,
    QUESTIONS,
    SHAPES,
    SIZES,
    Object,
    cell_of,
    describe,
)
from textgym.tasks.judgement import Judgement, nothing

_CELLS = GRID**2
_KINDS = [(colour, shape) for colour in COLOURS for shape in SHAPES]
_PAIRS = 0.3
"""How many of the scenes of level 3 have two things alike."""
_SAME_SHAPE = 0.4
"""How many of the others have one shape in three colours."""
_SHADES = 64
"""Shades of the ground, all darker than any colour."""


class Caption(Task):
    """Say what is in a picture.

    ## Description

    Beside the tokens the policy sees a picture: a grid of 3 x 3 cells of 12 x 12 pixels, on a grey
    ground, with one to three things in it. Each is a circle, square, triangle, cross or diamond, in
    one of six colours, small or big. The prompt is a question that says nothing about it. The
    policy answers with a sentence or two.

    A reader of the task's own makes claims of the caption: what things there are, which shape,
    colour and size each has, in which place of the picture it is, and how it stands to the others.
    So it does not matter how a thing is told: "Two big red circles are above a small blue square",
    "There are two large red circles and a small blue square below them" and "A small blue square is
    in the middle. Above it are two big red circles." are the same. "The" and pronouns speak of what
    was named before, "it" of one thing and "they" of several; "a" and "another" are something new.

    ## Observation Space

    ``Dict(tokens=Box(...), image=Box(0, 255, (3, 36, 36), uint8))``: the tokens are ``Box(-1, V-1,
    (max_prompt_tokens + max_new_tokens,), int32)``, ids, -1 where nothing is written; the image is
    red, green and blue, by rows from the top.

    ## Action Space

    ``Discrete(V)``: the next token.

    ## Rewards

    The score, in [0, 1], once at the end, a product, so that no part makes up for another:

        score = told ** 2 / 2 ** faults

    * ``told``: the share of the scene's parts that true claims tell. A thing has three parts at
      level 1, its colour, shape and place, and four above, with its size. A cell tells the place
      ("top left"), and above level 1 so does a relation (left, right, above, below) to another
      thing. It is half told by what leaves several cells ("in the top row", "at the top" for a
      thing in a corner) and by "next to". "At the top" is the whole place of what is in the middle
      of the top row. "A shape" tells nothing.
    * ``faults``: claims that are false; all that is said of things that are not there, the second
      time that a thing is named as if it were new among them; clauses, places and relations that
      tell nothing new; two for each sentence outside the grammar (of which nothing counts), and one
      more for every eight words of it. So "red or blue" and both of two colours cost half the score
      and more, and what follows the answer three quarters.

    The things of the caption are matched with those of the scene in the way that is best for it. A
    guess is worth less, on average, than to leave out what one does not see. A text of more than
    400 characters is worth nothing.

    Baselines, by level: ``blind`` says what might be there (0.03, 0.02, 0.01). ``vague`` names the
    right shapes alone, and ``colours`` the colours (0.11, 0.06, 0.06). ``placeless`` says all that
    is there, and not where (0.44, 0.56, 0.56). Documents for a language model are captions with the
    prompt before them: of the grammar they tell all, of the picture nothing, so that a model
    trained on them begins where ``blind`` is.

    ## Starting State

    A picture, by level: (1) one big thing, (2) two things, small or big, (3) three things: two of
    them alike in three scenes of ten, and all of one shape, in different colours, in four of ten
    others. The shade of the ground is drawn with the scene. Which scenes belong to the eval split
    does not depend on the question.

    ``item(0)`` at level 1, with a big green square in the middle of the top row::

        Picture. What do you see?
        Caption:

        -> I see a green square at the top.

    ``item(0)`` at level 2, with a triangle in the top right cell and a cross in the left one of the
    middle row::

        Picture. Tell what is where.
        Caption:

        -> There is a big blue cross and a small green triangle right of it.

    ``item(0)`` at level 3, with a diamond in the top left cell, a cross in the one below it and
    another in the middle of the bottom row::

        Picture. Tell what is where.
        Caption:

        -> Two small yellow crosses are under a small blue diamond.

    The row's other columns are ``scene`` (a list of things with ``shape``, ``colour``, ``size``,
    ``row`` and ``column``, from 0 at the top left) and ``shade`` (of the ground, 0 to 63). A row of
    one's own may have up to four things.

    ## Episode End

    End-of-sequence, or 48 tokens: a termination. Captions begin with a space.

    ## Arguments

    ``level``: 1 (default), 2 or 3. ``split``: ``"train"`` or ``"eval"``.

    ## Real data

    ``prompts="hf:..."`` or a file, with the columns ``image`` and ``caption``, ``captions``,
    ``sentences``, ``sentences_raw`` or ``text``, as COCO, Flickr30k and most caption data on the
    Hugging Face Hub have them: a text, a list of texts, or dictionaries with ``raw``. All captions
    are kept as ``references``. A row without a ``scene`` is judged by ROUGE-L against the likest
    reference (rouge-score, ``textgym[metrics]``), and gets 0 above twice the words of the longest.

    ``image`` may be a path, the bytes of a file, a dictionary with ``bytes`` or ``path``, a Pillow
    image or a uint8 array ``[H, W, 3]``. Pillow (``textgym[render]``) brings it to 36 x 36 pixels,
    and reads BMP, GIF, JPEG, PNG, PPM, TIFF and WebP files of up to 50 million pixels.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/Caption-v0"
    max_prompt_tokens = 16
    max_new_tokens = 48
    levels = (1, 2, 3)
    cheat_ceiling = 0.41
    image_shape = (3, 36, 36)

    def generate(self, rng: np.random.Generator) -> Row:
        """Draw a scene, and a caption that says all that is to be said of it."""
        # One call for all the choices of a row: several times faster than a call for each.
        draw = iter(rng.random(24).tolist()).__next__
        question = QUESTIONS[int(draw() * len(QUESTIONS))]
        shade = int(draw() * _SHADES)
        first = int(draw() * len(_KINDS))
        kinds, sizes = [_KINDS[first]], ["big"]
        if self.level > 1:
            sizes = [SIZES[int(draw() * 2)] for _ in range(self.level)]
            second = (first + 1 + int(draw() * (len(_KINDS) - 1))) % len(_KINDS)
            kinds.append(_KINDS[second])
        if self.level == 3 and draw() < _PAIRS:
            kinds.insert(0, kinds[0])
            sizes[1] = sizes[0]
            cells = list(GROUPS[int(draw() * len(GROUPS))][:3])
        else:
            if self.level == 3:
                kinds = _three(kinds, draw() < _SAME_SHAPE, draw())
            cells = list(range(_CELLS))
            for number in range(self.level):
                other = number + int(draw() * (_CELLS - number))
                cells[number], cells[other] = cells[other], cells[number]
        scene: list[Object] = [
            {
                "shape": shape,
                "colour": colour,
                "size": size,
                "row": cell // GRID,
                "column": cell % GRID,
            }
            for (colour, shape), size, cell in zip(kinds, sizes, cells, strict=False)
        ]
        reference = describe(scene, self.level, draw)
        scene.sort(key=cell_of)
        return {
            "prompt": prompt_of(question),
            "reference": reference,
            "scene": scene,
            "shade": shade,
        }

    def identity(self, row: Mapping[str, Any]) -> str:
        """The scene alone: the same things under another question are no other start."""
        scene = row.get("scene")
        if scene is None:
            return super().identity(row)
        return "; ".join(
            f"{thing['size']} {thing['colour']} {thing['shape']} {thing['row']} {thing['column']}"
            for thing in sorted(scene, key=cell_of)
        )

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """How much of the scene the true claims tell, halved for each falsehood.

        A row without a scene is judged by ROUGE-L against its references.
        """
        scene = row.get("scene")
        if scene is None:
            references = row.get("references")
            value = likeness(text, row["reference"] if references is None else references)
            return Judgement().add("the text", "ROUGE-L against the captions", value)
        if len(text) > LIMIT:
            return nothing("the text", f"longer than {LIMIT} characters")
        return judge(read(text), scene, self.level > 1)

    def image(self, row: Mapping[str, Any]) -> NDArray[np.uint8]:
        """The scene, drawn; of a row without one the picture in its column ``image``.

        Returns:
            uint8, RGB, ``[3, 36, 36]``.

        Raises:
            TaskError: If there is no picture, or it cannot be read or drawn.
            MissingDependencyError: If the picture needs Pillow (``textgym[render]``).
        """
        scene = row.get("scene")
        if scene is not None:
            return draw_scene(scene, row.get("shade") or 0)
        if row.get("image") is None:
            raise TaskError(
                f"{self.id}: the row has neither a scene nor an image: give it a column 'image' (a "
                "path, bytes, a Pillow image or a uint8 array), or a column 'scene'"
            )
        return load_picture(row["image"], self.image_shape)

    def convert(self, row: dict[str, Any]) -> Row:
        """Bring rows with pictures and captions, such as COCO's, into this task's form."""
        return convert(row)

    def baselines(self) -> dict[str, Baseline]:
        """``blind`` does not look; the others do, but ``vague`` sees shapes alone, and so on."""
        return {
            "blind": lambda row, rng: str(self.generate(rng)["reference"]),
            "vague": lambda row, rng: _names(row, "shape"),
            "colours": lambda row, rng: _names(row, "colour"),
            "placeless": lambda row, rng: _names(row, "size", "colour", "shape"),
        }


def _names(row: Row, *looks: str) -> str:
    """What is there, with some of its looks, and not where."""
    things = [
        " ".join(["a", *(thing[look] for look in looks), *(["shape"] * ("shape" not in looks))])
        for thing in row["scene"]
    ]
    return f" There is {' and '.join(things)}."


def _three(kinds: list[tuple[str, str]], same: bool, luck: float) -> list[tuple[str, str]]:
    """Three different kinds, all of one shape if `same`."""
    if same:
        colour, shape = kinds[0]
        number = COLOURS.index(colour)
        steps = (1, 2) if luck < 0.5 else (2, 4) if luck < 0.75 else (3, 5)
        return [kinds[0], *((COLOURS[(number + step) % len(COLOURS)], shape) for step in steps)]
    left = len(_KINDS) - 2
    number = int(luck * left)
    rest = (kind for kind in _KINDS if kind not in kinds)
    return [*kinds, next(kind for place, kind in enumerate(rest) if place == number)]

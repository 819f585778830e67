"""Describe a picture; every claim of the caption is checked against the scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textgym.data.rows import Row
from textgym.errors import TaskError
from textgym.tasks.base import Baseline, Task
from textgym.tasks.caption.baselines import mediocre, names
from textgym.tasks.caption.picture import draw_scene, load_picture
from textgym.tasks.caption.public import convert, prompt_of, score_public
from textgym.tasks.caption.reader import LIMIT, read
from textgym.tasks.caption.scoring import judge
from textgym.tasks.caption.world import (
    COLOURS,
    GRID,
    GROUPS,
    QUESTIONS,
    SHAPES,
    SIZES,
    Object,
    cell_of,
)
from textgym.tasks.caption.writer import describe
from textgym.tasks.judgement import Judgement, finished, nothing
from textgym.tasks.random_draws import draws, pick

_CELLS = GRID**2
_KINDS = [(colour, shape) for colour in COLOURS for shape in SHAPES]
_PAIRS = 0.3
"""The share of level 3 scenes with two identical objects."""
_SAME_SHAPE = 0.4
"""The share of the other level 3 scenes with one shape in three colours."""
_SHADES = 64
"""Shades of the background, all darker than any colour."""


class Caption(Task):
    """Describe a picture.

    ## Description

    The observation includes a picture: a grid of 3 x 3 cells of 12 x 12 pixels on a grey
    background, with one to three objects. Each is a circle, square, triangle, cross or diamond, in
    one of six colours, small or big. The prompt is a generic question. The policy answers with a
    sentence or two.

    A parser extracts the claims of the caption: the objects, the shape, colour and size of each,
    its place in the picture, and its relations to the others. The wording does not matter: "Two big
    red circles are above a small blue square", "There are two large red circles and a small blue
    square below them" and "A small blue square is in the middle. Above it are two big red circles."
    are equivalent. "The" and pronouns refer to objects named before, "it" to one and "they" to
    several; "a" and "another" introduce new ones.

    ## Observation Space

    ``Dict(tokens=Box(...), image=Box(0, 255, (3, 36, 36), uint8))``: the tokens are ``Box(-1, V-1,
    (max_prompt_tokens + max_new_tokens,), int32)``, ids padded with -1; the image is RGB.

    ## Action Space

    ``Discrete(V)``: the next token.

    ## Rewards

    The score in [0, 1], at the end of the episode:

        score = coverage ** 2 / 2 ** faults

    * ``coverage``: the share of the scene's attributes that true claims describe. An object has
      three at level 1 (colour, shape and place) and four above (also size). A cell ("top left"),
      and above level 1 a relation (left, right, above, below) to another object, counts in full for
      the place. An area of several cells ("in the top row", "at the top" for an object in a corner)
      and "next to" count half. "At the top" names the middle cell of the top row exactly. "A shape"
      describes nothing.
    * ``faults``: false claims; all claims about objects that do not exist, including an object that
      is introduced twice; clauses, places and relations that repeat earlier ones; and two for each
      sentence outside the grammar (whose claims are ignored), plus one for every eight words of it.
      "Red or blue", or two colours for one object, cost at least half of the score, and text after
      the answer three quarters.

    Claimed objects are matched with those of the scene to the caption's best score. On average a
    guess scores less than leaving out an unseen attribute. Texts of more than 400 characters score
    0.

    Baselines, by level: ``blind`` describes a random scene (0.03, 0.02, 0.01). ``vague`` names only
    the right shapes, and ``colours`` only the colours (0.11, 0.06, 0.06). ``placeless`` describes
    everything but the places (0.44, 0.56, 0.56). Documents for language models are captions by
    somebody who sees badly and mistakes colours, shapes and places for others.

    ## Starting State

    A picture, by level: (1) one big object, (2) two objects, small or big, (3) three objects: two
    of them identical in 30 % of the scenes, all of one shape in different colours in 40 % of the
    others. The shade of the background is random. The question does not affect which scenes belong
    to the eval split.

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

    The row's other columns are ``scene`` (a list of objects with ``shape``, ``colour``, ``size``,
    ``row`` and ``column``, from 0 at the top left) and ``shade`` (of the background, 0 to 63). A
    user's row may have up to four objects.

    ## Episode End

    End-of-sequence, or 48 tokens: a termination. Captions begin with a space.

    ## Arguments

    ``level``: 1 (default), 2 or 3. ``split``: ``"train"`` or ``"eval"``.

    ## Real data

    ``prompts="hf:..."`` or a file, with the columns ``image`` and ``caption``, ``captions``,
    ``sentences``, ``sentences_raw`` or ``text``, as COCO, Flickr30k and most caption data on the
    Hugging Face Hub have them: a text, a list of texts, or dictionaries with ``raw``. All captions
    are kept as ``references``. A row without a ``scene`` is scored by ROUGE-L against the closest
    reference (rouge-score, ``textgym[metrics]``), and 0 above twice the words of the longest.

    ``image`` may be a path, the bytes of a file, a dictionary with ``bytes`` or ``path``, a Pillow
    image or a uint8 array ``[H, W, 3]``. Pillow (``textgym[render]``) resizes it to 36 x 36 pixels,
    and reads BMP, GIF, JPEG, PNG, PPM, TIFF and WebP files of up to 50 million pixels.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/Caption-v0"
    tags = ("pictures", "graded")
    scored_by = (
        "every claim checked against the scene, and the share of the scene that is described"
    )
    max_prompt_tokens = 16
    max_new_tokens = 48
    levels = (1, 2, 3)
    cheat_ceiling = 0.41
    image_shape = (3, 36, 36)

    def generate(self, rng: np.random.Generator) -> Row:
        """Draw a scene and a complete caption."""
        draw = draws(rng, 24)
        question = pick(QUESTIONS, draw)
        shade = int(draw() * _SHADES)
        first = int(draw() * len(_KINDS))
        kinds, sizes = [_KINDS[first]], ["big"]
        if self.level > 1:
            sizes = [pick(SIZES, draw) for _ in range(self.level)]
            second = (first + 1 + int(draw() * (len(_KINDS) - 1))) % len(_KINDS)
            kinds.append(_KINDS[second])
        if self.level == 3 and draw() < _PAIRS:
            kinds.insert(0, kinds[0])
            sizes[1] = sizes[0]
            cells = list(pick(GROUPS, draw)[:3])
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
        """The scene, without the question."""
        scene = row.get("scene")
        if scene is None:
            return super().identity(row)
        return "; ".join(
            f"{thing['size']} {thing['colour']} {thing['shape']} {thing['row']} {thing['column']}"
            for thing in sorted(scene, key=cell_of)
        )

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """The squared coverage of the scene, halved for each fault; ROUGE-L without a scene."""
        scene = row.get("scene")
        if scene is None:
            references = row.get("references")
            value = score_public(text, row["reference"] if references is None else references)
            return Judgement().add("the text", "ROUGE-L against the captions", value)
        if len(text) > LIMIT:
            return nothing("the text", f"longer than {LIMIT} characters")
        return judge(read(text), scene, self.level > 1)

    def image(self, row: Mapping[str, Any]) -> NDArray[np.uint8]:
        """Draw the scene, or load the picture in the column ``image``.

        Returns:
            uint8, RGB, ``[3, 36, 36]``.

        Raises:
            TaskError: If the row has no picture, or it cannot be read or drawn.
            MissingDependencyError: If the picture needs Pillow (``textgym[render]``).
        """
        scene = row.get("scene")
        if scene is not None:
            return draw_scene(scene, row.get("shade") or 0)
        if row.get("image") is None:
            raise TaskError(
                f"{self.id}: the row has neither a scene nor an image: add a column 'image' (a "
                "path, bytes, a Pillow image or a uint8 array) or a column 'scene'"
            )
        return load_picture(row["image"], self.image_shape)

    def convert(self, row: dict[str, Any]) -> Row:
        """Convert rows with pictures and captions, such as COCO's."""
        return convert(row)

    def potential(self, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """The score of the complete sentences so far."""
        return list(map(self.score, map(finished, texts), rows))

    def baselines(self) -> dict[str, Baseline]:
        """``blind`` ignores the picture; the others leave out attributes or places."""
        return {
            "blind": lambda row, rng: str(self.generate(rng)["reference"]),
            "vague": lambda row, rng: names(row, "shape"),
            "colours": lambda row, rng: names(row, "colour"),
            "placeless": lambda row, rng: names(row, "size", "colour", "shape"),
        }

    def document(self, rng: np.random.Generator) -> str:
        """A prompt with a caption that has errors."""
        row = self.sample(rng)
        return str(row["prompt"]) + mediocre(row, self.level, rng)


def _three(kinds: list[tuple[str, str]], same_shape: bool, luck: float) -> list[tuple[str, str]]:
    """Extend one or two pairs of colour and shape to three different ones."""
    if same_shape:
        colour, shape = kinds[0]
        number = COLOURS.index(colour)
        steps = (1, 2) if luck < 0.5 else (2, 4) if luck < 0.75 else (3, 5)
        return [kinds[0], *((COLOURS[(number + step) % len(COLOURS)], shape) for step in steps)]
    left = len(_KINDS) - 2
    number = int(luck * left)
    rest = (kind for kind in _KINDS if kind not in kinds)
    return [*kinds, next(kind for place, kind in enumerate(rest) if place == number)]

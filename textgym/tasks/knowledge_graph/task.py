"""Answer a question about a small knowledge graph with the path to the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.base import Baseline, Task
from textgym.tasks.judgement import Judgement, nothing, quoted
from textgym.tasks.knowledge_graph.baselines import mediocre, related, wander
from textgym.tasks.knowledge_graph.public import convert, judge_public, parse
from textgym.tasks.knowledge_graph.reader import read, valid_steps
from textgym.tasks.knowledge_graph.writer import completion, write
from textgym.tasks.qa.public import answers_of
from textgym.tasks.random_draws import draws

_WRONG_ANSWER = 0.2
"""The factor for a wrong answer after a path."""

_ANSWER = re.compile(r"\s*Path:([^.]+)\.\s*Answer:\s*([^.,\s]+)\.?\s*").fullmatch
_PATH = re.compile(r"\s*Path:((?:[^.,]+,)*(?:[^.,]+\.)?)").match
"""The complete names of a path, each with its comma or full stop."""

_MAX_CHARACTERS = 250
"""No completion of this task is longer."""


class KnowledgeGraph(Task):
    """Answer a question about a small knowledge graph with the path to the answer.

    ## Description

    The prompt lists facts such as "Ann - mother of - Tom" (Ann is the mother of Tom), and asks for
    a person or a city that is one to three facts away. The policy writes the path, from the person
    in the question to the answer, and then the answer. There are five kinds of questions:

    * "Who is the friend of the mother of Tom?"
    * "Ann is the mother of X. X is the friend of Y. Who is Y?"
    * "Where does the teacher of Tom live?"
    * a rule, such as "If X - mother of - Y and Y - father of - Z, then X - grandmother of - Z.",
      and a fact to complete with it: "Ann - grandmother of - ?"
    * the same from the other end: "? - grandmother of - Tom"

    The other facts have other relations, the opposite direction or other people, or lead into a
    dead end. There is always exactly one path.

    ## Observation Space

    ``Box(-1, V-1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids, padded with -1.

    ## Action Space

    ``Discrete(V)``: the next token.

    ## Rewards

    The score in [0, 1], at the end of the episode:

        score = valid / max(hops, steps) * named * (1 if the answer is right, else 0.2)

    * ``valid``: leading steps of the path that are facts and follow the question.
    * ``hops``: steps of the right path; ``steps``: steps of the path in the text.
    * ``named``: the share of the path's letters that belong to names in the facts.
    * A right answer is also the end of the path, if the path is right.

    Text in another form than "Path: Ann, Tom, Lucy. Answer: Lucy." gets 0: an answer without a
    path, several answers, anything before or after. White space is ignored, and the final full stop
    is optional.

    The ``wander`` baseline walks along any facts: 0.26, 0.19 and 0.17 at levels 1, 2 and 3.
    ``related``, the strongest, prefers relations that the question names, in any order and
    direction: 0.83, 0.57 and 0.52.

    ## Starting State

    A prompt of `generate`; the level is the number of hops. About four facts are irrelevant.

    ``item(0)`` at level 1::

        Facts: Rosa - cousin of - Anna; Rosa - doctor of - Hugo; Ella - friend of - Rosa;
        Clara - teacher of - Rosa; Rosa - works in - Vienna.
        Question: Rosa is the cousin of X. Who is X?

        -> Path: Rosa, Anna. Answer: Anna.

    ``item(0)`` at level 2::

        Facts: Sam - brother of - Oscar; Jack - father of - Sam; Jack - brother of - Emma;
        Jack - lives in - Vienna; Mia - teacher of - Jack; Jack - boss of - Clara.
        Rule: If X - father of - Y and Y - brother of - Z, then X - father of - Z.
        Question: Jack - father of - ?

        -> Path: Jack, Sam, Oscar. Answer: Oscar.

    ``item(0)`` at level 3::

        Facts: Sara - mother of - Oscar; Clara - mother of - Emma; Emma - mother of -
        Hugo; Oscar - works in - Naples; Jane - mother of - Mia; Oscar - father of - Jane;
        Sara - works in - Madrid.
        Rule: If X - mother of - Y and Y - father of - Z and Z - mother of - W, then X -
        ancestor of - W.
        Question: Sara - ancestor of - ?

        -> Path: Sara, Oscar, Jane, Mia. Answer: Mia.

    The row's other columns are ``triples``, ``start`` (the person in the question), ``steps``
    (relation, and 1 from head to tail or -1 from tail to head) and ``answers``.

    ## Episode End

    End-of-sequence, or 24 tokens (the oracle needs at most 20): a termination. Completions begin
    with a line break; a space is accepted too.

    ## Arguments

    ``level``: 1 (default), 2 or 3. ``split``: ``"train"`` or ``"eval"``.

    ## Real data

    ``gym.make("TextGen/KnowledgeGraph-v0", prompts="hf:rmanluo/RoG-webqsp")``, or a file of rows in
    the formats of WebQSP and MetaQA:

    * ``question``; MetaQA's marks its topic, "what films did [Ann Lee] act in";
    * ``answer``, ``answers`` or ``a_entity``: a list of strings, or a string divided by "|";
    * optionally ``triples``, ``graph``, ``facts``, ``subgraph`` or ``kg``: a list of triples, or a
      text with one fact per line, "head|relation|tail" or "head - relation - tail";
    * optionally ``q_entity``, ``topic_entity`` or ``topic``.

    The prompt shows at most 16 facts: those on a shortest path from the topic to an answer, their
    neighbours, then others, in their original order. The score is the F1 of the answers listed
    after "Answer:" (or in the whole text), divided by "; " and normalised as in SQuAD's evaluation.
    Where a path exists, half of the score is for a valid path that is as short as possible.

    Prompts written by hand in the form of this task are answered too, with any names and relations.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/KnowledgeGraph-v0"
    tags = ("reading", "exact")
    scored_by = "a valid path times the right answer"
    max_prompt_tokens = 120
    max_new_tokens = 24
    levels = (1, 2, 3)
    cheat_ceiling = 0.4

    def generate(self, rng: np.random.Generator) -> Row:
        """Draw a graph and a question; the level is the number of hops."""
        query = write(self.level, draws(rng, 90))
        facts = "; ".join([" - ".join(fact) for fact in query.triples])
        rule = f"Rule: {query.rule}\n" if query.rule else ""
        path = query.path
        return {
            "prompt": f"Facts: {facts}.\n{rule}Question: {query.question}",
            "reference": completion(path, path[-1]),
            "triples": query.triples,
            "start": path[0],
            "steps": query.steps,
            "answers": [path[-1]],
        }

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """The share of right steps, times 0.2 if the answer is wrong."""
        steps = row.get("steps")
        if not steps or not isinstance(steps, list):
            answers = answers_of(row.get("answers"))
            if answers is None and isinstance(reference := row.get("reference"), str):
                answers = [parse(reference)[1]]
            if not answers:
                return nothing("the row", "it has no answers to compare with")
            return judge_public(text, row, answers)
        if len(text) > _MAX_CHARACTERS:
            return nothing("the text", f"longer than {_MAX_CHARACTERS} characters")
        found = _ANSWER(text)
        if not found:
            return nothing("the text", "not of the form 'Path: A, B. Answer: B.'")
        answer = found[2]
        path = [name.strip() for name in found[1].split(",")]
        valid = valid_steps(path, row["triples"], row["start"], steps)
        if not valid:
            return nothing(quoted(path[0]), f"the first step from {row['start']} is wrong")
        judgement = Judgement()
        if valid < len(steps):
            judgement.note(f"step {valid + 1}", "missing, not a fact, or not in the question")
        taken = len(path) - 1
        share = valid / max(len(steps), taken)
        judgement.settle(f"{valid} of {len(steps)} steps", f"right, of {taken} taken", share)
        what = "names that are not in the facts"
        judgement.scale("the path", what, _share_named(path, row["triples"]))
        if answer not in row["answers"]:
            return judgement.scale(quoted(answer), "a wrong answer", _WRONG_ANSWER)
        if valid == len(steps) and answer != path[valid]:
            return judgement.scale(quoted(answer), "not the end of the path", _WRONG_ANSWER)
        return judgement.note(quoted(answer), "a right answer")

    def convert(self, row: dict[str, Any]) -> dict[str, Any]:
        """Convert a row of MetaQA or WebQSP; see Real data."""
        return convert(row)

    def complete_row(self, row: Row) -> Row:
        """Answer the question of a prompt that a user wrote."""
        if "steps" in row or "answers" in row or (found := read(row["prompt"])) is None:
            return row
        return {**found._asdict(), **row}

    def potential(self, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """The score of the path so far, if its end were the answer."""
        return list(map(self.score, map(_answered, texts), rows))

    def baselines(self) -> dict[str, Baseline]:
        """``wander`` walks along any facts, ``related`` along those that the question names."""
        return {"wander": wander, "related": related}

    def document(self, rng: np.random.Generator) -> str:
        """A graph, a question and a completion; fewer than half of them are right."""
        row = self.sample(rng)
        return str(row["prompt"]) + mediocre(row, rng)


def _answered(text: str) -> str:
    """The text if it has an answer, or else its path so far, answered by the path's end."""
    path = _PATH(text)
    if not path or not path[1] or (_ANSWER(text) and text.rstrip().endswith(".")):
        return text
    names = path[1].rstrip(".,")
    return f"\nPath:{names}. Answer:{names.rpartition(',')[2]}."


def _share_named(path: Sequence[str], triples: Sequence[Sequence[str]]) -> float:
    """The share of a path's letters that belong to names in the facts."""
    names = {name for head, _, tail in triples for name in (head, tail)}
    size = sum(map(len, path))
    return sum(len(name) for name in path if name in names) / size if size else 0.0

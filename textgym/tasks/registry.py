"""Tasks by id: the built-in ones, and those that users register."""

from __future__ import annotations

from textgym.errors import TaskError
from textgym.registry import TASKS
from textgym.tasks.base import Task

_BUILT_IN = {
    "TextGen/Caption-v0": "textgym.tasks.caption.task:Caption",
    "TextGen/Code-v0": "textgym.tasks.code.task:Code",
    "TextGen/DataToText-v0": "textgym.tasks.data_to_text.task:DataToText",
    "TextGen/Dialogue-v0": "textgym.tasks.dialogue.task:Dialogue",
    "TextGen/GoodBad-v0": "textgym.tasks.good_bad.task:GoodBad",
    "TextGen/KnowledgeGraph-v0": "textgym.tasks.knowledge_graph.task:KnowledgeGraph",
    "TextGen/Mix-v0": "textgym.tasks.mix:Mix",
    "TextGen/Moderate-v0": "textgym.tasks.moderate.task:Moderate",
    "TextGen/Probe-Conditional-v0": "textgym.tasks.probes.words:Conditional",
    "TextGen/Probe-Constant-v0": "textgym.tasks.probes.words:Constant",
    "TextGen/Probe-Delayed-v0": "textgym.tasks.probes.texts:Delayed",
    "TextGen/Probe-LargeVocabulary-v0": "textgym.tasks.probes.words:LargeVocabulary",
    "TextGen/Probe-LongHorizon-v0": "textgym.tasks.probes.texts:LongHorizon",
    "TextGen/Probe-ManyPrompts-v0": "textgym.tasks.probes.words:ManyPrompts",
    "TextGen/Probe-Masks-v0": "textgym.tasks.probes.texts:Masks",
    "TextGen/Probe-Noise-v0": "textgym.tasks.probes.rewards:Noise",
    "TextGen/Probe-Scale-v0": "textgym.tasks.probes.rewards:Scale",
    "TextGen/Probe-Sparse-v0": "textgym.tasks.probes.texts:Sparse",
    "TextGen/QA-v0": "textgym.tasks.qa.task:QA",
    "TextGen/Risk-v0": "textgym.tasks.risk.task:Risk",
    "TextGen/Sentiment-v0": "textgym.tasks.sentiment.task:Sentiment",
    "TextGen/Story-v0": "textgym.tasks.story.task:Story",
    "TextGen/Summarize-v0": "textgym.tasks.summarize.task:Summarize",
    "TextGen/Translate-v0": "textgym.tasks.translate.task:Translate",
}

for _id, _address in _BUILT_IN.items():
    TASKS.add(_id, _address)


def register_task(id: str, task: type[Task] | str) -> None:
    """Register a task under an id, so that `make_task` finds it.

    This does not register anything with Gymnasium; ``textgym.register_task`` also registers the
    environment.

    Args:
        id: Name with a version, such as ``"TextGen/MyTask-v0"``. The same class may be registered
            again (a notebook's cell is run twice); the newer one counts.
        task: The class, or ``"module:Class"`` to import it when it is needed.

    Raises:
        TaskError: If `task` is neither, its own `id` is another one, or the id is another task's.
    """
    if not isinstance(task, str):
        _check_class(id, task)
    TASKS.add(id, task)


def registered_tasks() -> list[str]:
    """The known task ids, sorted."""
    return TASKS.names()


def built_in_tasks() -> list[str]:
    """The ids of the package's own tasks, sorted, whatever else is registered."""
    return sorted(_BUILT_IN)


def make_task(id: str, level: int | None = None, split: str = "train") -> Task:
    """Build a task by its id.

    Args:
        id: A registered id.
        level: Difficulty; None is the task's default.
        split: ``"train"`` or ``"eval"``.

    Raises:
        TaskError: On an unknown id (with near matches), level or split, or when a registered
            ``"module:Class"`` cannot be imported.
    """
    kind = TASKS.get(id)
    _check_class(id, kind)
    task: Task = kind(level=level, split=split)
    return task


def check_registered(id: str) -> None:
    """Refuse an id that is not registered.

    Raises:
        TaskError: If no task is registered under it; the message has near matches.
    """
    TASKS.check(id)


def _check_class(id: str, task: object) -> None:
    if not (isinstance(task, type) and issubclass(task, Task)):
        raise TaskError(f"cannot register {id!r}: {task!r} is not a subclass of textgym.tasks.Task")
    own = getattr(task, "id", None)
    if own != id:
        raise TaskError(
            f"cannot register {task.__name__} as {id!r}: its own id is {own!r}; "
            f"write `id = {id!r}` in the class"
        )

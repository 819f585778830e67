"""Names of tasks: which class belongs to which id, imported when it is first asked for."""

from __future__ import annotations

import importlib

from textgym.errors import TaskError, near_matches, shown
from textgym.tasks.base import Task

_TASKS: dict[str, type[Task] | str] = {
    "TextGen/Caption-v0": "textgym.tasks.caption:Caption",
    "TextGen/Code-v0": "textgym.tasks.code:Code",
    "TextGen/DataToText-v0": "textgym.tasks.data_to_text:DataToText",
    "TextGen/Dialogue-v0": "textgym.tasks.dialogue:Dialogue",
    "TextGen/GoodBad-v0": "textgym.tasks.goodbad:GoodBad",
    "TextGen/KnowledgeGraph-v0": "textgym.tasks.knowledge_graph:KnowledgeGraph",
    "TextGen/Mix-v0": "textgym.tasks.mix:Mix",
    "TextGen/Moderate-v0": "textgym.tasks.moderate:Moderate",
    "TextGen/Probe-Conditional-v0": "textgym.tasks.probes_words:Conditional",
    "TextGen/Probe-Constant-v0": "textgym.tasks.probes_words:Constant",
    "TextGen/Probe-Delayed-v0": "textgym.tasks.probes_texts:Delayed",
    "TextGen/Probe-LargeVocabulary-v0": "textgym.tasks.probes_words:LargeVocabulary",
    "TextGen/Probe-LongHorizon-v0": "textgym.tasks.probes_texts:LongHorizon",
    "TextGen/Probe-ManyPrompts-v0": "textgym.tasks.probes_words:ManyPrompts",
    "TextGen/Probe-Masks-v0": "textgym.tasks.probes_masks:Masks",
    "TextGen/Probe-Noise-v0": "textgym.tasks.probes_rewards:Noise",
    "TextGen/Probe-Scale-v0": "textgym.tasks.probes_rewards:Scale",
    "TextGen/Probe-Sparse-v0": "textgym.tasks.probes_texts:Sparse",
    "TextGen/QA-v0": "textgym.tasks.qa:QA",
    "TextGen/Risk-v0": "textgym.tasks.risk:Risk",
    "TextGen/Sentiment-v0": "textgym.tasks.sentiment:Sentiment",
    "TextGen/Story-v0": "textgym.tasks.story:Story",
    "TextGen/Summarize-v0": "textgym.tasks.summarize:Summarize",
    "TextGen/Translate-v0": "textgym.tasks.translate:Translate",
}


def register_task(id: str, task: type[Task] | str) -> None:
    """Keep a task under a name, so that `make_task` finds it.

    This knows nothing of Gymnasium; ``textgym.register_task`` also registers the environment.

    Args:
        id: Name with a version, such as ``"TextGen/MyTask-v0"``. The same class may be registered
            again (a notebook's cell is run twice); the newer one counts.
        task: The class, or ``"module:Class"`` to import it when it is needed.

    Raises:
        TaskError: If `task` is neither, its own `id` is another one, or the id is another task's.
    """
    if isinstance(task, str):
        module, colon, name = task.partition(":")
        if not (module and colon and name):
            raise TaskError(f"cannot register {id!r}: {task!r} does not read 'module:Class'")
    else:
        _check_class(id, task)
    if id in _TASKS and _address(_TASKS[id]) != _address(task):
        raise TaskError(
            f"cannot register {_address(task)} as {id!r}: that is {_address(_TASKS[id])}; "
            "choose another name or a new version"
        )
    _TASKS[id] = task


def registered_tasks() -> list[str]:
    """The known task ids, sorted."""
    return sorted(_TASKS)


def make_task(id: str, level: int | None = None, split: str = "train") -> Task:
    """Build a task by name.

    Args:
        id: A registered id.
        level: Difficulty; None is the task's default.
        split: ``"train"`` or ``"eval"``.

    Raises:
        TaskError: On an unknown id (with near matches), level or split, or when a registered
            ``"module:Class"`` cannot be imported.
    """
    check_registered(id)
    target = _TASKS[id]
    if isinstance(target, str):
        module, _, name = target.partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise TaskError(f"task {id!r} is registered as {target!r}: {error}") from error
        _check_class(id, found)
        # The class itself replaces its address: the next call need not look it up.
        _TASKS[id] = target = found
    return target(level=level, split=split)


def check_registered(id: str) -> None:
    """Refuse what is not the id of a task.

    Raises:
        TaskError: If no task is registered under it; the message has near matches.
    """
    if not isinstance(id, str) or id not in _TASKS:
        raise TaskError(
            f"there is no task {shown(id)}{near_matches(id, _TASKS)}; "
            f"registered tasks: {', '.join(registered_tasks())}"
        )


def _address(task: type[Task] | str) -> str:
    return task if isinstance(task, str) else f"{task.__module__}:{task.__qualname__}"


def _check_class(id: str, task: object) -> None:
    if not (isinstance(task, type) and issubclass(task, Task)):
        raise TaskError(f"cannot register {id!r}: {task!r} is not a subclass of textgym.tasks.Task")
    own = getattr(task, "id", None)
    if own != id:
        raise TaskError(
            f"cannot register {task.__name__} as {id!r}: its own id is {own!r}; "
            f"write `id = {id!r}` in the class"
        )

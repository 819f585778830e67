"""textgym: text generation as a Markov decision process, with Gymnasium's interface.

Importing the package registers the environment ids::

    import gymnasium, textgym

    env = gymnasium.make("TextGen-v0")
    envs = gymnasium.make_vec("TextGen/Sentiment-v0", num_envs=64)

Environments do not need torch. Language models are in :mod:`textgym.lm`, and the adapter for
stable-baselines3 in :mod:`textgym.sb3`.
"""

import textgym.moved  # noqa: F401  # old names of modules can be imported
from textgym.envs import TextGenEnv, TextGenVectorEnv, register_task
from textgym.envs.registration import register_environments
from textgym.errors import DataWarning, TextGymError
from textgym.rewards import make_reward, register_reward, registered_rewards
from textgym.tasks import Task, make_task, registered_tasks
from textgym.tasks.sources.mixing import mix
from textgym.tokenization import load_tokenizer

__version__ = "0.1.0"

__all__ = [
    "DataWarning",
    "Task",
    "TextGenEnv",
    "TextGenVectorEnv",
    "TextGymError",
    "load_tokenizer",
    "make_reward",
    "make_task",
    "mix",
    "register_reward",
    "register_task",
    "registered_rewards",
    "registered_tasks",
]

register_environments()

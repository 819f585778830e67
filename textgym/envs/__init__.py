"""The batch Markov decision process of text generation, its single face, and the ids."""

from textgym.envs.registration import register_task
from textgym.envs.single import TextGenEnv
from textgym.envs.vector import TextGenVectorEnv

__all__ = ["TextGenEnv", "TextGenVectorEnv", "register_task"]

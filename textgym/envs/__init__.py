"""The environments: text generation as a Markov decision process, batched and single.

* :mod:`~textgym.envs.batch`: the process itself, for a whole batch of rows.
* :mod:`~textgym.envs.vector` and :mod:`~textgym.envs.single`: Gymnasium's two interfaces to it.
* :mod:`~textgym.envs.arguments` and :mod:`~textgym.envs.settings`: the arguments, and what the
  batch makes of them.
* :mod:`~textgym.envs.prompts`: drawing, rendering and checking prompts.
* :mod:`~textgym.envs.scoring`: rewards, costs, and ``info`` at the end of an episode.
* :mod:`~textgym.envs.conversation`: the turns of an episode. :mod:`~textgym.envs.stopping`: stop
  strings.
* :mod:`~textgym.envs.vector_infos`: ``info`` in Gymnasium's vector form, with masks.
* :mod:`~textgym.envs.registration`: the ids.
"""

from textgym.envs.registration import register_task
from textgym.envs.single import TextGenEnv
from textgym.envs.vector import TextGenVectorEnv

__all__ = ["TextGenEnv", "TextGenVectorEnv", "register_task"]

"""Rewards that run a neural network: each is imported, with torch, when it is first made.

They stand above the language models (:mod:`textgym.lm`), which some of them read texts with; the
rest of :mod:`textgym.rewards` knows nothing of torch.
"""

from textgym.rewards.registry import register_reward

_HERE = "textgym.rewards.neural"

register_reward("adversarial", f"{_HERE}.adversarial:Adversarial")
register_reward("bertscore", f"{_HERE}.bertscore:BertScore")
register_reward("classifier", f"{_HERE}.classifier:Classifier")
register_reward("fluency", f"{_HERE}.fluency:Fluency")
register_reward("reward_model", f"{_HERE}.classifier:RewardModel")
register_reward("similarity", f"{_HERE}.similarity:SemanticSimilarity")

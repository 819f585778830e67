"""Sources of prompts: tasks, lists, files, data sets, functions, and mixtures of them."""

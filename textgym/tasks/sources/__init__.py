"""Where prompts come from: tasks, lists, files, data sets, and mixtures of them."""

"""Where episodes start: prompts drawn, rendered and checked."""

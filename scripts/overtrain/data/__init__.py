"""Text in: corpora and their tokenizers, tasks, conversations, prompts."""

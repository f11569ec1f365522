"""Texts that a model writes, and stretches it picks: what the tasks that answer in words are made of."""

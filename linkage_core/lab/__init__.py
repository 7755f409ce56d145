"""Heads trained, attacked and used: the tables behind the two pages on protection."""

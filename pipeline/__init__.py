"""The library behind the stages: text in, a character-level language model out."""

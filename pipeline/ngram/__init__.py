"""The n-gram model: the baseline of every perplexity, and a part of the model that remembers whole passages."""

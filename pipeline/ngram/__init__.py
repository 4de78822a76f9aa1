"""The n-gram model: the baseline of every perplexity, and the part of a model that knows long passages by heart."""

"""The stage evaluate: perplexity, baselines and breakdowns; figures of generated samples."""

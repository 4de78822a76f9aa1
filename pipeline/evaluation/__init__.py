"""The stage evaluate: perplexity and its breakdowns; and the metrics of generated samples."""

"""What `charlm corpus` reports about a text before training, and the params it suggests."""

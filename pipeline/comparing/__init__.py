"""What models are compared by, and how a model differs from the commit it builds on."""

"""The stage clean: rules for characters, normal forms, and which documents are retained."""

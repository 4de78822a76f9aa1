"""The stage validate: facts about the data, expectations on them, leakage and drift."""

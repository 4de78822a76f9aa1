"""Where a source's files lie, here or elsewhere, and how their bytes come; knows nothing about text."""

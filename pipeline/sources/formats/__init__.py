"""From a file's bytes to text, or to the columns of a table; knows nothing about documents."""

"""A model as a file that travels: the page with the model in it."""

"""The pyfunc model, the streaming server and its playground page."""

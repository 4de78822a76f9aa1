"""The compiled inner loops over ids: arrays in, counts out."""

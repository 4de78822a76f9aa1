"""The compiled inner loops of generation: arrays in, arrays out. One small module per cell; see `compiling`."""

"""The compiled inner loops of generation: arrays in, arrays out. `core/kernel_cache.py` compiles them."""

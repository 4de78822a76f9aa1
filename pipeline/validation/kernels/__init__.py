"""The compiled inner loops over ids: arrays in, counts out.

They use nothing of another folder of kernels: where their machine code is kept follows from the source beside them.
"""

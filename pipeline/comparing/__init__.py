"""Compares models by their figures and params, and summarises the last one."""

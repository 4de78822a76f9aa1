"""Where text comes from, how it is cleaned, what must hold of it."""

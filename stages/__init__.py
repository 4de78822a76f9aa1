"""One script per DVC stage: it reads params, calls the library, and writes and logs outputs."""

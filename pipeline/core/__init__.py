"""What every package uses: errors, files, seeds, threads, and the cache of compiled kernels."""

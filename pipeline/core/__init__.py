"""What every package uses: errors, whole-file writes, seeds, threads, and the cache of compiled kernels."""

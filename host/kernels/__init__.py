"""Products of packed matrices on the host: by numba on its cores, and by torch on a GPU."""

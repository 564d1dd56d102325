"""The GPU backend: native/gpu's kernels, driven through HIP, CUDA or emulation on the host."""

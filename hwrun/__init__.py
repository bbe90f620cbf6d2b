"""hwrun: run split neural networks on real sockets and record raw samples."""

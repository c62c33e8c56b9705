"""Benchmarks: each figure beside that of bare gRPC, measured in the same run. See README.md."""

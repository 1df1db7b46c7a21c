"""Commands that measure runs, or sum up what was measured: the harness, averages of benchmarks."""

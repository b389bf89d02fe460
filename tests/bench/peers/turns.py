"""Medians of turns, as apps/stopwatch.cpp measures them."""

import statistics
from time import perf_counter


def turn(least_seconds, once):
    """Calls `once` until `least_seconds` are over, at least once; the median of each number it returns. One call before does not count."""
    once()
    results, start = [], perf_counter()
    while not results or perf_counter() - start < least_seconds:
        results.append(once())
    return {name: statistics.median(result[name] for result in results) for name in results[0]}

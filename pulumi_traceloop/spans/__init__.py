"""Matches selectors against recorded spans, to show whether a monitor sees traffic.

Reading order: `matching` (how many spans a selector matches, and why not), `near_misses` (what to
change), `sources` (spans from files or Traceloop), `traffic` (matches in plans), `attributes`
(known attributes, without spans).

Programs and the provider import this package lazily.
"""

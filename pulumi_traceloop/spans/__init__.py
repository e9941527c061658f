"""Does a monitor see traffic? Selectors tried on real spans.

Reading order: `matching` (a selector, spans, how many match and why not), `near_misses` (what to
change where none does), `sources` (spans from a file or from Traceloop), `traffic` (what a plan
says of both), `attributes` (what is known about an attribute without any span).

Nothing here is imported by the provider process or the program unless it is needed.
"""

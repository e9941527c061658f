"""A model-based test: random programs and faults, and invariants that hold nevertheless.

plans.py      the strategies: edits, faults, kills, operations, and the resulting programs
service.py    an emulator that records each write and delete, and can stop at the n-th request
sequence.py   runs one plan on one stack, and checks the model after every operation
test_model.py the tests; `TRACELOOP_SOAK=500` runs 500 sequences
"""

"""Random programs, random faults and what must hold all the same.

plans.py      what can happen: edits, faults, kills, operations, and the programs that they make
service.py    the emulator, with an eye on each write and delete and a gate at the n-th request
sequence.py   runs one plan on one stack, keeps the model and checks it after every operation
test_model.py the tests; `TRACELOOP_SOAK=500` runs so many sequences
"""

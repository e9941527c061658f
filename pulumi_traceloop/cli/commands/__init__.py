"""The commands, a module for each: options, help texts and exit codes.

A command imports the module that does its work when it runs, so that `--help` and `plan` do
without rich, which takes a while to load.
"""

"""Selection: which of an agent's own turns a memory specialist is trained on.

A selector reads Parquet traces (`traces`), gives every turn of the memory role a verdict with a
reason (`verdict`), thins what it accepts (`thinning`), and leaves a folder (`selection`): every
turn flagged, and a report. `command` is `automem select`.
"""

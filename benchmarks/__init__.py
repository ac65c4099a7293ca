"""How fast is aioipc beside blocking code, and beside the other libraries?

Speed is stated as a ratio of two contestants that ran in the same round, each
in a process of its own, so that a noisy machine disturbs both. Run it all with
``python -m benchmarks``, or see a sketch of it within two minutes with
``python -m benchmarks --quick``.

What to read, in order:

- `bridge`: the cases and the targets that each must meet
- `exchanges`: what is timed: the loops over ``send`` and ``recv``
- `media`: what carries the messages
- `contestants`: who is timed: one file for each library
- `trial`: one measurement, from the fork of the peer to the number
- `harness`: rounds, ratios and verdicts
- `isolation`: the fresh process that each measurement gets
- `machine`: where, and who else used it meanwhile
- `report`: the table and the file of results
"""

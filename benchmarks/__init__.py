"""How fast is aioipc beside blocking code, and beside the other libraries?

Speed is stated as a ratio of two contestants that ran in the same round, each
in a process of its own, so that a noisy machine disturbs both. Run it all with
``python -m benchmarks``, or see a sketch of it within two minutes with
``python -m benchmarks --quick``.

What to read, in order:

- `bridge`, `queues`, `broker`, `pool`, `latency`, `arrays`, `growth`: the cases, and
  the targets that some must meet
- `contestants`: who is timed: one file for each library, and one for the limits
- `exchanges`, `messages`, `media`: what is timed with a peer, and what carries it
- `trial`: one such measurement, from the fork of the peer to the number
- `calls`, `maps`, `lags`, `life`: what is timed with a pool; `tasks` is what it does
- `standstill`: how late the loop is
- `harness`: rounds, ratios and verdicts
- `isolation`: the fresh process that each measurement gets
- `effort`: what a sketch leaves out
- `machine`: where, and who else used it meanwhile
- `report`, `progress`: what is seen while it runs, and the files of results
- `figures`: what those files say; `blocks`, `tables`, `phrases`, `labels`: in which
  words
- `documents`: writes the blocks of the README and the docs, and finds what is `loose`,
  typed instead; `plots` draws

Apart from these stand `promises`, `transfers`, `chaos` and `survival`: commands of
their own. `survival` kills who uses a queue, `hangs` who uses a plain one; in `ledger`
they write down what they did.
"""

"""The child's whole life: what a pool's worker runs. Standard library only.

`main` is the loop; `channel` talks to the pool; `calls` makes a call and tells how it
went; `interrupts` ends a running task; `failures` describes an exception; `isolation`
parts the child from its parent.
"""

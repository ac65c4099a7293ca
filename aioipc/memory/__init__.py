"""Large buffers, in memory that the coordinator and its workers share.

`slots` decides where a buffer goes; `arena` is the file that it is written to; `views`
is the other side's look at it; `parcels` sends an object's large parts that way, and
the rest as a pickle. Standard library only: workers use it too.
"""

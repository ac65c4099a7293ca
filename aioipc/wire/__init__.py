"""What travels: frames and pickles, with no loop, no thread and no descriptor.

Standard library only, because workers use it too.
"""

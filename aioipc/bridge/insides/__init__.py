"""What `multiprocessing` hides and the bridge must reach for; here and nowhere else.

The names have been the same since Python 3.3, and are the same in 3.11 to 3.14.
"""

"""How a task waits: by readiness where the kernel can tell, by a thread where not.

`loops` adapts asyncio, uvloop and trio to one small contract; `watches` waits for
descriptors on it; `threads` runs what would block; `choice` picks.
"""

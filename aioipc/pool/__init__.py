"""Fan-out to worker processes.

`pool` is what the user holds; `_scheduler` decides, and knows of no process (`_states`,
`_pending` and `_actions` are what it knows, keeps and says); `crew`
carries out what it decided; `member` is one worker process and the channel to it;
`task` is one call; `maps` makes streams of calls; `executor` is for code that knows
`concurrent.futures`.
"""

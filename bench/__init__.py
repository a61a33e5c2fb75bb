"""What a router costs: ours against the kernel's floor and against a process per command, in one run.

``python -m bench`` (``make bench``).  Every measurement runs in a process and a network namespace of its own
(:mod:`.worker`), so nothing touches the host.  ``docs/performance.md`` says what the figures mean.
"""

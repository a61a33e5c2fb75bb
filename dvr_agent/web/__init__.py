"""The page of ``dvrctl web``: the process that talks to browsers.

::

    browser ── TCP, loopback ──► front (this package)  ── socket pair ──►  dvrctl web (dvr_agent.cli.web)
                                 a user without rights,                    root: asks the admin socket,
                                 no capability, no network                 reads the kernel, runs dvrctl -o json …

The front reads what browsers send, and has no rights: a fault in it must not lead to the host.  It shares no module
with the agent but ``errors`` and ``libc``, and never sees the configuration.  Its main module is ``front``.
"""

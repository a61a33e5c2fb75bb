"""``dvrctl web``: serves a page about this host to browsers on loopback, read only.  Manual: ``docs/web.md``.

This package is the half with root's rights: it starts the other half (:mod:`dvr_agent.web`), which talks to browsers
and has none, and answers its questions.

- ``command``: the verb: start, end, what is printed
- ``listener``, ``token``, ``front``: the address, the secret, and the process that gets both
- ``answers``: question → answer; from the admin socket, ``commands`` (dvrctl), ``documents`` and ``counters``
"""

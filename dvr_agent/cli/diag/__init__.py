"""``dvrctl diag``: one archive with everything that somebody else needs to understand a fault of this host.

``command`` is the verb, ``pieces`` lists what goes in, ``archive`` writes it, ``secret_filter`` lets no secret through.
"""

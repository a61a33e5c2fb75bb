"""Router documents from a neutron-server: what its message bus says and answers, turned into a source's events.

``messaging`` and its neighbours talk oslo.messaging (extra ``dvr-agent[neutron]``); all the rest knows only the two
sides of ``api``: calls to the server's L3 plugin, and notifications from it.
"""

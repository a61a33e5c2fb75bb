"""Packet captures at every place that the packets of a router or a floating IP pass on this host.

``places`` says where and with which filter, ``recorder`` runs tcpdump there, ``pcap`` reads what each tcpdump writes,
``pcapng`` writes all of it into one file.  Used by ``dvrctl capture``.
"""

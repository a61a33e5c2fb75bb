"""What a router needs beside its kernel state: router advertisements (radvd) and metadata.

Driven by ``reconcile``, after a router's kernel state is in place and before its namespaces go.  See ``api``.
"""

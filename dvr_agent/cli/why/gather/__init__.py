"""Reads everything that the checks judge: documents, kernel, layer 2, daemon.  The only part of ``why`` with I/O."""

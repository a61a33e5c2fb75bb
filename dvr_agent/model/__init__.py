"""Router documents, parsed once into frozen, typed values.  Pure: no I/O; whoever calls brings the bytes."""

"""Router documents, parsed once into frozen, typed values.  Pure: no I/O, the caller reads the bytes."""

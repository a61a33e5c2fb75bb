"""The story of one router: observe, allocate, desire, compare, write.  Used by daemon and dvrctl; no eventlet."""

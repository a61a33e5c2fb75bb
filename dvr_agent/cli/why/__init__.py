"""Explains why a floating IP, an address or a router does not work: facts → steps with verdicts → one sentence.

``gather`` reads documents, kernel and daemon once and makes :class:`~.facts.Facts`; everything else is pure.
``checks`` judges the facts, one function per place that a packet passes; ``causes`` lists every fault that can be
named, with its sentence and what to do; ``answer`` puts them together.  Used by ``dvrctl why``.
"""

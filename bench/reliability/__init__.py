"""Measures the promises of ``docs/reliability.md`` by long runs, in private namespaces: ``make reliability``.

``api`` says what a promise is, ``rows`` holds one module of promises per subject, ``__main__`` measures and prints.
"""

"""Makes the completion of dvrctl for shells: ``python -m tools.completion DIRECTORY`` (``make completion``).

bash and zsh by shtab; fish, which shtab does not know, by ``fish``.  ``arguments`` says what completes an argument:
files, directories, routers, namespaces.
"""

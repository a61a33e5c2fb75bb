"""Makes the completion for bash and zsh by shtab."""

from __future__ import annotations

import argparse

import shtab

from tools.completion.arguments import Kind, kind, parsers

FUNCTIONS = {
    Kind.FILE: shtab.FILE,
    Kind.DIRECTORY: shtab.DIRECTORY,
    Kind.ROUTER: {"bash": "_dvrctl_routers", "zsh": "_dvrctl_routers"},
    Kind.NAMESPACE: {"bash": "_dvrctl_namespaces", "zsh": "_dvrctl_namespaces"},
}
# Names of namespaces can be listed by everybody and without a process, so a TAB costs nothing.
PREAMBLE = {
    "bash": """\
_dvrctl_namespaces() {
  local path
  for path in /run/netns/{qrouter,fip,snat}-*; do
    [ -e "$path" ] && compgen -W "${path##*/}" -- "$1"
  done
}

_dvrctl_routers() {
  local path
  for path in /run/netns/qrouter-*; do
    [ -e "$path" ] && compgen -W "${path##*/qrouter-}" -- "$1"
  done
}
""",
    "zsh": """\
_dvrctl_namespaces() {
  local -a found=(/run/netns/(qrouter|fip|snat)-*(N:t))
  compadd -- $found
}

_dvrctl_routers() {
  local -a found=(/run/netns/qrouter-*(N:t))
  compadd -- ${found#qrouter-}
}
""",
}

REPAIRS = {
    '="${current_action}_choices"': '="${current_action}_choices[@]"',
    '-W "${current_action_choices}" --': """-W "${current_action_choices// /$'\\n'}" --""",
    '"${!current_action_compgen_var}"': '"${!current_action_compgen_var-}"',
    '-n "${!current_action_nargs_var}"': '-n "${!current_action_nargs_var-}"',
}
"""What shtab 1.5.5, which Debian 12 has, gets wrong in bash, and how: it offers the first of several choices only, and
its variables that are not set are an error in a shell with the option nounset."""


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script for ``bash`` or ``zsh``."""
    for _verbs, one in parsers(parser):
        for action in one._actions:
            found = kind(action)
            if found is not None:
                action.complete = FUNCTIONS[found]  # type: ignore[attr-defined]  # shtab's interface
    text = str(shtab.complete(parser, shell=shell, preamble=PREAMBLE[shell]))
    for wrong, right in REPAIRS.items():
        text = text.replace(wrong, right)
    return text

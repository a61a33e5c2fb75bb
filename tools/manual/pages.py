"""The manual pages as reStructuredText: what is generated comes from the parsers and options, the rest stands here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dvr_agent.cli import exit_codes
from dvr_agent.cli.ctl import EXAMPLES, make_parser
from dvr_agent.vrrp.main import make_parser as make_vrrp_parser
from tools.manual import commands, options, rst

CONFIGURATION = (
    "Without these options /etc/dvr-agent/dvr-agent.conf is read if it is there, then the files *.conf of "
    "/etc/dvr-agent/dvr-agent.conf.d; see dvr-agent.conf(5)."
)
CONFIG_OPTIONS = [
    ("--config-file FILE", "Read this configuration. May be given several times; later files take precedence."),
    ("--config-dir DIR", "Read the files *.conf of this directory, in the order of their names, after the files."),
]
LOGGING = (
    "The options of oslo.log may be given, too: --debug, --log-file, --log-dir, --use-journal, --use-json and others, "
    "which --help lists. In the configuration they stand in [DEFAULT]."
)
CONFIG_FILES = [
    ("/etc/dvr-agent/dvr-agent.conf", "configuration, see dvr-agent.conf(5)"),
    ("/etc/dvr-agent/dvr-agent.conf.d/", "more of it: *.conf; Neutron's own files may be linked here"),
]
DAEMON_CODES = {
    0: "stopped by a signal",
    1: "cannot run now; the reason is one line in the log, or on stderr",
    2: "wrong arguments",
    78: "the configuration cannot be used (EX_CONFIG): systemd does not try again",
}
SIGNALS = [("SIGTERM, SIGINT", "Stop. Nothing in the kernel is changed: routers go on forwarding.")]


def all_pages() -> Mapping[str, tuple[int, str]]:
    """Map the name of each page to its section of the manual and its text."""
    return {
        "dvrctl": (1, _dvrctl()),
        "dvr-agent.conf": (5, _dvr_agent_conf()),
        "dvr-agent": (8, _dvr_agent()),
        "dvr-metadata-proxy": (8, _dvr_metadata_proxy()),
        "dvr-vrrp": (8, _dvr_vrrp()),
    }


def _dvrctl() -> str:
    parser = make_parser()
    verbs = list(commands.verbs(parser))
    return (
        _name("dvrctl", "show, check and change the routers that dvr-agent makes on this host")
        + rst.section("SYNOPSIS", commands.synopsis(parser))
        + rst.section(
            "DESCRIPTION",
            rst.plain(parser.description or ""),
            "Results go to stdout, each error is one line on stderr. There is no colour when the output is piped. What "
            "comes from router documents is printed without control characters.",
        )
        + rst.section("OPTIONS", commands.arguments(parser), rst.plain(CONFIGURATION))
        + rst.section("VERBS", "".join(commands.verb(one) for one in verbs))
        + rst.section("JSON", rst.plain(_JSON))
        + rst.section("EXIT STATUS", _verb_codes(exit_codes.VERBS), "With every verb:", _codes(exit_codes.ANY))
        + rst.section("ENVIRONMENT", rst.definitions([(rst.strong("NO_COLOR"), "If set, there is no colour.")]))
        + _files([*CONFIG_FILES, ("/run/dvr-agent/admin.sock", "the socket by which the running daemon is asked")])
        + rst.section("EXAMPLES", rst.literal(EXAMPLES))
        + _see_also("dvr-agent(8)", "dvr-agent.conf(5)", "ip-netns(8)")
    )


_JSON = (
    "With -o json a verb prints one JSON document on stdout. Keys are only ever added. A JSON Schema of each is "
    "installed with the program: dvrctl schema VERB prints it."
)


def _dvr_agent() -> str:
    return (
        _name("dvr-agent", "makes OpenStack's distributed virtual routers real in the Linux kernel")
        + rst.section("SYNOPSIS", _usage("dvr-agent"))
        + rst.section(
            "DESCRIPTION",
            "A daemon for compute and network nodes, in the place of neutron-l3-agent. Router documents come from a "
            "directory, or from neutron-server by its message bus. The kernel is read, and only the difference is "
            "written: network namespaces, veth pairs, addresses, routes, policy rules, neighbours, sysctls and packet "
            "filter rules, under the names and numbers that neutron-l3-agent uses.",
            "Stopping or killing it changes nothing in the kernel. A restart reads before it writes, and writes nothing"
            " if nothing differs. It is asked by **dvrctl status**, and runs as a service of systemd, as root, in the "
            "host's mount namespace.",
        )
        + rst.section("OPTIONS", _options(CONFIG_OPTIONS), rst.plain(CONFIGURATION), rst.plain(LOGGING))
        + rst.section(
            "SIGNALS",
            rst.definitions(
                [
                    *SIGNALS,
                    ("SIGHUP", "Read **debug** and the log levels again (systemctl reload)."),
                    ("SIGUSR2", "Write a Guru Meditation report: stacks of all threads, and the configuration."),
                ]
            ),
        )
        + rst.section("EXIT STATUS", _codes(DAEMON_CODES))
        + _files(
            [
                *CONFIG_FILES,
                ("/etc/dvr-agent/routers/", "router documents, where the source is a directory"),
                ("/run/dvr-agent/admin.sock", "admin socket, mode 0600"),
                ("/var/lib/neutron/", "state files (option state_path)"),
            ]
        )
        + _see_also("dvrctl(1)", "dvr-agent.conf(5)", "dvr-metadata-proxy(8)", "dvr-vrrp(8)")
    )


def _dvr_metadata_proxy() -> str:
    return (
        _name("dvr-metadata-proxy", "serves metadata to the instances behind dvr-agent's routers")
        + rst.section("SYNOPSIS", _usage("dvr-metadata-proxy"))
        + rst.section(
            "DESCRIPTION",
            "One process serves all routers of the host: dvr-agent opens a socket in each router's namespace and hands "
            "it over, and requests are forwarded to neutron-metadata-agent with the router's id. The process runs as "
            "the user dvr-metadata, without capabilities and without a network of its own.",
            rst.plain(
                "Its settings are told to it by dvr-agent, over the control socket. A configuration file is needed only"
                " where [metadata_proxy] control_socket is not the default; it reads none that is not named."
            ),
        )
        + rst.section("OPTIONS", _options(CONFIG_OPTIONS), rst.plain(LOGGING))
        + rst.section("EXIT STATUS", _codes(DAEMON_CODES))
        + _see_also("dvr-agent(8)", "dvr-agent.conf(5)")
    )


def _dvr_vrrp() -> str:
    parser = make_vrrp_parser()
    codes = {code: text for code, text in DAEMON_CODES.items() if code != 78}
    return (
        _name("dvr-vrrp", "speaks VRRP for the HA routers of dvr-agent")
        + rst.section("SYNOPSIS", commands.synopsis(parser))
        + rst.section(
            "DESCRIPTION",
            rst.plain(
                "One process for all HA routers of the host, in the place of a keepalived each, where the option "
                "[dvr_agent] ha_vrrp is builtin. It understands keepalived on other hosts. dvr-agent tells it which "
                "routers there are, over the control socket."
            ),
            "A signal to end it leaves addresses and routes as they are and says nothing to other hosts: a restarted "
            "process goes on as master where it finds the addresses.",
        )
        + rst.section("OPTIONS", commands.arguments(parser))
        + rst.section("EXIT STATUS", _codes(codes))
        + _see_also("dvr-agent(8)", "keepalived(8)")
    )


def _dvr_agent_conf() -> str:
    return (
        _name("dvr-agent.conf", "configuration of dvr-agent, dvr-metadata-proxy and dvrctl")
        + rst.section(
            "SYNOPSIS",
            *(rst.plain(path) for path in ("/etc/dvr-agent/dvr-agent.conf", "/etc/dvr-agent/dvr-agent.conf.d/*.conf")),
        )
        + rst.section(
            "DESCRIPTION",
            rst.plain(
                "A file of oslo.config: sections in brackets, assignments, comments after # at the beginning of a "
                "line. A value may go on in indented lines. $name stands for the value of another option, $$ for a "
                "dollar sign."
            ),
            rst.plain(
                "Options that Neutron has go by Neutron's names, groups and defaults, so that neutron.conf and "
                "l3_agent.ini can be used as they are, by links in /etc/dvr-agent/dvr-agent.conf.d. Of several "
                "assignments the last one counts."
            ),
            "**dvrctl check --config** checks the files: values, unknown options, options without effect.",
            rst.plain(
                "The logging options (debug, log_file, use_journal, use_json, default_log_levels) are oslo.log's, those"
                " of the message bus (transport_url, [oslo_messaging_rabbit]) oslo.messaging's, those of the report on "
                "SIGUSR2 ([oslo_reports]) oslo.reports'."
            ),
        )
        + rst.section("OPTIONS", "".join(options.groups()))
        + _see_also("dvr-agent(8)", "dvrctl(1)")
    )


def _name(name: str, text: str) -> str:
    """Return title and subtitle, of which docutils makes the section NAME."""
    return (
        f"{'=' * len(name)}\n{name}\n{'=' * len(name)}\n\n{'-' * len(text)}\n{text}\n{'-' * len(text)}\n\n@FIELDS@\n\n"
    )


def _usage(program: str) -> str:
    return f"{rst.strong(program)} {rst.plain('[-h] [--version] [--config-file FILE]… [--config-dir DIR]… [OPTION]…')}"


def _options(entries: Iterable[tuple[str, str]]) -> str:
    return rst.definitions((rst.strong(option), rst.plain(text)) for option, text in entries)


def _codes(codes: Mapping[int, str]) -> str:
    return rst.definitions((rst.strong(str(code)), rst.plain(text)) for code, text in codes.items())


def _verb_codes(verbs: Mapping[str, Mapping[int, str]]) -> str:
    return rst.definitions((rst.strong(verb), _codes(codes)) for verb, codes in verbs.items())


def _files(entries: Iterable[tuple[str, str]]) -> str:
    return rst.section("FILES", rst.definitions((rst.strong(path), rst.plain(text)) for path, text in entries))


def _see_also(*names: str) -> str:
    """Return the section SEE ALSO; each name has its section of the manual in parentheses."""
    parts = (one.partition("(") for one in names)
    return rst.section("SEE ALSO", ", ".join(rf"{rst.strong(name)}\ ({number}" for name, _, number in parts))

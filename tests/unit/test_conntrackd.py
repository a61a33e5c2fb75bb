"""Configuration, options and files of conntrackd, and the lines by which keepalived calls it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent.config import load, make_settings
from dvr_agent.errors import ConfigError, ServiceError
from dvr_agent.services.bundle import Services
from dvr_agent.services.conntrackd.commands import tell
from dvr_agent.services.conntrackd.conf import conntrackd_text, is_same
from dvr_agent.services.conntrackd.files import ConntrackdFiles
from dvr_agent.services.conntrackd.service import ConntrackdService
from dvr_agent.services.keepalived.conf import keepalived_text
from dvr_agent.services.keepalived.files import RouterFiles
from dvr_agent.services.keepalived.service import KeepalivedService
from dvr_agent.services.vrrp.place import VrrpPlace
from dvr_agent.settings import ConntrackdSettings
from dvr_agent.state.route import Hop
from tests.support.recorded_documents import load_features
from tests.support.vrrp_rig import LOW, ROUTER, state

ON = ConntrackdSettings(enabled=True)
CONFS = Path("/c")
SCRIPT = CONFS / ROUTER / "ha_check_script_7.sh"
TEXT = f"""\
General {{
    HashSize 32768
    HashLimit 131072
    Syslog on
    LockFile /c/{ROUTER}/conntrackd.lock
    UNIX {{
        Path /c/{ROUTER}/conntrackd.ctl
        Backlog 20
    }}
    SocketBufferSize 262142
    SocketBufferSizeMaxGrown 655355
    Filter From Kernelspace {{
        Protocol Accept {{
            TCP
            SCTP
            DCCP
            UDP
            ICMP
            IPv6-ICMP
        }}
        Address Ignore {{
            IPv4_address 127.0.0.1
            IPv6_address ::1
            IPv4_address {LOW}
        }}
    }}
}}
Sync {{
    Mode FTFW {{
    }}
    Multicast Default {{
        IPv4_address 225.0.0.50
        IPv4_interface {LOW}
        Group 3787
        Interface ha
        SndSocketBuffer 24985600
        RcvSocketBuffer 24985600
        Checksum on
    }}
}}
"""


def test_the_configuration_has_the_values_of_neutrons() -> None:
    text = conntrackd_text(ON, state(LOW, 1), ConntrackdFiles(CONFS, ROUTER))
    assert text == TEXT
    assert is_same(text, "\n" + TEXT.replace("    ", "\t"))
    assert not is_same(text, TEXT.replace("3787", "3788"))


def test_keepalived_calls_conntrackd_only_where_there_is_one() -> None:
    without, conf = keepalived_text(state(LOW, 1), SCRIPT), CONFS / ROUTER / "conntrackd.conf"
    assert keepalived_text(state(LOW, 1), SCRIPT, None) == without
    added = [
        one.strip()
        for one in keepalived_text(state(LOW, 1), SCRIPT, conf).splitlines()
        if one not in without.splitlines()
    ]
    assert added == [
        "script_user root",
        "enable_script_security",
        *(
            f"notify_{event} \"/bin/sh -c '{'; '.join(f'conntrackd -C {conf} {one}' for one in commands)}'\""
            for event, commands in (("master", ("-c", "-f", "-R", "-B")), ("backup", ("-t", "-n")), ("fault", ("-t",)))
        ),
    ]


def test_a_check_of_gateways_may_be_where_other_users_may_write_and_still_be_run() -> None:
    """keepalived would refuse its script with enable_script_security, and so never find a gateway silent."""
    checked = replace(state(LOW, 1), gateways=(Hop("203.0.113.1", "qg"),), check_interval=5)
    text = keepalived_text(checked, SCRIPT, CONFS / ROUTER / "conntrackd.conf")
    assert "    script_user root" in text.splitlines()
    assert "enable_script_security" not in text


def settings(folder: Path, *lines: str) -> ConntrackdSettings:
    file = folder / "dvr-agent.conf"
    file.write_text("\n".join(("[DEFAULT]", *lines)))
    return make_settings(load(["--config-file", str(file)])).ha.conntrackd


def test_options_have_neutrons_names_and_defaults(tmp_path: Path) -> None:
    assert settings(tmp_path) == ConntrackdSettings(enabled=False)
    assert settings(tmp_path, "ha_conntrackd_enabled = True", "ha_conntrackd_group = 4000") == replace(ON, group=4000)


@pytest.mark.parametrize("path", ["/has space", "/has'quote", "relative", "/" + 55 * "x"])
def test_a_path_that_the_configurations_cannot_have_is_refused(tmp_path: Path, path: str) -> None:
    line = f"ha_confs_path = {path}"
    settings(tmp_path, line)
    settings(tmp_path, f"ha_confs_path = /{54 * 'x'}", "ha_conntrackd_enabled = True")
    with pytest.raises(ConfigError, match="ha_confs_path"):
        settings(tmp_path, line, "ha_conntrackd_enabled = True")


@pytest.mark.parametrize("keepalived_first", [True, False])
def test_two_programs_share_a_directory_and_each_removes_its_own_files(tmp_path: Path, keepalived_first: bool) -> None:
    keepalived, conntrackd = RouterFiles(tmp_path, ROUTER), ConntrackdFiles(tmp_path, ROUTER)
    conntrackd.write("one")
    assert not keepalived.exist
    keepalived.write("two")
    assert keepalived.exist
    assert conntrackd.exist
    first, second = (keepalived, conntrackd) if keepalived_first else (conntrackd, keepalived)
    first.remove()
    assert (first.exist, second.exist) == (False, True)
    assert (keepalived.text, conntrackd.text) == (("", "one") if keepalived_first else ("two", ""))
    second.remove()
    assert not list(tmp_path.iterdir())


def test_an_empty_directory_is_removed(tmp_path: Path) -> None:
    (tmp_path / ROUTER).mkdir()
    files = RouterFiles(tmp_path, ROUTER)
    assert files.exist
    files.remove()
    assert not files.exist


def test_a_command_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, conf = tmp_path / "conntrackd", tmp_path / "conf"
    program.write_text('#!/bin/sh\n[ "$3" != -f ] || { echo "no such thing" >&2; exit 1; }\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    tell(conf, "-c", "-R")
    with pytest.raises(ServiceError, match=f"conntrackd -C {conf} -f: no such thing"):
        tell(conf, "-c", "-f", "-R")


def test_both_services_of_an_ha_router_are_left_and_the_one_that_follows_begins_first(
    tmp_path: Path,
) -> None:
    keepalived = KeepalivedService(tmp_path, tmp_path, "respawn", tells_conntrackd=True)
    conntrackd = ConntrackdService(ON, tmp_path, "respawn", lambda _: False)
    services = Services((), keepalived, conntrackd)
    place = VrrpPlace(ROUTER, "none", state(LOW, 1))
    assert [one.text for one in services.plan(load_features("q2_ha_dvr_pair", "compute1"), place)] == [
        "+ conntrackd",
        "+ keepalived",
    ]
    RouterFiles(tmp_path, ROUTER).write("")
    ConntrackdFiles(tmp_path, ROUTER).write("")
    assert services.leave_vrrp(VrrpPlace(ROUTER, ""))
    assert not list(tmp_path.iterdir())
    services.close()

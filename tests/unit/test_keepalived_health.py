"""The check of gateways in keepalived's configuration, and its script."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dvr_agent import config
from dvr_agent.desired.build import desired_router
from dvr_agent.desired.host_allocations import HostAllocations
from dvr_agent.desired.host_settings import AgentMode, HostSettings, VrrpSettings
from dvr_agent.desired.host_view import make_view
from dvr_agent.desired.without_ipv6 import ipv4_part
from dvr_agent.services.keepalived.conf import is_same, keepalived_text
from dvr_agent.services.keepalived.files import RouterFiles
from dvr_agent.services.keepalived.health import script_text
from dvr_agent.state.namespace import NamespaceState
from dvr_agent.state.route import Hop
from dvr_agent.state.virtual_router import VirtualRouterState
from tests.support.recorded_documents import load_features

SCENARIO = "q2_ha_dvr_pair"
RECORDED = Path(__file__).parent.parent / "data" / "keepalived" / f"{SCENARIO}-compute1.conf"
SCRIPT = Path("/var/lib/neutron/ha_confs/r/ha_check_script_7.sh")
GATEWAY = Hop("203.0.113.1", "qg-1")
LINK_LOCAL = Hop("fe80::1", "qg-1")


def namespace(interval: int) -> NamespaceState:
    settings = HostSettings("compute1", AgentMode.DVR_SNAT, vrrp=VrrpSettings(check_interval=interval))
    view = make_view(load_features(SCENARIO, "compute1"), settings)
    state = desired_router(view, HostAllocations()).snat
    assert state is not None
    return state


def virtual_router(interval: int = 5) -> VirtualRouterState:
    state = namespace(interval).virtual_router
    assert state is not None
    return state


def test_the_gateways_of_the_external_subnets_are_checked_and_none_without_an_interval() -> None:
    assert [one.gateway for one in virtual_router().gateways] == ["203.0.113.1"]
    assert virtual_router().check_interval == 5
    assert virtual_router(0).gateways == ()
    assert "script" not in keepalived_text(virtual_router(0), SCRIPT)


def test_a_namespace_without_ipv6_checks_no_ipv6_gateway() -> None:
    state = namespace(5)
    held = replace(virtual_router(), gateways=(GATEWAY, LINK_LOCAL))
    found = ipv4_part(replace(state, virtual_router=held), absent=True).virtual_router
    assert found is not None
    assert found.gateways == (GATEWAY,)


def test_the_configuration_is_that_of_neutron_l3_agent_and_the_user_that_runs_the_script() -> None:
    state = virtual_router()
    name = f"ha_health_check_{state.vr_id}"
    recorded = RECORDED.read_text()
    at, end = recorded.index("vrrp_instance"), recorded.rindex("}")
    text = (
        f'{recorded[:at]}\nvrrp_script {name} {{\n    script "{SCRIPT}"\n    interval 5\n    fall 2\n    rise 2\n}}\n\n'
        f"{recorded[at:end]}    track_script {{\n        {name}\n    }}\n}}"
    )
    written = keepalived_text(state, SCRIPT)
    assert is_same(written.replace("    user root\n", ""), text)
    assert not is_same(written, text)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with an ``ip`` that shows the primary address, and a ``ping`` that a gateway file answers."""
    (tmp_path / "bin").mkdir()
    for name, text in {
        "ip": f'echo "$@" >>{tmp_path}/ip; cat {tmp_path}/address',
        "ping": f'for last; do :; done; echo "$last" >>{tmp_path}/asked; [ -e "{tmp_path}/up-$last" ]',
    }.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    (tmp_path / "address").write_text("")
    return tmp_path


def check(programs: Path) -> tuple[int, list[str], str]:
    """Run the script; returns its exit code, which gateways it has asked, and which was silent."""
    silent, asked = programs / "silent", programs / "asked"
    asked.unlink(missing_ok=True)
    state = replace(virtual_router(), gateways=(GATEWAY, LINK_LOCAL))
    script = programs / "script"
    script.write_text(script_text(state, silent))
    path = f"{programs / 'bin'}:/usr/bin:/bin"
    code = subprocess.run(["sh", script], env={"PATH": path}, check=False, stderr=subprocess.DEVNULL).returncode
    seen = silent.read_text() if silent.exists() else ""
    return code, asked.read_text().split() if asked.exists() else [], seen.strip()


def test_a_backup_asks_nobody_and_a_master_fails_with_the_first_silent_gateway(programs: Path) -> None:
    assert check(programs) == (0, [], "")
    state = virtual_router()
    assert f"dev {state.device} to {state.primary.ip}/32" in (programs / "ip").read_text()
    (programs / "address").write_text("2: ha inet 169.254.0.1/24\n")
    assert check(programs) == (1, ["203.0.113.1"], "203.0.113.1")
    (programs / "up-203.0.113.1").touch()
    assert check(programs) == (1, ["203.0.113.1", "fe80::1%qg-1"], "fe80::1%qg-1")
    (programs / "address").write_text("")
    assert check(programs) == (0, [], "fe80::1%qg-1"), "what the last check of a master has found stays"
    (programs / "address").write_text("2: ha inet 169.254.0.1/24\n")
    (programs / "up-fe80::1%qg-1").touch()
    assert check(programs) == (0, ["203.0.113.1", "fe80::1%qg-1"], "")


def test_a_link_in_place_of_the_note_is_replaced_and_not_followed(programs: Path) -> None:
    precious = programs / "precious"
    precious.write_text("precious")
    (programs / "silent").symlink_to(precious)
    (programs / "address").write_text("2: ha inet 169.254.0.1/24\n")
    assert check(programs) == (1, ["203.0.113.1"], "203.0.113.1")
    assert precious.read_text() == "precious"


@pytest.mark.parametrize(
    ("text", "gateway"),
    [
        ("203.0.113.1\n", "203.0.113.1"),
        ("fe80::1%qg-1\n", "fe80::1%qg-1"),
        ("", ""),
        ("nonsense\n", ""),
        ("fe80::1%x\nrouter deleted", ""),
    ],
)
def test_a_note_that_is_no_address_says_nothing(tmp_path: Path, text: str, gateway: str) -> None:
    files = RouterFiles(tmp_path, "r")
    (tmp_path / "r").mkdir()
    files.silent.write_text(text)
    assert files.silent_gateway == gateway


def test_a_script_with_another_text_or_other_rights_is_written_again_and_goes_with_the_router(tmp_path: Path) -> None:
    files = RouterFiles(tmp_path, "r")
    assert not files.has_script(7, "text")
    files.write_script(7, "text")
    assert files.script(7).name == "ha_check_script_7.sh"
    assert files.has_script(7, "text")
    assert not files.has_script(7, "other")
    files.script(7).chmod(0o755)
    assert not files.has_script(7, "text")
    files.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("value", "interval"), [("", 0), ("5", 5), ("0", 0), ("-1", 0)])
def test_the_option_is_read_as_neutron_reads_it(tmp_path: Path, value: str, interval: int) -> None:
    file = tmp_path / "l3_agent.ini"
    file.write_text(f"[DEFAULT]\nha_vrrp_health_check_interval = {value}\n" if value else "")
    assert config.host_settings(config.load(["--config-file", str(file)])).vrrp.check_interval == interval

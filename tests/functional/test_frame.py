"""What surrounds the code: the sample configuration, the systemd unit, the entry points, installation, the tools."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from dvr_agent import config
from dvr_agent.cli import agent
from dvr_agent.options import GROUPS
from tests.support import lab
from tests.support.daemon_lab import Daemon
from tests.support.requirements import require
from tests.support.waiting import wait_for
from tools import check_docs, configuration_page, generated_part, sample_config

ROOT = Path(__file__).resolve().parent.parent.parent
UNIT = ROOT / "etc" / "dvr-agent.service"
VRRP_UNIT = ROOT / "etc" / "dvr-vrrp.service"
WEB_UNIT = ROOT / "etc" / "dvr-agent-web.service"
PROXY_UNIT = ROOT / "etc" / "dvr-metadata-proxy.service"

# fmt: off
MOUNT_NAMESPACE_OPTIONS = {
    "BindPaths", "BindReadOnlyPaths", "DynamicUser", "ExecPaths", "ExtensionDirectories", "ExtensionImages",
    "InaccessiblePaths", "LoadCredential", "LoadCredentialEncrypted", "LogNamespace", "MountAPIVFS",
    "MountFlags", "MountImages", "NetworkNamespacePath", "NoExecPaths", "PrivateDevices", "PrivateIPC",
    "PrivateMounts", "PrivateNetwork", "PrivateTmp", "PrivateUsers", "ProcSubset", "ProtectControlGroups",
    "ProtectHome", "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables", "ProtectProc",
    "ProtectSystem", "ReadOnlyPaths", "ReadWritePaths", "RootDirectory", "RootHash", "RootImage",
    "SetCredential", "TemporaryFileSystem",
}
# fmt: on
"""Options that give a service a mount namespace of its own (systemd.exec(5)), or a network namespace."""


def command(
    *words: object, code: int | None = 0, cwd: Path = ROOT, **environment: str | os.PathLike[str]
) -> subprocess.CompletedProcess[str]:
    """Run a command; its exit code must be ``code`` (None: any)."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return done


def unit_settings(path: Path) -> dict[str, list[str]]:
    settings: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            settings.setdefault(key, []).append(value)
    return settings


# -- sample configuration


def test_sample_configuration_is_what_the_code_says() -> None:
    command(sys.executable, "tools/sample_config.py", "--check")


def test_sample_configuration_does_not_depend_on_the_host_it_is_made_on() -> None:
    script = (
        "import socket, subprocess, sys\n"
        "socket.sethostname('another-host.example')\n"
        "sys.exit(subprocess.call([sys.executable, 'tools/sample_config.py', '--check']))"
    )
    command("unshare", "--uts", sys.executable, "-c", script)


def test_stale_sample_configuration_is_noticed(tmp_path: Path) -> None:
    stale = tmp_path / "dvr-agent.conf.sample"
    fresh = sample_config.SAMPLE.read_text()
    stale.write_text(fresh.replace("#audit_interval = 60", "#audit_interval = 61"))
    assert sample_config.check(stale) == 1
    stale.write_text(fresh.replace("#max_logfile_count = 30", "#max_logfile_count = 31"))
    assert sample_config.check(stale) == 0, "an option of oslo.log changes with its release, not with this project"


def test_sample_configuration_is_read_and_changes_nothing() -> None:
    sample, empty = (
        config.load(["--config-file", str(sample_config.SAMPLE)]),
        config.load(["--config-file", os.devnull]),
    )
    for group, options in GROUPS:
        for option in options:
            assert value_of(sample, group, option.dest) == value_of(empty, group, option.dest)


def test_each_option_works_under_the_section_that_the_sample_names(tmp_path: Path) -> None:
    """The generator writes group AGENT as [agent]."""
    text = sample_config.SAMPLE.read_text().replace("#use_random_fully = true", "use_random_fully = false")
    file = tmp_path / "dvr-agent.conf"
    file.write_text(text.replace("#audit_interval = 60", "audit_interval = 7"))
    conf = config.load(["--config-file", str(file)])
    assert (conf.AGENT.use_random_fully, conf.dvr_agent.audit_interval) == (False, 7)


def value_of(conf: object, group: str, name: str) -> object:
    return getattr(conf if group == "DEFAULT" else getattr(conf, group), name)


def test_configuration_page_names_every_option_of_ours() -> None:
    page = configuration_page.PAGE.read_text()
    missing = [option.name for _group, options in GROUPS for option in options if f"`{option.name}`" not in page]
    assert missing == []


def test_configuration_page_is_what_the_code_says() -> None:
    command(sys.executable, "tools/configuration_page.py", "--check")


def test_stale_configuration_page_is_noticed(tmp_path: Path) -> None:
    stale = tmp_path / "configuration.md"
    stale.write_text(configuration_page.PAGE.read_text().replace("| `90` |", "| `91` |"))
    assert generated_part.check(stale, configuration_page.generate, "") == 1


# -- systemd unit


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with all programs that units name."""
    for name in ("dvr-agent", "dvr-metadata-proxy", "dvr-vrrp", "dvrctl"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).symlink_to(sys.executable)
    return tmp_path / "bin"


def test_systemd_is_content_with_the_units(programs: Path) -> None:
    command("tools/check-unit.sh", BIN=programs)


def test_unit_with_a_mistake_is_noticed(tmp_path: Path, programs: Path) -> None:
    (tmp_path / "dvr-agent.service").write_text(UNIT.read_text().replace("WatchdogSec=60", "WatchdogSec=often"))
    for unit in (PROXY_UNIT, VRRP_UNIT, WEB_UNIT):
        (tmp_path / unit.name).write_text(unit.read_text())
    assert "often" in command("tools/check-unit.sh", tmp_path, code=1, BIN=programs).stderr


def test_the_proxys_unit_leaves_it_no_rights() -> None:
    settings = unit_settings(PROXY_UNIT)
    assert settings["User"] == ["dvr-metadata"]
    assert settings["CapabilityBoundingSet"] == [""]
    assert settings["RestrictAddressFamilies"] == ["AF_UNIX"]


def test_the_unit_of_dvr_vrrp_has_the_one_right_that_it_needs() -> None:
    settings = unit_settings(VRRP_UNIT)
    assert settings["User"] == ["dvr-vrrp"]
    assert settings["CapabilityBoundingSet"] == settings["AmbientCapabilities"] == ["CAP_NET_ADMIN"]
    assert settings["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert (settings["LimitRTPRIO"], settings["LimitMEMLOCK"]) == (["1"], ["infinity"])


def test_the_unit_of_the_page_reads_and_is_skipped_unless_it_is_wanted() -> None:
    settings = unit_settings(WEB_UNIT)
    assert settings["ExecCondition"][0].endswith(" wants-web")
    assert settings["ExecStart"][0].removesuffix(" web") == settings["ExecCondition"][0].removesuffix(" wants-web")
    assert settings["ProtectSystem"] == ["strict"]
    assert "CAP_CHOWN" not in settings["CapabilityBoundingSet"][0]


def test_the_proxys_unit_is_skipped_where_no_metadata_is_wanted(tmp_path: Path) -> None:
    """Each time its condition reads the agent's configuration, as root: its own user may not."""
    (condition,) = unit_settings(PROXY_UNIT)["ExecCondition"]
    (start,) = unit_settings(UNIT)["ExecStart"]
    program, *words = condition.removeprefix("+").split()
    assert Path(program).name in {one.name for one in importlib.metadata.entry_points(group="console_scripts")}
    assert words[:2] == start.split()[1:], "the files of the agent"
    assert "--config" not in unit_settings(PROXY_UNIT)["ExecStart"][0]
    file = tmp_path / "dvr-agent.conf"
    words = [word.replace("/etc/dvr-agent/dvr-agent.conf", str(file)) for word in words]
    for text, code in (
        ("", 1),
        ("[DEFAULT]\nenable_metadata_proxy = true\n", 0),
        ("[DEFAULT]\nenable_metadata_proxy = false\ntransport_url = rabbit://broker/\n", 1),
        ("[DEFAULT]\ntransport_url = rabbit://broker/\n", 0),
        ("[dvr_agent]\nsource = neutron\n", 0),
        ("[DEFAULT]\nenable_metadata_proxy = perhaps\n", 1),
    ):
        file.write_text(text)
        command(sys.executable, "-m", "dvr_agent.cli.ctl", *words, code=code)


def test_a_wrong_command_line_or_configuration_is_not_tried_again() -> None:
    for unit in (UNIT, PROXY_UNIT):
        assert unit_settings(unit)["RestartPreventExitStatus"] == ["2 78"]


@pytest.mark.parametrize(
    ("group", "option", "value", "said"),
    [
        ("bridge", "external_networks", "no-uuid:br-ex", "[bridge] external_networks: 'no-uuid' is no network UUID"),
        ("DEFAULT", "interface_driver", "hub", "[DEFAULT] interface_driver = 'hub': expected bridge or openvswitch"),
        ("DEFAULT", "min_rtr_adv_interval", "99", "[DEFAULT] min_rtr_adv_interval = 99: expected at most"),
        ("OVS", "ovsdb_connection", "tcp:db:1", "[OVS] ovsdb_connection = 'tcp:db:1': 'db' is no IP address"),
    ],
)
def test_what_only_the_real_agent_finds_wrong_is_named_with_its_file(
    host: lab.Host, tmp_path: Path, group: str, option: str, value: str, said: str
) -> None:
    daemon = Daemon(tmp_path)
    daemon.configure(**{group: {option: value}})
    if group == "OVS":
        daemon.configure(DEFAULT={"interface_driver": "openvswitch"})
    daemon.start(ready=False)
    assert daemon.process is not None
    assert daemon.process.wait(60) == os.EX_CONFIG
    assert f"{daemon.config}: {said}" in daemon.out + daemon.err


@pytest.mark.parametrize(
    ("missing", "option"), [("oslo_messaging", ("dvr_agent", "source", "neutron")),
                            ("ovs", ("DEFAULT", "interface_driver", "openvswitch"))],
)  # fmt: skip
def test_a_missing_extra_is_a_configuration_error(
    host: lab.Host, tmp_path: Path, missing: str, option: tuple[str, str, str]
) -> None:
    group, name, value = option
    daemon = Daemon(tmp_path)
    daemon.configure(**{group: {name: value}})
    daemon.configure(DEFAULT={"agent_mode": "dvr"})
    shadow = tmp_path / "shadow" / missing
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").write_text(f"raise ModuleNotFoundError('not installed', name='{missing}')\n")
    daemon.start(ready=False, PYTHONPATH=str(shadow.parent))
    assert daemon.process is not None
    assert daemon.process.wait(60) == os.EX_CONFIG
    assert f"{daemon.config}: [{group}] {name} = {value}" in daemon.out + daemon.err


def test_unit_stays_in_the_mount_and_network_namespace_of_the_host() -> None:
    """Else the namespaces that the agent makes would be invisible to the host and vanish with the service."""
    assert sorted(unit_settings(UNIT).keys() & MOUNT_NAMESPACE_OPTIONS) == []
    assert unit_settings(UNIT).get("RestrictNamespaces", ["net"]) == ["net"]


def test_stopping_the_unit_gives_the_agent_time_to_finish_its_job() -> None:
    from dvr_agent.daemon import service

    assert int(unit_settings(UNIT)["TimeoutStopSec"][0]) > service.STOP_SECONDS


def test_agent_needs_no_more_than_the_capabilities_of_the_unit(host: lab.Host, tmp_path: Path) -> None:
    """With state_path belonging to another user, as on a host with other Neutron agents."""
    daemon = Daemon(tmp_path)
    name = str(daemon.options["DEFAULT"]["host"])
    recorded = (ROOT / "tests/data/documents/b2_dvr_snat_node_with_vms-compute1.json").read_text()
    (daemon.routers / "one.json").write_text(recorded.replace("compute1", name))
    daemon.state.mkdir()
    with contextlib.suppress(OSError):  # in a user namespace there is no other user
        os.chown(daemon.state, 65534, 65534)
    try:
        start_as_the_unit_does(daemon, tmp_path)
        status = daemon.status()
        assert status["states"] == {"in sync": 1}
        assert {link.partition("-")[0] for link in lab.run("ip", "netns").split("\n") if link} == {
            "qrouter",
            "snat",
            "fip",
        }
    finally:
        daemon.stop()
    files = [path for path in daemon.state.iterdir() if path.name.startswith("fip-")]
    assert {path.name for path in files} == {"fip-linklocal-networks", "fip-priorities"}
    assert {path.stat().st_uid for path in files} == {daemon.state.stat().st_uid}


DROP_IN = ("CAP_SETUID", "CAP_SETGID")
"""What docs/metadata.md says of ``radvd_user``."""


def test_what_radvd_of_another_user_needs_more_is_documented() -> None:
    assert f"CapabilityBoundingSet={' '.join(DROP_IN)}\n" in (ROOT / "docs" / "metadata.md").read_text()


def test_without_them_the_router_says_what_is_missing(host: lab.Host, tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, DEFAULT={"radvd_user": "nobody"})
    name = str(daemon.options["DEFAULT"]["host"])
    recorded = (ROOT / "tests/data/documents/h_dual_stack-compute1.json").read_text()
    (daemon.routers / "one.json").write_text(recorded.replace("compute1", name))
    try:
        start_as_the_unit_does(daemon, tmp_path)
        (router,) = daemon.status()["routers"]
        assert router["state"] == "degraded"
        assert "radvd_user needs CAP_SETUID and CAP_SETGID, see docs/metadata.md" in router["reason"]
    finally:
        daemon.stop()


def test_systemd_calls_the_exposure_of_the_unit_less_than_five() -> None:
    command("systemd-analyze", "security", "--offline=true", "--threshold=50", "--no-pager", UNIT)


@pytest.mark.root
def test_nor_does_radvd_of_another_user(host: lab.Host, tmp_path: Path) -> None:
    """Started, adopted by the next agent, and ended with its router."""
    tmp_path.chmod(0o755)
    os.chown(tmp_path, 65534, 65534)
    daemon = Daemon(tmp_path, DEFAULT={"radvd_user": "nobody"})
    name = str(daemon.options["DEFAULT"]["host"])
    recorded = (ROOT / "tests/data/documents/h_dual_stack-compute1.json").read_text()
    document = daemon.routers / "one.json"
    document.write_text(recorded.replace("compute1", name))
    try:
        start_as_the_unit_does(daemon, tmp_path, *DROP_IN)
        assert daemon.status()["states"] == {"in sync": 1}
        for folder in (daemon.state / "ra", daemon.state / "external", daemon.state / "external/pids"):
            assert stat.S_IMODE(os.stat(folder).st_mode) == 0o755, folder
        (file,) = (daemon.state / "external" / "pids").iterdir()
        pid = int(file.read_text())
        wait_for(lambda: "\nUid:\t65534\t" in Path(f"/proc/{pid}/status").read_text())
        daemon.stop()
        start_as_the_unit_does(daemon, tmp_path, *DROP_IN)
        assert daemon.status()["services"]["radvd"]["routers"] == 1
        assert int(file.read_text()) == pid
        document.unlink()
        wait_for(lambda: not daemon.status()["states"])
        assert not file.exists()
        assert not (Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes())
    finally:
        daemon.stop()


def start_as_the_unit_does(daemon: Daemon, folder: Path, *more: str) -> None:
    """With the capabilities and the umask of the unit, and no more but those of a drop-in."""
    allowed = [*unit_settings(UNIT)["CapabilityBoundingSet"][0].split(), *more]
    bounding = ",".join(["-all", *(f"+{one.removeprefix('CAP_').lower()}" for one in allowed)])
    wrapper = folder / "python"
    umask = unit_settings(UNIT)["UMask"][0]
    wrapper.write_text(
        f'#!/bin/sh\numask {umask}\nexec setpriv --no-new-privs --bounding-set={bounding} {sys.executable} "$@"\n'
    )
    wrapper.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(wrapper))
        daemon.start()


# -- entry points and installation


def test_the_programs_are_entry_points() -> None:
    for name in ("dvr-agent", "dvrctl", "dvr-metadata-proxy", "dvr-vrrp"):
        (entry,) = importlib.metadata.entry_points(group="console_scripts", name=name)
        assert callable(entry.load())


def test_version_is_the_one_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        agent.main(["--version"])
    printed = capsys.readouterr()
    assert not stopped.value.code
    assert importlib.metadata.version("dvr-agent") in printed.out + printed.err


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``make install`` staged in DESTDIR, then moved to its final place, which is returned."""
    place = tmp_path_factory.mktemp("place")
    install(place, destdir=place / "stage")
    for part in ("usr", "etc"):
        shutil.move(f"{place}/stage{place}/{part}", place)
    shutil.rmtree(place / "stage")
    # The libraries are this interpreter's: installing them needs the network, which tests do not have.
    (site_packages,) = place.glob("usr/lib/dvr-agent/lib/python*/site-packages")
    (site_packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place


def install(place: Path, destdir: Path | None = None) -> str:
    return command(
        "tools/install.sh",
        PREFIX=f"{place}/usr",
        SYSCONFDIR=f"{place}/etc",
        DESTDIR=str(destdir or ""),
        UNITDIR="",
        PYTHON=sys.executable,
        PIP_PYTHON=sys.executable,
        PAGES_PYTHON=sys.executable,
        PIP_ARGS="--no-index --no-deps --no-build-isolation",
    ).stdout


def test_installation_staged_elsewhere_runs_at_its_final_place(installed: Path) -> None:
    stage = str(installed / "stage")
    still = [file for file in installed.rglob("*") if file.is_file() and stage.encode() in file.read_bytes()]
    assert still == []
    version = importlib.metadata.version("dvr-agent")
    done = command(installed / "usr/bin/dvr-agent", "--version", cwd=Path("/"))
    assert version in done.stdout + done.stderr
    where = "import dvr_agent; print(dvr_agent.__file__)"
    imported = command(installed / "usr/lib/dvr-agent/bin/python", "-c", where, cwd=Path("/")).stdout
    assert imported.startswith(str(installed))


def test_installed_links_lead_to_programs(installed: Path) -> None:
    for name in ("dvr-agent", "dvrctl"):
        target = (installed / "usr/bin" / name).resolve()
        assert target == installed / "usr/lib/dvr-agent/bin" / name
        # pip has a shell start the interpreter where its path is too long for the first line.
        interpreter = f"{installed}/usr/lib/dvr-agent/bin/python"
        assert target.read_text().startswith((f"#!{interpreter}", f"#!/bin/sh\n'''exec' {interpreter}"))


def test_installed_unit_starts_the_installed_agent_with_the_installed_configuration(installed: Path) -> None:
    unit = installed / "etc/systemd/system/dvr-agent.service"
    (start,) = unit_settings(unit)["ExecStart"]
    assert start == f"{installed}/usr/bin/dvr-agent --config-file {installed}/etc/dvr-agent/dvr-agent.conf"
    command("systemd-analyze", "verify", "--man=no", unit)
    conf = config.load(["--config-file", f"{installed}/etc/dvr-agent/dvr-agent.conf"])
    assert conf.directory.path == f"{installed}/etc/dvr-agent/routers"


def test_manual_pages_and_completion_are_where_man_and_shells_look(installed: Path) -> None:
    share = installed / "usr/share"
    pages = {str(path.relative_to(share / "man")) for path in share.glob("man/*/*")}
    daemons = {f"man8/dvr-{name}.8" for name in ("agent", "metadata-proxy", "vrrp")}
    assert pages == {"man1/dvrctl.1", "man5/dvr-agent.conf.5", *daemons}
    assert f"{installed}/etc/dvr-agent/dvr" in (share / "man/man1/dvrctl.1").read_text().replace("\\-", "-")
    for name in (
        "bash-completion/completions/dvrctl",
        "zsh/site-functions/_dvrctl",
        "fish/vendor_completions.d/dvrctl.fish",
    ):
        assert "status" in (share / name).read_text()


@pytest.mark.full
def test_configuration_of_the_operator_survives_a_second_installation(installed: Path) -> None:
    file = installed / "etc/dvr-agent/dvr-agent.conf"
    sample = file.read_text()
    assert "kept" not in install(installed), "an unchanged configuration needs no second one beside it"
    file.write_text(sample + "\n[dvr_agent]\naudit_interval = 5\n")
    assert "is kept" in install(installed)
    assert file.read_text().endswith("audit_interval = 5\n")
    new = file.with_name(file.name + ".new")
    assert new.read_text() == sample
    assert stat.S_IMODE(new.stat().st_mode) == 0o640
    assert (installed / "etc/dvr-agent/routers").is_dir()


# -- tools


def test_ordinary_user_is_told_which_packages_are_missing(tmp_path: Path) -> None:
    for name, answer in (("dpkg-query", '[ "${@: -1}" = gcc ] || echo installed'), ("id", "echo 1000")):
        (tmp_path / name).write_text(f"#!/bin/bash\n{answer}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    command("tools/system-packages.sh", "test", PATH=path)
    done = command("tools/system-packages.sh", "test", "build", code=1, PATH=path)
    assert "apt-get install -y --no-install-recommends gcc\n" in done.stdout


def test_python_older_than_3_11_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    assert "3.11" in command("tools/find-python.sh", code=1, PYTHON=str(old)).stderr


def in_a_home(python: str) -> bool:
    words = "import os, sys; print(os.path.realpath(sys._base_executable))"
    return command(python, "-c", words).stdout.startswith(("/root/", "/home/"))


def test_python_of_a_home_directory_is_not_taken_for_services(tmp_path: Path) -> None:
    """The metadata proxy's user could not run it, and its unit hides home directories."""
    (tmp_path / "python3").symlink_to(sys.executable)
    path = f"{tmp_path}:{os.environ['PATH']}"
    assert command("tools/find-python.sh", PATH=path, PYTHON="").stdout.startswith(str(tmp_path))
    found = command("tools/find-python.sh", "--for-services", PATH=path, PYTHON="", code=None)
    if found.returncode == 0:
        assert not in_a_home(found.stdout.strip())
    else:
        assert "in a home directory: not used for services" in found.stderr


def test_python_of_a_home_directory_that_is_asked_for_is_taken_with_a_word() -> None:
    done = command("tools/find-python.sh", "--for-services", PYTHON=sys.executable)
    assert done.stdout.strip() == sys.executable
    assert ("dvr-metadata-proxy, which runs as another user" in done.stderr) is in_a_home(sys.executable)


def test_python_that_others_may_not_run_is_not_taken_for_services(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "python3").write_text(
        f'#!/bin/sh\n[ "$1" = - ] && exec {sys.executable} -c "import sys; sys.executable = '
        f'sys._base_executable = \'{hidden}/python3\'; exec(sys.stdin.read())"\nexec {sys.executable} "$@"\n'
    )
    (hidden / "python3").chmod(0o700)
    done = command("tools/find-python.sh", "--for-services", PYTHON=f"{hidden}/python3")
    assert f"{hidden}/python3 is not readable for other users" in done.stderr


def test_make_without_a_target_lists_the_targets() -> None:
    require("make", "make")
    listed = re.findall(r"^  make (\S+) ", command("make").stdout, re.MULTILINE)
    assert {"demo", "test", "bench", "lint", "install"} <= set(listed)


def test_links_in_the_documentation_resolve() -> None:
    assert [sentence for page in check_docs.pages(ROOT) for sentence in check_docs.broken_links(page)] == []


def test_broken_link_is_found_and_code_is_not_a_link(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# Two words\n")
    page = tmp_path / "a.md"
    page.write_text("[a](gone.md) [b](b.md#two-words) [c](b.md#three) `[d](x.md)` [e](mailto:x)\n```\n[f](y.md)\n```\n")
    assert list(check_docs.broken_links(page)) == ["gone.md: no such file", "b.md#three: no such heading"]


def test_files_that_the_documentation_names_exist() -> None:
    assert [sentence for page in check_docs.pages(ROOT) for sentence in check_docs.missing_files(page, ROOT)] == []


def test_citations_in_the_code_lead_to_headings() -> None:
    modules = check_docs.modules(ROOT)
    assert [sentence for module in modules for sentence in check_docs.broken_citations(module, ROOT)] == []


def test_missing_file_and_heading_are_found(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "dvr_agent").mkdir()
    module = tmp_path / "dvr_agent" / "a.py"
    module.write_text('"""(__docs/p.md__, "One word" and "Two"), __docs/q.md__."""'.replace("__", "``"))
    page = tmp_path / "docs" / "p.md"
    page.write_text("# One `word`\n`dvr_agent/a.py` `gone/b.py` `neutron/agent/c.py`\n")
    assert list(check_docs.missing_files(page, tmp_path)) == ["`gone/b.py`: no such file"]
    assert list(check_docs.broken_citations(module, tmp_path)) == [
        'docs/p.md, "Two": no such heading',
        "docs/q.md: no such file",
    ]

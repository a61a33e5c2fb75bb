"""``dvrctl diag``: what is in the archive, that pieces fail alone, and that no secret is in it."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from dvr_agent.cli.diag import process_pieces, sources
from tests.support import lab
from tests.support.ctl import Ctl
from tests.support.daemon_site import QROUTER, RECORDED, ROUTER, Site
from tests.support.scripted_daemon import MakeDaemon
from tests.support.waiting import wait_for


def members(data: bytes) -> dict[str, str]:
    """Member → its text, without the directory that all are in; checks what must be so of any archive."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        directories = set()
        for member in tar:
            directory, _, name = member.name.partition("/")
            directories.add(directory)
            assert member.isfile(), member.name
            assert member.mode == 0o600, member.name
            assert ".." not in member.name.split("/"), member.name
            assert name not in found, name
            stream = tar.extractfile(member)
            assert stream is not None
            found[name] = stream.read().decode()
    assert len(directories) == 1
    return found


def diag(config: Path, *words: object, **environ: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "dvr_agent.cli.ctl", "--config-file", config, "diag", *words]
    return subprocess.run(
        list(map(str, command)), capture_output=True, timeout=300, check=False, env={**os.environ, **environ}
    )


class Secrets:
    """Makes secrets, and finds them."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}

    def __call__(self, where: str) -> str:
        secret = f"q{uuid.uuid4().hex[:10]}+/%&=x{len(self.made):02d}"
        self.made[where] = secret
        return secret

    def in_url(self, where: str) -> str:
        return quote(self(where), safe="")

    def word(self, where: str, length: int = 20) -> str:
        """One of letters and digits only, where the format has no other."""
        self.made[where] = uuid.uuid4().hex[:length]
        return self.made[where]

    def leaks(self, text: str) -> Iterator[str]:
        for where, secret in self.made.items():
            data = secret.encode()
            forms = {
                "plain": secret,
                "in a URL": quote(secret, safe=""),
                "in a form": quote_plus(secret),
                "JSON": json.dumps(secret)[1:-1],
                "base64": base64.b64encode(data).decode(),
                "base64 for URLs": base64.urlsafe_b64encode(data).decode(),
                "base64 with a user": base64.b64encode(b"user:" + data).decode()[8:],
                "hexadecimal": data.hex(),
                "most of it": secret[: len(secret) - 3],
            }
            yield from (f"{where}: {form}" for form, value in forms.items() if value in text)


def plant(site: Site, secrets: Secrets) -> None:
    """Put secrets into everything that diag reads."""
    daemon = site.daemon
    log, neutron = daemon.base / "dvr-agent.log", daemon.base / "neutron.conf"
    url = f"rabbit://user:{secrets.in_url('bus 1')}@rabbit1:5672,user:{secrets.in_url('bus 2')}@rabbit2:5672/neutron"
    daemon.configure(
        DEFAULT={
            "transport_url": url,
            "ha_vrrp_auth_password": secrets.word("VRRP", 8),
            "metadata_proxy_shared_secret": secrets("metadata"),
            "log_file": log,
        },
        dvr_agent={"source": "directory"},
        database={"connection": f"mysql+pymysql://neutron:{secrets.in_url('database')}@db.example/neutron"},
        keystone_authtoken={
            "password": secrets("keystone"),
            "memcache_secret_key": secrets("memcache"),
            "token_cache_time": 300,
            "auth_url": "http://keystone.example",
        },
        nova={"password": f'"{secrets("quoted")}"', "#password": secrets("in a comment")},
        some={"api_key": secrets("api key"), "admin_token": f"\n  {secrets('second line')}"},
    )
    confs = plant_keepalived(daemon.base, secrets)
    default = f"[DEFAULT]\nha_confs_path = {confs}\n"
    neutron.write_text(
        f"{default}[placement]\npassword={secrets('another file')}\n; auth_encryption_key : {secrets('colon')}\n"
    )
    document = json.loads(json.dumps(RECORDED))
    document["router"]["ha_vrrp"] = {"auth": {"type": "PASS", "value": secrets("document, auth")}}
    document["router"]["configs"] = [{"user_password": secrets("document, password")}, secrets.in_url("document, URL")]
    document["router"]["configs"][1] = f"https://user:{document['router']['configs'][1]}@host/path"
    site.write(document)
    (daemon.routers / "bad.json").write_text(f'{{"id": "x", "auth_token": "{secrets("bad document")}", ')
    log.write_text("\n".join(log_lines(secrets)) + "\n")


def plant_keepalived(base: Path, secrets: Secrets) -> Path:
    """Put in the file of an HA router, where the agent, which would remove it, does not look; returns the directory."""
    confs = base / "theirs" / "ha_confs"
    (confs / ROUTER).mkdir(parents=True)
    block = f"authentication {{\n auth_type PASS\n auth_pass {secrets.word('keepalived', 8)}\n}}\n"
    (confs / ROUTER / "keepalived.conf").write_text(block)
    return confs


def log_lines(secrets: Secrets) -> Iterator[str]:
    for where in ("bus 1", "keystone", "VRRP", "keepalived", "in a comment", "second line", "document, auth"):
        secret = secrets.made[where]
        data = secret.encode()
        yield f"login with {secret} failed"
        yield f"sent {quote(secret, safe='')} {quote_plus(secret)} {data.hex()} {json.dumps({'x': secret})}"
        yield f"header {base64.b64encode(data).decode()} {base64.urlsafe_b64encode(b'user:' + data).decode()}"
        yield f"header {base64.b64encode(b'me:' + data + b':you').decode()}"
    yield f"password={secrets('log 1')} is wrong"
    yield f"{{'auth_token': '{secrets('log 2')}', \"adminPass\": \"{secrets('log 3')}\"}}"
    yield f"X-Auth-Token: {secrets('log 4')}"
    yield f"Authorization: Basic {base64.b64encode(secrets('log 5').encode()).decode()}"
    yield f"GET https://me:{secrets.in_url('log 6')}@host/x"
    yield f"started with --os-password {secrets('log 7')} --verbose"
    yield "-----BEGIN RSA PRIVATE KEY-----"
    yield secrets.word("log 8")
    yield "-----END RSA PRIVATE KEY-----"


def test_no_secret_is_in_the_archive_wherever_it_was(site: Site, tmp_path: Path) -> None:
    secrets = Secrets()
    plant(site, secrets)
    site.daemon.start(OS_PASSWORD=secrets("environment of the daemon"))
    wait_for(lambda: site.state() == "in sync")
    lab.run("ip", "link", "add", "aliased", "type", "bridge")
    lab.run("ip", "link", "set", "aliased", "alias", f"password: {secrets.word('alias of a device')}")
    comment = ("-m", "comment", "--comment", f"key {secrets.made['keystone']}")
    lab.in_netns(QROUTER, "iptables-legacy", "-w", "-A", "FORWARD", *comment)
    archive = tmp_path / "archive.tar.gz"
    more = ("--config-file", site.daemon.base / "neutron.conf")
    words = [sys.executable, "-m", "dvr_agent.cli.ctl", "--config-file", site.daemon.config, *more]
    done = subprocess.run(
        [*map(str, words), "diag", "--file", str(archive)],
        capture_output=True,
        check=False,
        env={**os.environ, "SOME_TOKEN": secrets("environment of dvrctl")},
    )
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    found = members(archive.read_bytes())
    leaks = [f"{name}: {leak}" for name, text in found.items() for leak in secrets.leaks(text)]
    assert leaks == []
    assert not list(secrets.leaks((done.stdout + done.stderr).decode()))
    # What is no secret is there, or the archive would be of no use.
    first = found["configuration/01-dvr-agent.conf"]
    assert "token_cache_time = 300" in first
    assert "@rabbit2:5672/neutron" in first
    assert "auth_url = http://keystone.example" in first
    assert "ha_vrrp_auth_password = ***" in found["configuration/effective.conf"]
    assert json.loads(found["documents/one.json"])["router"]["id"] == ROUTER
    assert "auth_type PASS" in found[f"services/ha_confs/{ROUTER}/keepalived.conf"]
    assert "OS_PASSWORD (not shown)" in found["processes/daemon-environment.txt"]
    assert "login with *** failed" in found["log/dvr-agent.log"]
    assert json.loads(found["daemon/status.json"])["pid"] == site.daemon.status()["pid"]
    assert json.loads(found["daemon/healthz.json"])["healthy"] is True
    assert "dvr_agent_routers" in found["daemon/metrics.txt"]
    assert "voluntary_ctxt_switches" in found["processes/daemon-threads.txt"]
    assert json.loads(found["dvrctl/plan.json"])["plans"]
    links = json.loads(found[f"kernel/{QROUTER}/links.json"])
    assert any(link["ifname"].startswith("qr-") for link in links)
    assert "-A FORWARD" in found[f"kernel/{QROUTER}/iptables.txt"]
    assert json.loads(found["manifest.json"])["members"]


def test_without_daemon_and_with_pieces_that_fail_the_rest_is_there(kernel_ctl: Ctl, tmp_path: Path) -> None:
    secrets = Secrets()
    programs = tmp_path / "programs"
    programs.mkdir()
    script = programs / "ovs-vsctl"
    script.write_text(
        f"#!/bin/sh\necho 'Manager \"ssl:10.0.0.1\"'\necho '  other_config {{password=\"{secrets('ovs')}\"}}'\n"
    )
    script.chmod(0o755)
    kernel_ctl.config.write_text(kernel_ctl.config.read_text() + "[DEFAULT]\ninterface_driver = openvswitch\n")
    document = kernel_ctl.document()
    router_id = json.loads(document.read_text())["router"]["id"]
    lab.run("ip", "netns", "add", f"qrouter-{router_id}")
    os.mkfifo(kernel_ctl.routers / "fifo.json")
    (kernel_ctl.routers / f"{router_id}.refused").symlink_to("/etc/shadow")
    path = f"{programs}:{os.environ['PATH']}"
    done = diag(kernel_ctl.config, "--router", router_id[:8], "--file", "-", PATH=path)
    assert done.returncode == 0, done.stderr
    found = members(done.stdout)
    assert not [leak for text in found.values() for leak in secrets.leaks(text)]
    assert "Manager" in found["kernel/openvswitch.txt"]
    assert "does not answer" in found["daemon/status.json.error.txt"]
    assert "documents/fifo.json.error.txt" in found
    assert f"documents/{router_id}.refused.error.txt" in found, "a link is not followed"
    assert "root:" not in "".join(text for name, text in found.items() if name.startswith("documents/"))
    assert json.loads(found[f"documents/{document.name}"])["router"]["id"] == router_id
    assert json.loads(found[f"kernel/qrouter-{router_id}/links.json"])[0]["ifname"] == "lo"
    assert json.loads(found["manifest.json"])["router"] == router_id


def test_a_configuration_that_cannot_be_used_does_not_hinder_it(ctl: Ctl) -> None:
    ctl.config.write_text("[DEFAULT]\nagent_mode = nonsense\npassword = abcdefghij\n")
    done = diag(ctl.config, "--file", "-")
    assert done.returncode == 0, done.stderr
    found = members(done.stdout)
    assert "agent_mode = nonsense" in found["configuration/01-dvr-agent.conf"]
    assert "agent_mode" in found["configuration/effective.conf.error.txt"]
    assert "versions.txt" in found
    assert "abcdefghij" not in "".join(found.values())


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_there_is_not_overwritten(ctl: Ctl, tmp_path: Path, kind: str) -> None:
    there, other = tmp_path / "archive.tar.gz", tmp_path / "other"
    if kind == "link":
        there.symlink_to(other)
    else:
        there.write_text("mine")
    done = diag(ctl.config, "--file", there)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [f"dvrctl: {there}: File exists"]
    assert not other.exists()
    assert kind == "link" or there.read_text() == "mine"


def test_an_unknown_router_is_an_error(ctl: Ctl, tmp_path: Path) -> None:
    done = diag(ctl.config, "--router", "nosuch", "--file", tmp_path / "x")
    assert done.returncode == 1
    assert done.stderr.decode().startswith("dvrctl: no router begins with ")
    assert not (tmp_path / "x").exists()


def test_of_a_daemon_that_hangs_its_threads_are_there(daemon: MakeDaemon) -> None:
    one = daemon().start()
    assert one.process is not None
    one.process.send_signal(signal.SIGSTOP)
    try:
        found = sources.process_behind(str(one.socket))
    finally:
        one.process.send_signal(signal.SIGCONT)
    assert found == one.process.pid
    assert f"thread {found} " in process_pieces._threads(found)

# SPDX-License-Identifier: Apache-2.0
"""The files of examples/fleet: they parse, their commands exist, and their queries find what the exporter shows."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time

import pytest
import yaml

import fastgreen as fg
from fastgreen.cli import main
from fastgreen.sensors.channel import Seams
from tests.export.scrapes import samples
from tests.fakes.powercap import Zone
from tests.oracles.places import ROOT

FLEET = ROOT / "examples" / "fleet"
SYSTEMD, PROMTOOL = shutil.which("systemd-analyze"), shutil.which("promtool")


def parsed(words: list[str]) -> dict[str, object]:
    """The options of a command line of fastgreen, by click; it fails for an unknown one."""
    assert words[0] == "fastgreen"
    command = main.get_command(None, words[1])
    return command.make_context(words[1], words[2:]).params


def sections(text: str) -> dict[str, list[tuple[str, str]]]:
    out: dict[str, list[tuple[str, str]]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            found = out.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.append((key, value))
    return out


def test_the_unit_starts_the_exporter_with_one_capability():
    service = dict(sections((FLEET / "fastgreen-export.service").read_text())["Service"])
    words = shlex.split(service["ExecStart"])
    assert words[0] == "/usr/bin/env"
    assert parsed(words[1:])["listen"] == "127.0.0.1:9477"
    assert service["AmbientCapabilities"] == service["CapabilityBoundingSet"] == "CAP_DAC_READ_SEARCH"


@pytest.mark.skipif(SYSTEMD is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_unit(tmp_path):
    copy = tmp_path / "fastgreen-export.service"
    copy.write_text((FLEET / copy.name).read_text())
    done = subprocess.run([SYSTEMD, "verify", copy], capture_output=True, text=True, timeout=60)
    if "Failed to initialize manager" in done.stderr:
        pytest.skip(f"systemd-analyze does not work here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert copy.name not in done.stderr


def test_the_daemonset_mounts_what_its_variables_name():
    daemonset, policy = yaml.safe_load_all((FLEET / "daemonset.yaml").read_text())
    assert (daemonset["kind"], policy["kind"]) == ("DaemonSet", "NetworkPolicy")
    pod = daemonset["spec"]["template"]
    assert daemonset["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (container,) = pod["spec"]["containers"]
    options = parsed(container["command"])
    port = int(options["listen"].rpartition(":")[2])
    assert options["allow_remote"]
    assert port == container["ports"][0]["containerPort"] == policy["spec"]["ingress"][0]["ports"][0]["port"]
    assert pod["metadata"]["annotations"]["prometheus.io/port"] == str(port)
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume["hostPath"]["path"] for volume in pod["spec"]["volumes"]}
    assert mounts.keys() == volumes.keys()
    assert all(mount["readOnly"] and mount["mountPath"] == "/host" + volumes[name] for name, mount in mounts.items())
    variables = {one["name"]: one["value"] for one in container["env"]}
    seams = {f"FASTGREEN_{name.upper()}" for name in Seams.__annotations__}
    named = {name: value for name, value in variables.items() if name.startswith("FASTGREEN_")}
    assert named.keys() <= seams
    assert set(named.values()) <= {mount["mountPath"] for mount in mounts.values()}


def test_the_links_of_a_mounted_tree_lead_to_its_devices(powercap, tmp_path, monkeypatch):
    """The class folder holds relative links, ../../devices/virtual/powercap/..., as in the kernel's own tree."""
    tree = powercap(Zone("package-0", 10.0))
    variables = yaml.safe_load_all((FLEET / "daemonset.yaml").read_text())
    container = next(variables)["spec"]["template"]["spec"]["containers"][0]
    (root,) = [one["value"] for one in container["env"] if one["name"] == "FASTGREEN_POWERCAP_ROOT"]
    host = tmp_path / "host" / "sys"
    shutil.copytree(tree.root, host / "class" / "powercap", symlinks=True)
    shutil.copytree(tree.folder / "devices", host / "devices", symlinks=True)
    shutil.rmtree(tree.folder)
    monkeypatch.setenv("FASTGREEN_POWERCAP_ROOT", str(tmp_path) + root)
    assert {c.id for c in fg.channels() if c.readable and c.source == "rapl"} == {"rapl:package-0"}


@pytest.mark.skipif(PROMTOOL is None, reason="needs promtool, of the package prometheus")
def test_prometheus_accepts_its_configuration():
    done = subprocess.run([PROMTOOL, "check", "config", FLEET / "prometheus.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout


def test_the_dashboard_asks_only_for_what_the_exporter_shows(powercap):
    board = json.loads((FLEET / "grafana-dashboard.json").read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    queries += [one["query"] for one in board["templating"]["list"] if one["type"] == "query"]
    powercap(Zone("package-0", 10.0), move=True)
    with fg.Monitor("rapl:*") as monitor, fg.export.prometheus(monitor, "127.0.0.1:0") as endpoint:
        endpoint._spans.add("chat", 1.0, {"tokens": 2})
        time.sleep(1.2)
        shown = samples(endpoint.address)
    asked = {
        name
        for query in queries
        for name in re.findall(r"\b(?:hw|fastgreen)_\w+_(?:total|watts|bucket|sum|count|up)\b", query)
    }
    assert len(asked) > 8
    assert asked <= shown.keys()
    known = {label for found in shown.values() for labels, _ in found for label in labels} | {"instance"}
    used = {label for query in queries for label in re.findall(r"(?:by \(|, |\{|,)(\w+)(?==|\)|, \w+\))", query)}
    assert used <= known, used - known


@pytest.mark.skipif(PROMTOOL is None, reason="needs promtool, of the package prometheus")
def test_the_queries_of_the_dashboard_are_promql(tmp_path):
    board = json.loads((FLEET / "grafana-dashboard.json").read_text())
    rules = []
    for panel in board["panels"]:
        for target in panel["targets"]:
            query = (
                target["expr"].replace("$__rate_interval", "1m").replace("$__range", "1h").replace("$instance", ".*")
            )
            rules.append({"record": f"panel_{panel['id']}_{target['refId']}", "expr": query})
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
    done = subprocess.run([PROMTOOL, "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout

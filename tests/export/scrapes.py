# SPDX-License-Identifier: Apache-2.0
"""Reads a page for Prometheus, by prometheus_client's own parser; and has a real server scrape it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

PROMETHEUS = shutil.which("prometheus")


def page(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        return answer.read().decode()


def samples(address: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Name of a sample -> its labels and values."""
    out: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(page(address)):
        for sample in family.samples:
            out.setdefault(sample.name, []).append((sample.labels, sample.value))
    return out


def by_id(address: str, name: str) -> dict[str, float]:
    return {labels["hw_id"]: value for labels, value in samples(address).get(name, [])}


class scraping:
    """A Prometheus server that scrapes an address four times a second; inside, a function asks it one number."""

    def __init__(self, address: str, folder, every: str = "250ms") -> None:
        config = {
            "global": {"scrape_interval": every, "scrape_timeout": every},
            "scrape_configs": [{"job_name": "fastgreen", "static_configs": [{"targets": [address]}]}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.place = f"127.0.0.1:{free.getsockname()[1]}"
        self.command = [
            PROMETHEUS,
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={self.place}",
        ]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self.ask

    def ask(self, query: str) -> float:
        """The only value of a query; 0 where there is none yet."""
        words = urllib.parse.urlencode({"query": query})
        try:
            with urllib.request.urlopen(f"http://{self.place}/api/v1/query?{words}", timeout=5) as answer:
                found = json.load(answer)["data"]["result"]
        except OSError:
            return 0.0
        return float(found[0]["value"][1]) if found else 0.0

    def __exit__(self, *exc_info: object) -> None:
        self.process.terminate()
        self.process.wait(20)

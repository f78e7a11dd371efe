"""The examples of deployment: commands that the parser takes, a server that gets ready, metrics that exist."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from configparser import ConfigParser
from pathlib import Path
from urllib.request import urlopen

import kubernetes_validate
import pytest
import yaml

import metatx
from metatx.cli.parser import command_parser, normalise_argv
from metatx.serving.command import serve

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
KUBERNETES = list(yaml.safe_load_all((DEPLOY / "k8s.yaml").read_text()))
CONTAINER = KUBERNETES[0]["spec"]["template"]["spec"]["containers"][0]
COMMAND = json.loads(re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)[0])
PARSER = command_parser({"serve": serve})
HEALTH = json.loads(re.findall(r"^HEALTHCHECK .*?CMD (.*)$", DOCKERFILE, re.MULTILINE)[0])


def unit():
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(DEPLOY / "metatx.service")
    return parser["Service"]


@pytest.mark.parametrize(
    "words", [COMMAND, CONTAINER["args"], shlex.split(unit()["ExecStart"])], ids=["docker", "k8s", "systemd"]
)
def test_commands_are_those_of_the_parser(words):
    assert Path(words[0]).name == "metatx"
    parser, flags = PARSER
    assert parser.parse_args(normalise_argv(words[1:], flags)).serve.port == 8000


def test_a_container_is_drained_before_it_is_killed():
    default = PARSER[0].parse_args(["serve", "tasks"]).serve.timeout
    assert KUBERNETES[0]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > default + 1
    assert float(unit()["TimeoutStopSec"]) > default + 1


@pytest.mark.parametrize("part", KUBERNETES, ids=lambda part: part["kind"])
def test_kubernetes_takes_it(part):
    kubernetes_validate.validate(part, kubernetes_validate.latest_version(), strict=True)


def test_the_image_copies_what_there_is_and_runs_as_nobody_special():
    sources = [words.split()[:-1] for words in re.findall(r"^COPY (?!--)(.*)$", DOCKERFILE, re.MULTILINE)]
    assert all((ROOT / name).exists() for names in sources for name in names)
    assert re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE) == ["10001"]
    assert CONTAINER["image"] == f"metatx:{metatx.__version__}"


def check_dashboard(text):
    """Assert that the panels show metrics that a server has, and lie beside each other."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    endings = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
    there = {f"{name}{ending}" for name, kind in kinds.items() for ending in endings[kind]}
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    asked = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    assert set(re.findall(r"metatx_\w+", asked)) <= there
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places) == 9


def test_the_command_gets_ready_by_its_health_check_has_the_metrics_of_the_dashboard_and_drains(nano, table, tmp_path):
    task = metatx.Task.from_data(nano, "tabular", table, target="kind", inputs=["a", "b", "c"])
    task.save_pretrained(tmp_path / "tasks" / "kinds")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    here = {"/tasks": str(tmp_path / "tasks"), "8000": port, "0.0.0.0": "127.0.0.1"}
    health = [word.replace("8000", port) for word in HEALTH]
    server = subprocess.Popen([here.get(word, word) for word in COMMAND], env=environment, cwd=tmp_path)
    try:
        until = time.monotonic() + 120
        while subprocess.run(health, env=environment, capture_output=True).returncode:
            assert server.poll() is None and time.monotonic() < until
            time.sleep(0.5)
        with urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            check_dashboard(page.read().decode())
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    finally:
        server.kill()

"""The manifest for Google Kubernetes Engine says what the run and the image have, and tells exit codes apart."""

import importlib.util
import math
import re

import pytest
import yaml

from tests.running import ROOT

PERMANENT = {64, 76, 77}


@pytest.fixture(scope="module")
def manifest():
    return {part["kind"]: part for part in yaml.safe_load_all((ROOT / "launch/gke.yaml").read_text())}


@pytest.fixture(scope="module")
def slice_job(manifest):
    (job,) = manifest["JobSet"]["spec"]["replicatedJobs"]
    return job["template"]["spec"]


@pytest.fixture(scope="module")
def container(slice_job):
    (container,) = slice_job["template"]["spec"]["containers"]
    return container


def test_the_command_and_its_config_exist(container):
    python, option, module = container["command"]
    assert (python, option) == ("python", "-m")
    assert importlib.util.find_spec(module)
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in container["args"])
    assert (ROOT / flags["config"]).exists()
    assert {"config", "workdir"} <= set(flags)


def paths_of(container):
    return [argument.split("=")[1] for argument in container["args"] if not argument.startswith("--config=")]


def test_every_path_of_the_run_lies_in_the_bucket(container):
    assert len(paths_of(container)) == 3
    assert all(path.startswith("gs://BUCKET/") for path in paths_of(container))
    assert "volumeMounts" not in container


def test_the_lines_for_nfs_mount_one_claim():
    text = (ROOT / "launch/gke.yaml").read_text().replace("# NFS: ", "")
    nfs = {part["kind"]: part for part in yaml.safe_load_all(text)}
    (job,) = nfs["JobSet"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    (volume,), (mount,) = pod["volumes"], pod["containers"][0]["volumeMounts"]
    assert volume["name"] == mount["name"]
    assert mount["mountPath"] == "/shared"
    assert volume["persistentVolumeClaim"]["claimName"] == nfs["PersistentVolumeClaim"]["metadata"]["name"]
    assert nfs["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_machines_have_the_chips_of_the_topology(slice_job, container):
    extents = slice_job["template"]["spec"]["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = container["resources"]["limits"]["google.com/tpu"]
    assert container["resources"]["requests"]["google.com/tpu"] == chips
    assert slice_job["completions"] == slice_job["parallelism"]
    assert slice_job["completions"] * chips == math.prod(map(int, extents.split("x")))


def test_only_codes_that_another_try_would_not_change_fail_for_good(manifest, slice_job, container):
    (rule,) = slice_job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"] == {
        "containerName": container["name"],
        "operator": "In",
        "values": sorted(PERMANENT),
    }
    # Kubernetes takes a pod failure policy only with this; a container restarted in its pod would have no code.
    assert slice_job["template"]["spec"]["restartPolicy"] == "Never"
    # Any other end of any pod fails the job, and by the default of JobSet all of it starts again.
    assert slice_job["backoffLimit"] == 0
    policy = manifest["JobSet"]["spec"]["failurePolicy"]
    assert policy["rules"] == [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}]
    assert policy["maxRestarts"] > 10


def test_the_image_has_what_the_manifest_runs():
    lines = (ROOT / "launch/Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert {"requirements.txt", "requirements-tpu.txt", "pyproject.toml", "configs", "electra_jax"} <= set(copied)
    assert all((ROOT / name).exists() for name in copied)
    project = (ROOT / "pyproject.toml").read_text()
    assert set(re.findall(r'^(?:readme = |license-files = \[)"(\S+)"', project, re.MULTILINE)) <= set(copied)
    assert "WORKDIR /electra_jax" in lines

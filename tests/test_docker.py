"""The images and the compose file, read and not built: what goes in, who runs it, and who can reach it."""

import configparser
import fnmatch
import re
import shlex
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
DOCKERFILES = ("airflow.Dockerfile", "cuda.Dockerfile", "trainer.Dockerfile")
SECRET_NAME = re.compile("SECRET|PASSWORD|TOKEN|FERNET|API_?KEY|CREDENTIAL", re.I)


def instructions(name: str) -> list[tuple[str, str]]:
    """(instruction, arguments) in order, continuation lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", (DOCKER / name).read_text(), flags=re.M).replace("\\\n", " ")
    return [(line.split(maxsplit=1)[0], " ".join(line.split(maxsplit=1)[1].split())) for line in text.splitlines() if line.strip()]


def arguments(name: str, instruction: str) -> list[str]:
    return [rest for word, rest in instructions(name) if word == instruction]


def installs(name: str) -> list[list[str]]:
    commands = [shlex.split(part) for run in arguments(name, "RUN") for part in run.split("&&")]
    return [command for command in commands if "install" in command and "pip" in command]


def environment(name: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for rest in arguments(name, "ENV") for pair in shlex.split(rest))


def extras_of(name: str, interpreter: str) -> set[str]:
    command = next(command for command in installs(name) if interpreter in command)
    return {value for option, value in pairwise(command) if option == "--extra"}


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text())


@pytest.mark.parametrize("name", DOCKERFILES)
def test_base_image_is_pinned(name) -> None:
    (base,) = arguments(name, "FROM")
    assert re.fullmatch(r"python:3\.1[12]\.\d+-slim-\w+", base)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_runs_as_an_ordinary_user_from_an_argument_list(name) -> None:
    words = [word for word, _ in instructions(name)]
    assert set(words) <= {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "CMD"}
    (user,) = arguments(name, "USER")
    assert user not in ("root", "0") and f" {user} " in f" {arguments(name, 'RUN')[0]} "
    assert words[-2:] == ["USER", "CMD"]
    assert arguments(name, "CMD")[0].startswith("[")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_everything_installed_is_in_the_lock(name) -> None:
    commands = installs(name)
    assert len(commands) >= 2
    for command in commands:
        if command[0] == "uv":
            assert "requirements.lock" in command[command.index("-c") + 1] and not {"--no-verify-hashes", "-U", "--upgrade"} & set(command)
            assert command[command.index("-r") + 1] == "pyproject.toml"
        else:
            assert "--require-hashes" in command and command[-2:] == ["-r", "docker/uv.txt"]
    for file in (DOCKER / "uv.txt", ROOT / "requirements.lock"):
        text = re.sub(r"^#.*\n", "", file.read_text(), flags=re.M)
        blocks = [block for block in re.split(r"\n(?=\S)", text) if block.strip()]
        assert blocks and all("==" in block and "--hash=sha256:" in block for block in blocks)
    assert not any(word in run for run in arguments(name, "RUN") for word in ("curl", "wget", "apt-get", "http"))


def test_the_scheduling_image_trains_nothing_and_the_trainer_has_two_environments() -> None:
    known = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    assert extras_of("airflow.Dockerfile", "/opt/airflow/bin/python") == {"airflow", "pipeline"} <= known
    assert "ml" not in " ".join(arguments("airflow.Dockerfile", "RUN")).split()
    stages = environment("trainer.Dockerfile")["UPHELD_PYTHON"]
    assert extras_of("trainer.Dockerfile", stages) == {"pipeline", "ml", "weights", "faces"} <= known
    assert "airflow" in extras_of("trainer.Dockerfile", "/opt/airflow/bin/python")


def sources(name: str) -> list[str]:
    return [source for rest in arguments(name, "COPY") for source in rest.split()[:-1]]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_what_is_copied_exists_and_is_all_that_a_run_takes_along(name) -> None:
    copied = sources(name)
    assert all((ROOT / source).exists() for source in copied)
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    files = {path.name for pattern in ("*.py", "*.yaml", "*.toml", "*.lock") for path in ROOT.glob(pattern)} - {"dvc.lock"}
    assert packages | files <= set(copied)


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out: the last pattern that matches it or a folder above it decides."""
    kept_out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip().lstrip("!").removeprefix("**/")
        parts = path.split("/")
        above = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)] + parts
        if pattern and not pattern.startswith("#") and any(fnmatch.fnmatchcase(part, pattern) for part in above):
            kept_out = not line.strip().startswith("!")
    return kept_out


def test_the_build_sees_what_is_copied_and_nothing_private() -> None:
    assert not [source for name in DOCKERFILES for source in sources(name) if ignored(source)]
    for private in (".git/config", ".env", ".venv/bin/python", "store/airflow/secrets.json", "data/x.parquet", "tests/test_docker.py"):
        assert ignored(private), private


def test_no_secret_is_written_down(compose) -> None:
    for name in DOCKERFILES:
        assert not [key for key in environment(name) if SECRET_NAME.search(key)]
    seen = 0
    for service in compose["services"].values():
        for key, value in service.get("environment", {}).items():
            if SECRET_NAME.search(key):
                seen += 1
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), key  # from the environment, and missing ones stop the start
        assert "env_file" not in service
    assert seen


def test_only_loopback_is_published_and_nothing_is_privileged(compose) -> None:
    for name, service in compose["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
        assert not {"privileged", "network_mode", "pid", "cap_add", "user"} & service.keys()
        assert not [volume for volume in service["volumes"] if volume.startswith(("/", "."))]
    assert any(service.get("ports") for service in compose["services"].values())


def test_services_use_our_images_and_depend_on_each_other(compose) -> None:
    services = compose["services"]
    built = {service["image"]: service["build"] for service in services.values() if "build" in service}
    assert {Path(build["dockerfile"]).name for build in built.values()} == set(DOCKERFILES)
    for service in services.values():
        assert service["image"] in built and re.search(r":\d+\.\d+\.\d+$", service["image"])
        assert set(service.get("depends_on", {})) <= set(services)
        assert set(compose["volumes"]) == {volume.split(":")[0] for volume in service["volumes"]}
        assert "profiles" not in service or service.get("command") == ["airflow", "scheduler"]
    # Under LocalExecutor the tasks run beside the scheduler: it needs the environment of the stages.
    for name, dockerfile in (("scheduler", "trainer.Dockerfile"), ("scheduler-cuda", "cuda.Dockerfile")):
        assert built[services[name]["image"]]["dockerfile"] == f"docker/{dockerfile}"
        assert services[name]["environment"]["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"


def test_the_profile_cuda_gives_the_scheduler_a_card_in_place_of_the_plain_one(compose) -> None:
    services = compose["services"]
    schedulers = {name: service for name, service in services.items() if service.get("command") == ["airflow", "scheduler"]}
    assert {name: service["profiles"] for name, service in schedulers.items()} == {"scheduler": ["cpu"], "scheduler-cuda": ["cuda"]}
    own = ("image", "build", "profiles", "deploy")
    plain, cuda = ({key: value for key, value in schedulers[name].items() if key not in own} for name in ("scheduler", "scheduler-cuda"))
    assert plain == cuda
    (card,) = services["scheduler-cuda"]["deploy"]["resources"]["reservations"]["devices"]
    assert card == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert [name for name, service in services.items() if "deploy" in service] == ["scheduler-cuda"]
    usage = (DOCKER / "compose.yaml").read_text().partition("name:")[0]
    assert all(f"docker/compose.yaml --profile {profile} up" in usage for profile in ("cpu", "cuda"))


def test_the_cuda_image_is_the_trainer_s_with_the_host_s_driver_and_torch_s_own_cuda() -> None:
    card = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
    assert environment("cuda.Dockerfile") == environment("trainer.Dockerfile") | card
    without = [[step for step in instructions(name) if step[0] != "ENV"] for name in ("cuda.Dockerfile", "trainer.Dockerfile")]
    assert without[0] == without[1]
    locked = (ROOT / "requirements.lock").read_text()
    assert re.search(r"^torch==[\d.]+ ", locked, re.M) and re.search(r"^nvidia-cuda-runtime==", locked, re.M)  # no CPU-only build


def test_mlflow_asks_for_a_login_takes_no_uploads_and_works_in_a_folder_of_its_own(compose) -> None:
    mlflow = compose["services"]["mlflow"]
    assert {"--app-name=basic-auth", "--no-serve-artifacts"} <= set(mlflow["command"])
    assert mlflow["working_dir"] == "/var/lib/upheld/mlflow"
    given = mlflow["environment"]["MLFLOW_AUTH_CONFIG_PATH"].removeprefix("/opt/upheld/")
    assert given in sources("airflow.Dockerfile") and not ignored(given)
    settings = configparser.ConfigParser()
    settings.read(ROOT / given)
    assert settings["mlflow"]["default_permission"] == "NO_PERMISSIONS"
    assert not [key for key in settings["mlflow"] if SECRET_NAME.search(key)]

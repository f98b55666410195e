"""docker-compose.yaml, Dockerfile and scripts/init_env.py agree with each other and with the pinned Airflow.

No Docker here: what is checked is what can be read. Whether the containers start is for a machine with an engine.
"""

import base64
import json
import re
import stat
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
AIRFLOW = {name: service for name, service in SERVICES.items() if name.startswith("airflow-")}
MOUNTED = ("dags", "plugins", "llmops_tasks", "include")
SECRETS = {
    "POSTGRES_PASSWORD",
    "AIRFLOW_DB_PASSWORD",
    "MLFLOW_DB_PASSWORD",
    "LLMOPS_PSEUDONYM_KEY",
    "AIRFLOW_ADMIN_PASSWORD",
    "AIRFLOW_APPROVER_PASSWORD",
    "AIRFLOW_VIEWER_PASSWORD",
    "AIRFLOW__API_AUTH__JWT_SECRET",
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__CORE__FERNET_KEY",
}
# Compose escapes a dollar as `$$`; what follows one is for the shell in the container.
VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?P<rest>[^}]*)\}")


def without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def init_env(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "init_env.py"), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def read_env(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def airflow_options() -> set[str]:
    """Every AIRFLOW__SECTION__KEY the installed Airflow knows, from the list it ships (no `import airflow`: slow)."""
    spec = find_spec("airflow")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    shipped = Path(next(iter(spec.submodule_search_locations))) / "config_templates" / "config.yml"
    sections = yaml.load(shipped.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return {
        f"AIRFLOW__{section}__{key}".upper().replace(".", "_")
        for section, body in sections.items()
        for key in body["options"] or {}
    }


def test_file_follows_the_compose_specification() -> None:
    schema = json.loads((ROOT / "tests" / "configs" / "compose-spec.json").read_text(encoding="utf-8"))
    errors = jsonschema.Draft7Validator(schema).iter_errors(COMPOSE)
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_all_parts_of_airflow_are_there() -> None:
    assert set(AIRFLOW) == {
        f"airflow-{part}" for part in ("init", "apiserver", "scheduler", "scheduler-gpu", "dag-processor", "triggerer")
    }


@pytest.mark.parametrize("name", AIRFLOW)
def test_airflow_service_sees_the_code_and_cannot_change_it(name: str) -> None:
    expected = {f"./{folder}:/opt/airflow/{folder}:ro" for folder in MOUNTED}
    assert expected - set(AIRFLOW[name]["volumes"]) == set()
    assert AIRFLOW[name]["environment"]["PYTHONPATH"] == "/opt/airflow"


def test_host_folders_are_the_mounted_code_and_the_backups() -> None:
    for name, service in SERVICES.items():
        sources = {volume.split(":")[0] for volume in service.get("volumes", []) if re.match(r"[./~$]", volume)}
        expected = {f"./{folder}" for folder in MOUNTED} if name in AIRFLOW else set()
        assert sources == ({"./scripts/backup.sh", "./backups"} if name == "backup" else expected)


def test_host_ports_are_unique_and_open_to_this_machine_only() -> None:
    ports = [str(port) for service in SERVICES.values() for port in service.get("ports", [])]
    published = [port.rsplit(":", 1)[0] for port in ports]
    assert ports
    assert len(published) == len(set(published))
    assert [port for port in ports if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)] == []


def test_init_env_generates_every_required_variable(tmp_path: Path) -> None:
    assert init_env(tmp_path / ".env").returncode == 0
    required = {match["name"] for match in VARIABLE.finditer(TEXT) if match["rest"].startswith(":?")}
    assert required >= SECRETS
    assert sorted(name for name in required if not read_env(tmp_path / ".env").get(name)) == []


def test_no_secret_has_a_default() -> None:
    text = without_comments(TEXT)
    uses = [match for match in VARIABLE.finditer(text) if match["name"] in SECRETS]
    assert {match["name"] for match in uses} == SECRETS
    assert [match[0] for match in uses if match["rest"] != ":?run 'make init' first"] == []


def test_no_secret_is_written_out() -> None:
    settings = [
        (name, key, str(value))
        for name, service in SERVICES.items()
        for key, value in service.get("environment", {}).items()
        if re.search(r"PASSWORD|SECRET|FERNET|_CONN$|STORE_URI$|PSEUDONYM", key) and value is not None
    ]
    assert len(settings) > len(SECRETS)
    assert [(name, key) for name, key, value in settings if ":?" not in value] == []


def test_every_named_volume_is_declared_and_used() -> None:
    sources = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert {source for source in sources if not source.startswith("./")} == set(COMPOSE["volumes"])


def test_every_dependency_exists_and_can_be_waited_for() -> None:
    wants = [
        (name, target, body["condition"])
        for name, service in SERVICES.items()
        for target, body in service.get("depends_on", {}).items()
    ]
    assert wants
    assert [want for want in wants if want[1] not in SERVICES] == []
    healthy = [want for want in wants if want[2] == "service_healthy"]
    assert [want for want in healthy if "test" not in SERVICES[want[1]].get("healthcheck", {})] == []


def test_image_agrees_with_the_airflow_pin() -> None:
    pin = re.search(r"^apache-airflow==(\S+)$", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pin is not None
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    base = f"apache/airflow:slim-{pin[1]}-python3.11"
    assert re.findall(r"^FROM (\S+)$", dockerfile, re.MULTILINE) == ["${AIRFLOW_IMAGE}"]
    assert f"\nARG AIRFLOW_IMAGE={base}\n" in dockerfile
    (built_from,) = {service["build"]["args"]["AIRFLOW_IMAGE"] for service in SERVICES.values() if "build" in service}
    assert built_from == f"${{AIRFLOW_IMAGE:-{base}}}"
    assert f"\nAIRFLOW_IMAGE := {base}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    built = {service["image"] for service in SERVICES.values() if "build" in service}
    assert built == {f"llmops-airflow:{pin[1]}-python3.11"}


def test_every_image_has_a_fixed_tag() -> None:
    """Unless .env names another, for instance the same by its digest."""
    images = {service["image"] for service in SERVICES.values()}
    defaults = [re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", image) for image in images]
    assert [image for image in defaults if not re.fullmatch(r"[\w/.-]+:\d[\w.-]*", image)] == []
    (digest_of,) = re.findall(
        r"^POSTGRES_IMAGE := (\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert SERVICES["postgres"]["image"] == SERVICES["backup"]["image"] == f"${{POSTGRES_IMAGE:-{digest_of}}}"


def test_every_airflow_setting_is_an_option_of_the_installed_airflow() -> None:
    assert (
        version("apache-airflow-core")
        == re.findall(r"apache/airflow:slim-([\d.]+)", (ROOT / "Dockerfile").read_text())[0]
    )
    named = {key for service in AIRFLOW.values() for key in service["environment"] if key.startswith("AIRFLOW__")}
    named = {key for key in named if not key.startswith("AIRFLOW__FAB__")}  # the provider's own section
    assert named
    assert sorted(named - airflow_options()) == []


def test_every_address_in_a_setting_is_that_of_a_service() -> None:
    ports = {"postgres:5432"}  # the one server without a published port
    ports |= {f"{name}:{port.rsplit(':', 1)[1]}" for name, body in SERVICES.items() for port in body.get("ports", [])}
    settings = [str(value) for service in SERVICES.values() for value in service.get("environment", {}).values()]
    called = {match[1] for value in settings if (match := re.search(r"://(?:.*@)?([\w-]+:\d+)", value))}
    assert called == ports | {"localhost:8080", "localhost:5000"}  # as browsers see them


def given(service: str) -> str:
    """All that a service's environment says."""
    return " ".join(str(value) for value in SERVICES[service].get("environment", {}).values())


def test_every_service_is_given_the_secrets_that_it_needs_and_no_other() -> None:
    airflow = {
        "AIRFLOW_DB_PASSWORD", "LLMOPS_PSEUDONYM_KEY", "AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API__SECRET_KEY",
        "AIRFLOW__CORE__FERNET_KEY",
    }  # fmt: skip
    accounts = {f"AIRFLOW_{name}_PASSWORD" for name in ("ADMIN", "APPROVER", "VIEWER")}
    databases = {"AIRFLOW_DB_PASSWORD", "MLFLOW_DB_PASSWORD"}
    expected = {name: airflow for name in AIRFLOW} | {
        "airflow-init": airflow | accounts,
        "postgres": databases | {"POSTGRES_PASSWORD"},
        "mlflow": {"MLFLOW_DB_PASSWORD"},
        "backup": databases,
    }
    found = {name: {secret for secret in SECRETS if f"${{{secret}:" in given(name)} for name in SERVICES}
    assert found == expected


def test_airflow_and_mlflow_sign_in_as_themselves() -> None:
    address = re.compile(r"//(\w+):\$\{(\w+)_DB_PASSWORD[^}]*\}@postgres:5432/(\w+)")
    signs = {name: {tuple(map(str.lower, match)) for match in address.findall(given(name))} for name in SERVICES}
    expected = {name: {("airflow",) * 3} for name in AIRFLOW} | {"mlflow": {("mlflow",) * 3}}
    assert {name: found for name, found in signs.items() if found} == expected
    script = COMPOSE["configs"]["create-databases"]["content"]
    assert "SUPERUSER" not in script and "REVOKE ALL ON DATABASE airflow, mlflow FROM PUBLIC" in script
    assert not re.search(r"PASSWORD '|\$", script)  # from the environment, not in the text


def test_one_scheduler_runs_in_each_profile_and_one_of_them_has_gpus() -> None:
    profiles = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    assert profiles == {"airflow-scheduler": ["cpu"], "airflow-scheduler-gpu": ["gpu"], "backup": ["backup"]}
    devices = SERVICES["airflow-scheduler-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert [device["capabilities"] for device in devices] == [["gpu"]]
    apart = {"profiles", "deploy"}
    cpu, gpu = (
        {key: value for key, value in SERVICES[name].items() if key not in apart}
        for name in ("airflow-scheduler", "airflow-scheduler-gpu")
    )
    assert cpu == gpu


def test_init_env_says_where_models_run(tmp_path: Path) -> None:
    init_env(tmp_path / ".env")
    assert read_env(tmp_path / ".env")["COMPOSE_PROFILES"] == "cpu"


def test_processes_of_one_training_have_memory_to_share_and_time_to_end() -> None:
    assert SERVICES["airflow-scheduler"]["shm_size"] == "2gb"
    servers = [name for name, service in SERVICES.items() if service.get("restart") == "unless-stopped"]
    assert [name for name in servers if "stop_grace_period" not in SERVICES[name]] == []


def test_browsers_are_sent_to_addresses_that_they_can_reach() -> None:
    """Not to the names of containers."""
    for service in AIRFLOW.values():
        assert service["environment"]["LLMOPS_MLFLOW_UI"] == "${MLFLOW_URL:-http://localhost:5000}"
        assert (
            service["environment"]["AIRFLOW__API__BASE_URL"]
            == "${AIRFLOW_ORIGIN:-http://localhost:8080}${AIRFLOW_PATH:-}"
        )


def test_tasks_find_airflow_under_the_path_that_browsers_use() -> None:
    for service in AIRFLOW.values():
        address = service["environment"]["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"]
        assert address == "http://airflow-apiserver:8080${AIRFLOW_PATH:-}/execution/"


def test_there_are_an_administrator_an_approver_and_a_viewer() -> None:
    command = SERVICES["airflow-init"]["command"][-1]
    users = dict(re.findall(r"^user (\w+) (\w+)", command, re.MULTILINE))
    assert users == {"admin": "Admin", "approver": "User", "viewer": "Viewer"}


def test_mlflow_accepts_its_own_address_with_the_port() -> None:
    hosts = re.search(r"--allowed-hosts (\S+)", SERVICES["mlflow"]["command"][-1])
    assert hosts is not None
    assert "mlflow:5000" in hosts[1].split(",")
    assert [host for host in hosts[1].split(",") if not re.fullmatch(r"[\w.]+:5000", host)] == []


def test_mlflow_and_airflow_see_the_artifacts_at_the_same_path() -> None:
    root = re.search(r"--default-artifact-root file://(\S+)", SERVICES["mlflow"]["command"][-1])
    assert root is not None
    shared = f"mlflow-artifacts:{root[1]}"
    assert [name for name in ("mlflow", *AIRFLOW) if shared not in SERVICES[name]["volumes"]] == []


def test_secrets_and_state_stay_out_of_the_image() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    assert {".env", "var", ".venv", ".git", "tests", "benchmarks"} - set(ignored) == set()


def test_init_env_writes_a_private_file_and_prints_no_secret(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    done = init_env(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    values = {value for key, value in read_env(path).items() if key in SECRETS}
    assert len(values) == len(SECRETS)
    assert [value for value in values if value in done.stdout + done.stderr] == []
    assert list(tmp_path.iterdir()) == [path]


def test_init_env_makes_a_valid_fernet_key_and_other_secrets_each_time(tmp_path: Path) -> None:
    init_env(tmp_path / "one")
    init_env(tmp_path / "two")
    one, two = read_env(tmp_path / "one"), read_env(tmp_path / "two")
    assert len(base64.urlsafe_b64decode(one["AIRFLOW__CORE__FERNET_KEY"])) == 32
    assert [name for name in SECRETS if one[name] == two[name]] == []


def test_init_env_keeps_what_is_there_and_adds_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    mine = "# mine\nPOSTGRES_PASSWORD=chosen\nexport AIRFLOW_UID=1234\nLLMOPS_STORE=s3://bucket/llmops"
    path.write_text(mine, encoding="utf-8")
    path.chmod(0o644)
    assert init_env(path).returncode == 0
    text = path.read_text(encoding="utf-8")
    assert text.startswith(mine + "\n")
    assert [text.count(f"{name}=") for name in (*SECRETS, "AIRFLOW_UID")] == [1] * (len(SECRETS) + 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_init_env_changes_nothing_the_second_time(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    init_env(path)
    before = path.read_bytes()
    assert init_env(path).returncode == 0
    assert path.read_bytes() == before


def test_init_env_names_a_key_without_a_value(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("POSTGRES_PASSWORD=\nAIRFLOW_ADMIN_PASSWORD=x\n", encoding="utf-8")
    done = init_env(path)
    assert done.returncode == 1
    assert "No value for POSTGRES_PASSWORD:" in done.stdout

"""The sweep of the tutorial: what wandb's own agent makes of it is a command that genfam takes.

Whether the file fits the server's schema only the server says (wandb's client has none); here its keys are held against
those of the documentation, its command is written by the client's agent, and a run is begun in a sweep's environment.
"""

import math

import pytest
import yaml
from hydra import compose, initialize_config_dir

from genfam import glossary
from genfam.build import ConfigurationError, configuration_folder
from genfam.commands import cli
from genfam.records.run import Wandb
from genfam.running.tracking import weights_and_biases
from tutorials import TUTORIALS

FILE = TUTORIALS / "sweep.yaml"

pytestmark = pytest.mark.filterwarnings("ignore")  # wandb's own


@pytest.fixture
def sweep():
    from wandb.sdk.launch.sweeps.utils import load_sweep_config

    found = load_sweep_config(str(FILE))
    assert found is not None
    return found


def commanded(sweep, values, monkeypatch, tmp_path):
    """The command that wandb's agent starts for a choice of the parameters."""
    from wandb import wandb_agent

    started = []
    monkeypatch.setattr(wandb_agent, "AgentProcess", lambda **about: started.append(about) or type("P", (), {})())
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    for name, value in (("WANDB_RUN_ID", "x"), ("WANDB_SWEEP_PARAM_PATH", "x"), ("WANDB_DIR", str(tmp_path))):
        monkeypatch.setenv(name, value)  # so that what the agent sets is taken back
    agent = object.__new__(wandb_agent.Agent)
    agent._sweep_command, agent._function, agent._in_jupyter = sweep["command"], None, False
    agent._forward_signals, agent._run_processes = False, {}
    args = {name: {"value": value} for name, value in values.items()}
    agent._command_run({"run_id": "r1", "args": args, "program": None})
    return started[0]["command"]


def test_the_file_is_a_sweep_and_the_one_on_the_page(sweep):
    assert set(sweep) <= {"name", "description", "project", "entity", "method", "metric", "parameters", "command",
                          "program", "early_terminate", "run_cap"}  # fmt: skip
    assert sweep["method"] in ("grid", "random", "bayes")
    assert set(sweep["metric"]) == {"name", "goal"} and sweep["metric"]["goal"] in ("minimize", "maximize")
    for parameter in sweep["parameters"].values():
        assert parameter["distribution"] == "log_uniform_values" and 0 < parameter["min"] < 1 < parameter["max"]
    (block,) = [
        part for part in (TUTORIALS / "wandb.md").read_text().split("```") if part.startswith('yaml title="sweep')
    ]
    assert block.partition("\n")[2] == FILE.read_text()


def test_what_the_agent_runs_is_a_run_of_genfam(sweep, monkeypatch, tmp_path):
    command = commanded(sweep, {"learning_rate_factor": 0.3141592653589793}, monkeypatch, tmp_path)
    assert command[:2] == ["/usr/bin/env", "genfam"] and "learning_rate_factor=0.3141592653589793" in command
    overrides = [word for word in command[2:] if not word.startswith("--")]
    assert [word for word in command[2:] if word.startswith("--")] == ["--quiet"]
    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        run = cli.settings(compose("config", overrides))
        with pytest.raises(ConfigurationError, match=r"learning_rate_factor: expected more than 0"):
            cli.settings(compose("config", [*overrides, "learning_rate_factor=-1"]))
    assert run.learning_rate_factor == 0.3141592653589793
    assert (run.logger, run.wandb.mode, run.split, run.source["name"]) == ("wandb", "online", "validation", "digits")
    assert run.judge == sweep["metric"]["name"] and glossary.metric(run.judge) != glossary.UNKNOWN
    assert sweep["metric"]["goal"] == "minimize", "a distance"


def test_in_a_sweep_wandb_chooses_the_runs_id_and_adds_its_parameters(monkeypatch, tmp_path):
    wandb = weights_and_biases.quiet_wandb()
    wandb.teardown()
    parameters = tmp_path / "config.yaml"
    parameters.write_text(yaml.safe_dump({"wandb_version": 1, "learning_rate_factor": {"value": 0.5}}))
    for name, value in (("SWEEP_ID", "abc"), ("RUN_ID", "chosen"), ("SWEEP_PARAM_PATH", str(parameters))):
        monkeypatch.setenv(f"WANDB_{name}", value)
    try:
        run = weights_and_biases.open_run(
            Wandb(mode="offline", project="mine"), "digits-vae-s0", tmp_path, name="vae digits 0",
            config={"learning_rate_factor": 0.5, "family": "vae"},
        )  # fmt: skip
        assert (run.id, run.name, run.sweep_id) == ("chosen", "vae digits 0", "abc")
        assert dict(run.config) == {"learning_rate_factor": 0.5, "family": "vae"}
        run.log({"curve/x": 1.0})
        run.summary.update({"fd_digits_cnn_depths": math.pi})
        run.finish()
    finally:
        for name in ("SWEEP_ID", "RUN_ID", "SWEEP_PARAM_PATH"):
            monkeypatch.delenv(f"WANDB_{name}")
        wandb.teardown()
    assert len(list((tmp_path / "wandb").glob("offline-run-*-chosen"))) == 1

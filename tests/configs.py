"""Presets and typed configs for tests."""

import importlib
import pathlib

import ml_collections

from electra_jax import config_rules
from electra_jax.config import files, schema
from electra_jax.config.finetuning import TASK_CONFIGS
from electra_jax.config.pretraining import DataConfig

ROOT = pathlib.Path(__file__).parents[1]


def preset(name: str, variant: str = "") -> ml_collections.ConfigDict:
    """The ConfigDict of a config file, such as `preset("small", "quicktest")` or `preset("finetune.glue", "rte")`."""
    return importlib.import_module(f"electra_jax.configs.{name}").get_config(variant)


def typed(given: ml_collections.ConfigDict):
    """The typed config of a config file, whose fields may be changed in tests first."""
    return files.typed(given)


def checked(given: ml_collections.ConfigDict, device_count: int, process_count: int = 1, **options):
    """The typed config, after every check that an entry point makes."""
    config, problems = files.read_config(given)
    config_rules.check(config, device_count, process_count, problems=problems, **options)
    return config


def typed_section(kind, given: ml_collections.ConfigDict):
    """A section of a config file, such as `DataConfig` from `config.data`."""
    problems = schema.Problems()
    made = schema.read(kind, given.to_dict(), "config", problems)
    assert not problems.lines, problems.lines
    return made


def typed_data(given: ml_collections.ConfigDict) -> DataConfig:
    """The typed `config.data` of a pre-training config file."""
    return typed_section(DataConfig, given)


def typed_task(given: ml_collections.ConfigDict):
    """The typed `config.tasks.NAME` of a fine-tuning config file."""
    return typed_section(TASK_CONFIGS[given.kind], given)

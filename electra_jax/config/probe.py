"""The probe of a pre-training config as the fine-tuning config that it is."""

import dataclasses
import re

from electra_jax.config.finetuning import FinetuningConfig
from electra_jax.config.pretraining import PretrainingConfig


def probe_of(config: PretrainingConfig, model: str) -> FinetuningConfig | None:
    """The fine-tuning config of a pre-training run's probe, None where there is none.

    Args:
      config: the pre-training run's config.
      model: what the probe starts from.
    """
    if not config.probe:
        return None
    fields = {field.name: getattr(config.probe, field.name) for field in dataclasses.fields(FinetuningConfig)}
    return FinetuningConfig(**fields | {"init_from": model})


def of_probe(text: str) -> str:
    """Rewrites a message about a fine-tuning config for the section `probe` of a pre-training config."""
    return re.sub(r"\bconfig\.(?!json\b|probe\b)", "config.probe.", text)

"""The fine-tuning recipe of `configs/finetune/base.py`, reimplemented in PyTorch with transformers' encoder.

It shares no code with electra_jax, so that a bug cannot be on both sides of a comparison. Batches are dicts of arrays
with the same names as in electra_jax. Axis letters: see the legend in `electra_jax/models/layers.py`.
"""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import transformers
from safetensors.torch import load_file
from torch import nn

if TYPE_CHECKING:
    from electra_jax.config.finetuning import FinetuningModelConfig, FinetuningOptimizerConfig

Batch = Mapping[str, torch.Tensor]


def network_folder(path: str) -> pathlib.Path:
    """The folder itself or its subfolder discriminator/, as `python -m electra_jax.convert` writes it.

    Raises:
      FileNotFoundError: neither contains a config.json.
    """
    folder = pathlib.Path(path).expanduser()
    for place in (folder, folder / "discriminator"):
        if (place / "config.json").exists():
            return place
    raise FileNotFoundError(f"{path}: no config.json in it or in discriminator/, expected a Hugging Face folder")


def open_encoder(
    folder: pathlib.Path, settings: FinetuningModelConfig, random_weights: bool
) -> transformers.ElectraModel:
    """transformers' ELECTRA with the weights of a folder, or with its own initial ones.

    A BERT is loaded as an ELECTRA whose embeddings are as wide as its layers; its pooler is not used.

    Args:
      folder: Hugging Face folder of an ELECTRA or a BERT, with model.safetensors.
      settings: `config.model`; its dropout rates are used.
      random_weights: use only the sizes.

    Raises:
      KeyError: weights of the encoder are missing from the file.
    """
    fields = json.loads((folder / "config.json").read_text("utf-8"))
    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    optional = ("max_position_embeddings", "type_vocab_size", "layer_norm_eps", "hidden_act", "pad_token_id")
    config = transformers.ElectraConfig(
        **{name: fields[name] for name in sizes},
        **{name: fields[name] for name in optional if name in fields},
        embedding_size=fields.get("embedding_size", fields["hidden_size"]),
        hidden_dropout_prob=settings.dropout_rate,
        attention_probs_dropout_prob=settings.attention_dropout_rate,
        initializer_range=0.02,
    )
    encoder = transformers.ElectraModel(config)
    if not random_weights:
        weights = load_file(folder / "model.safetensors")
        state = {re.sub(r"^(bert|electra)\.", "", name): tensor.float() for name, tensor in weights.items()}
        if missing := encoder.load_state_dict(state, strict=False).missing_keys:
            raise KeyError(f"{folder}/model.safetensors lacks {', '.join(missing)}")
    return encoder


class Peer(nn.Module):
    """An encoder and the head of the paper: dropout, then one linear layer on [CLS] or on each token."""

    def __init__(self, encoder: transformers.ElectraModel, kind: str, outputs: int, dropout_rate: float) -> None:
        """Draws the initial weights of the head.

        Args:
          encoder: becomes a submodule.
          kind: "classification", "regression" or "tagging".
          outputs: classes or tags; 1 for regression.
          dropout_rate: dropout on the head's input.
        """
        super().__init__()
        self.kind, self.encoder = kind, encoder
        self.dropout = nn.Dropout(dropout_rate)
        self.head = nn.Linear(encoder.config.hidden_size, outputs)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits, float32 [B, C], or [B, L, C] for tagging."""
        tokens_BxL = batch["tokens"]
        hidden_BxLxD = self.encoder(
            input_ids=tokens_BxL,
            token_type_ids=batch["segments"],
            attention_mask=tokens_BxL.ne(self.encoder.config.pad_token_id or 0).long(),
        ).last_hidden_state
        return self.head(self.dropout(hidden_BxLxD if self.kind == "tagging" else hidden_BxLxD[:, 0]))

    def loss(self, batch: Batch) -> torch.Tensor:
        """Mean loss over rows, or over words for tagging."""
        logits = self(batch)
        if self.kind == "regression":
            return nn.functional.mse_loss(logits[:, 0], batch["label"])
        if self.kind == "tagging":
            first_BxL = batch["first"] == 1
            return nn.functional.cross_entropy(logits[first_BxL], batch["tag"][first_BxL].long())
        return nn.functional.cross_entropy(logits, batch["label"].long())


class Recipe:
    """Clipping, Adam without bias correction, decoupled weight decay, layer-wise decay, and the linear schedule."""

    def __init__(self, model: Peer, settings: FinetuningOptimizerConfig, steps: int) -> None:
        """Sets the moments to zero.

        Args:
          model: the model to update.
          settings: `config.optimizer`.
          steps: updates in the run.

        Raises:
          ValueError: the settings ask for something that is not supported here.
        """
        for name, found, built in (
            ("schedule", settings.schedule, "linear"),
            ("gradient_scope", settings.gradient_scope, "global"),
        ):
            if found != built:
                raise ValueError(
                    f"config.optimizer.{name}: found {found!r}, expected {built!r}; nothing else is supported"
                )
        self._settings, self._steps = settings, steps
        self._warmup_steps = int(settings.warmup_fraction * steps)
        named = dict(model.named_parameters())
        self._params: list[torch.Tensor] = list(named.values())
        layers = model.encoder.config.num_hidden_layers
        self._scales = [depth_scale(name, layers, settings.layer_decay, settings.top_layer_exponent) for name in named]
        self._decays = [
            0.0 if re.search(r"LayerNorm|bias", name) else settings.weight_decay * scale
            for name, scale in zip(named, self._scales, strict=True)
        ]
        self._first = [torch.zeros_like(param) for param in self._params]
        self._second = [torch.zeros_like(param) for param in self._params]

    def rate(self, step: int) -> float:
        """The learning rate of the update after `step` updates."""
        if step < self._warmup_steps:
            return self._settings.learning_rate * (step + 1) / self._warmup_steps
        left = (self._steps - step) / (self._steps - self._warmup_steps)
        return self._settings.learning_rate * left**self._settings.decay_power

    def update(self, model: Peer, batch: Batch, step: int) -> float:
        """Applies one update; returns the loss before it."""
        for param in self._params:
            param.grad = None
        loss = model.loss(batch)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self._params, self._settings.clip_norm, foreach=True)
        self._apply([param.grad for param in self._params if param.grad is not None], self.rate(step))
        return float(loss.detach())

    @torch.no_grad()
    def _apply(self, gradients: list[torch.Tensor], rate: float) -> None:
        beta1, beta2 = self._settings.beta1, self._settings.beta2
        torch._foreach_lerp_(self._first, gradients, 1 - beta1)
        torch._foreach_mul_(self._second, beta2)
        torch._foreach_addcmul_(self._second, gradients, gradients, 1 - beta2)
        denominators = torch._foreach_sqrt(self._second)
        torch._foreach_add_(denominators, self._settings.epsilon)
        if self._settings.weight_decay:
            torch._foreach_mul_(self._params, [1 - rate * decay for decay in self._decays])
        torch._foreach_addcdiv_(self._params, self._first, denominators, [-rate * scale for scale in self._scales])


def depth_scale(name: str, layers: int, decay: float, top_layer_exponent: int) -> float:
    """Factor on the learning rate of a parameter of `Peer`; it decreases with the distance from the head."""
    if match := re.match(r"encoder\.encoder\.layer\.(\d+)\.", name):
        return decay ** (top_layer_exponent + layers - 1 - int(match[1]))
    return decay ** (top_layer_exponent + layers) if name.startswith("encoder.") else 1.0

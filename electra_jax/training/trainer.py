"""A job on a mesh with its compiled steps: the parts of a run that stay constant."""

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Hashable
from typing import Any, TypedDict

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh

from electra_jax.config.finetuning import FinetuningConfig
from electra_jax.config.pretraining import PretrainingConfig
from electra_jax.config.shared import DivergenceConfig
from electra_jax.training import partitioning
from electra_jax.training.job import Batch, Job, Params
from electra_jax.training.optimizer import OptimizerConfig, optimizer
from electra_jax.training.state import TrainState, initial_state
from electra_jax.training.step import TrainStep, make_diagnosis, make_evaluation_step, make_train_step

# Folded into the seed's key for evaluations; no training step has this number.
_EVALUATION_STREAM = 2**31 - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Seed, intervals, checkpoints and sharding of a run; intervals in steps."""

    seed: int
    log_every_steps: int
    evaluate_every_steps: int
    save_every_steps: int
    keep_last: int
    keep_every_steps: int
    sharding: str
    rules: str = ""  # Changes to the sharding rules of `sharding`.
    shard_optimizer: bool = False
    accumulation: int = 1
    save_every_minutes: float = 0.0  # In addition; 0 for none.
    best_metric: str = ""  # The checkpoint with the highest score of this name is kept; "" for none.
    divergence: DivergenceConfig = dataclasses.field(default_factory=DivergenceConfig)
    hang_minutes: float = 0.0  # See `HangWatch`.
    hang_ends_run: bool = False


class Trainer:
    """A job, its optimizer and its mesh.

    Attributes:
      abstract: shapes and dtypes of the train state.
      shardings: shardings of its leaves.
      root_key: the key that every draw of the run follows from.
      evaluation_step, diagnose, inspect: jitted functions.
    """

    def __init__(
        self,
        job: Job,
        optimizer_config: OptimizerConfig,
        config: LoopConfig,
        mesh: Mesh,
        note: Callable[[str], None],
    ) -> None:
        """Plans the shardings; allocates nothing, so that the devices of the mesh need not exist."""
        self.job, self.optimizer_config, self.config, self.mesh = job, optimizer_config, config, mesh
        self._given_params: Params = {}
        self._programs: dict[Hashable, jax.stages.Compiled] = {}
        transformation = optimizer(optimizer_config)

        def make_state(key: jax.Array) -> TrainState:
            return initial_state(job, transformation, key)

        self._make_state = make_state
        self.abstract, self.shardings = partitioning.state_shardings(
            make_state, mesh, config.sharding, note, config.rules
        )
        shardings = [self.shardings.params] if config.accumulation > 1 or config.shard_optimizer else []
        if config.shard_optimizer:
            # Not directly to the moments' shardings: the compiler would shard activations alike, and exchange those.
            moments = partitioning.sharded_further(self.abstract.optimizer, self.shardings.optimizer, note)
            shardings.append(partitioning.sharded_further(self.abstract.params, self.shardings.params))
            self.shardings = self.shardings.replace(optimizer=moments)
        replicated = partitioning.replicated(mesh)
        self._train_step = jax.jit(
            make_train_step(
                job,
                transformation,
                optimizer_config,
                config.log_every_steps,
                config.accumulation,
                shardings,
                config.divergence.spike_deviations,
            ),
            donate_argnums=0,
            out_shardings=(self.shardings, replicated),
        )
        self.diagnose = jax.jit(
            make_diagnosis(job, optimizer_config, config.accumulation, shardings), out_shardings=replicated
        )
        self.evaluation_step = jax.jit(make_evaluation_step(job), out_shardings=replicated)
        self.inspect = jax.jit(job.inspect, out_shardings=replicated)

    @property
    def root_key(self) -> jax.Array:
        """The key of `config.seed`."""
        return jax.random.key(self.config.seed)

    @property
    def evaluation_key(self) -> jax.Array:
        """The key of evaluations, the same for all of a run, so that the curve shows the model and not the draws."""
        return jax.random.fold_in(self.root_key, _EVALUATION_STREAM)

    def start_from(self, params: Params) -> None:
        """Sets complete parts of the parameter tree for a warm start; arrays on the host."""
        self._given_params = params

    def initial_state(self) -> TrainState:
        """The state before the first update, sharded: random parameters, or those of `start_from`."""
        state = jax.jit(lambda key: nn.unbox(self._make_state(key)), out_shardings=self.shardings)(self.root_key)
        given = {part: jax.device_put(tree, self.shardings.params[part]) for part, tree in self._given_params.items()}
        return state.replace(params=state.params | given)

    def for_seed(self, job: Job, seed: int) -> "Trainer":
        """The same trainer, compiled steps included, for another seed and another batch order of the same job."""
        other = copy.copy(self)
        other.job, other.config = job, dataclasses.replace(self.config, seed=seed)
        return other

    def placed(self) -> contextlib.AbstractContextManager[None]:
        """The context of mesh and axis rules in which steps are traced."""
        return partitioning.placed_on(self.mesh, self.config.sharding, self.config.rules)

    def put(self, batch: Batch) -> Batch:
        """The global batch from this process's rows."""
        return partitioning.put_batch(batch, self.mesh)

    def lower(self, shapes: Batch | None = None) -> jax.stages.Lowered:
        """The traced training step, from shapes alone; call within `placed`.

        Args:
          shapes: one of the job's batch shapes; the first unless given.
        """

        def placed(leaf: jax.ShapeDtypeStruct, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

        state = jax.tree.map(placed, self.abstract, self.shardings)
        rows = partitioning.batch_sharding(self.mesh)
        batch = jax.tree.map(lambda leaf: placed(leaf, rows), shapes or self.job.batch_shapes()[0])
        key = placed(jax.eval_shape(lambda: jax.random.key(0)), partitioning.replicated(self.mesh))
        return self._train_step.lower(state, batch, key)

    def compile(self) -> TrainStep:
        """The training step, compiled for every batch shape of the job; call within `placed`."""
        for shapes in self.job.batch_shapes():
            if shape_of(shapes) not in self._programs:
                self._programs[shape_of(shapes)] = self.lower(shapes).compile()
        return lambda state, batch, key: self._programs[shape_of(batch)](state, batch, key)

    def inspected(self, state: TrainState) -> list[dict[str, Any]]:
        """The job's sample rows with the model's current predictions."""
        key = self.evaluation_key
        values = self.inspect(state.params, self.job.sample_batch(), key)
        return self.job.describe(jax.tree.map(np.asarray, jax.device_get(values)))


def shape_of(batch: Batch) -> Hashable:
    """The structure and the shapes of a batch, for which a step is compiled."""
    leaves, structure = jax.tree.flatten(batch)
    return structure, tuple(leaf.shape for leaf in leaves)


class Shared(TypedDict):
    """The fields of `LoopConfig` that pre-training and fine-tuning configs have under the same names."""

    sharding: str
    rules: str
    shard_optimizer: bool
    accumulation: int
    divergence: DivergenceConfig


def shared_fields(config: PretrainingConfig | FinetuningConfig) -> Shared:
    """The sharding, the gradient accumulation and the checks that a config asks for."""
    mesh = config.mesh
    return Shared(
        sharding=mesh.sharding,
        rules=mesh.rules,
        shard_optimizer=mesh.shard_optimizer,
        accumulation=config.accumulation,
        divergence=config.divergence,
    )


def make_trainer(config: PretrainingConfig, job: Job, mesh: Mesh, note: Callable[[str], None]) -> Trainer:
    """The trainer that a validated config asks for."""
    optimizer_config = OptimizerConfig.of(
        config.optimizer, steps=config.steps, warmup_steps=config.optimizer.warmup_steps
    )
    loop_config = LoopConfig(
        seed=config.seed,
        log_every_steps=config.log.every_steps,
        evaluate_every_steps=config.evaluation.every_steps,
        save_every_steps=config.checkpoint.every_steps,
        save_every_minutes=config.checkpoint.every_minutes,
        keep_last=config.checkpoint.keep_last,
        keep_every_steps=config.checkpoint.keep_every_steps,
        hang_minutes=config.hang.minutes,
        hang_ends_run=config.hang.ends_run,
        **shared_fields(config),
    )
    partitioning.check_slices(mesh.devices.flat, config.mesh.slices)
    return Trainer(job, optimizer_config, loop_config, mesh, note)

"""A fine-tuning run from its config: check, read the examples, train once for each seed, report."""

import dataclasses
import json

import jax

from electra_jax import config_rules
from electra_jax.config.finetuning import FinetuningConfig
from electra_jax.config.schema import Problems
from electra_jax.errors import MismatchError
from electra_jax.finetuning import outputs, run
from electra_jax.reporting.summary import summary_lines
from electra_jax.runs.final_report import report_at_end
from electra_jax.runs.run_options import RunOptions
from electra_jax.runs.run_workdir import Workdir
from electra_jax.training.compile_cache import use_compile_cache
from electra_jax.training.run_context import RunContext, under_way


def finetune(config: FinetuningConfig, problems: Problems, context: RunContext, options: RunOptions) -> None:
    """Trains once for each seed, or scores the trials of the workdir again.

    Args:
      config: the run's config.
      problems: what is wrong with single fields of it.
      context: the run's workdir, progress line and processes.
      options: options from flags.

    Raises:
      RunError: the config or an input does not fit, or the run was stopped; see `errors`.
    """
    workdir, line, cluster = context.workdir, context.line, context.cluster
    config = run.as_begun(config, workdir, line)
    config_rules.check(config, jax.device_count(), cluster.count, problems=problems)
    examples, left_out = run.read_examples(config, line)
    beginning = run.start(config, workdir, line)
    tasks = run.make_tasks(config, examples, beginning.tokenizer)
    job = run.make_job(config, tasks, beginning)
    trainer = run.make_trainer(config, job, line)
    if options.profiled:
        options.profiled.check(trainer.optimizer_config.steps)
    with Workdir(context, options).opened(run.recorded_fields(config, beginning)) as opened:
        use_compile_cache(config.compile_cache, workdir)
        cluster.agree("examples", run.data_facts(job, beginning), MismatchError)
        trials = run.make_trials(config, trainer, beginning, opened, options.config_path)
        trials = dataclasses.replace(trials, profiled=options.profiled)
        if options.evaluates:
            line.print(json.dumps(trials.evaluate()["summary"], indent=2))
            return
        cluster.from_first(lambda: outputs.write_left_out(workdir, left_out))
        line.print(run.screen(config, trainer))
        with report_at_end(opened), under_way():
            line.print("\n".join(summary_lines(trials.run())))

"""Compares pre-training objectives at equal FLOPs or seconds, as described by a plan.

    python -m benchmarks.objectives --plan=benchmarks/plans/smallest.toml --data=benchmark_data --workdir=runs/first

The same command resumes after it was stopped; docs/benchmarks.md explains plans and how to read report.md.
"""

import dataclasses
import pathlib

from absl import flags

from benchmarks.objectives import tasks
from benchmarks.objectives.plan import Plan, read_plan, worded
from electra_jax import allocator, entry_point
from electra_jax.errors import InputError, Preempted, RunError
from electra_jax.progress import ProgressLine

_PLAN = flags.DEFINE_string("plan", None, "What to compare: a TOML file, see benchmarks/plans/.")
_WORKDIR = flags.DEFINE_string("workdir", "runs/objectives", "Folder of the results; several plans may share it.")
_DATA = flags.DEFINE_string("data", ".", "Folder that contains the folders of the plan's tasks.")
_TASKS = flags.DEFINE_list("tasks", [], "Tasks of the plan to run; default: all.")
_JOBS = flags.DEFINE_integer("jobs", 1, "Pieces of work in parallel, each in a process with its share of the cores.")
_REPORT_ONLY = flags.DEFINE_boolean("report_only", False, "Only write the report of the finished pieces of work.")


def main() -> None:
    """Does the missing pieces of a comparison, then writes its report; see `entry_point` for exit codes."""
    if not _PLAN.value:
        raise InputError("--plan is missing, for example --plan=benchmarks/plans/smallest.toml")
    if _JOBS.value < 1:
        raise InputError(f"--jobs={_JOBS.value}: expected 1 or more")
    path = pathlib.Path(_PLAN.value)
    plan = _chosen(read_plan(path))
    allocator.keep_freed_memory()
    # Imported here so that a mistake in a plan is reported at once.
    from benchmarks.objectives import recipes, report
    from benchmarks.objectives.comparison import prepared
    from benchmarks.objectives.schedule import Executor
    from benchmarks.objectives.work import Store

    directories = {name: pathlib.Path(_DATA.value).expanduser() / task.directory for name, task in plan.tasks.items()}
    problems = [line for name, directory in directories.items() for line in tasks.problems(name, directory)]
    if problems := [*recipes.problems(plan), *problems]:
        raise InputError(worded(path, problems))
    workdir = pathlib.Path(_WORKDIR.value).expanduser().absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    files = {
        name: tasks.prepare(name, directories[name], task.dev_examples, workdir) for name, task in plan.tasks.items()
    }
    if problems := recipes.data_problems(plan, files):
        raise InputError(worded(path, problems))
    line, store = ProgressLine(), Store(workdir)
    executor = Executor(store, _JOBS.value, line)
    try:
        comparison = prepared(plan, files, store, None if _REPORT_ONLY.value else executor)

        def write_report() -> None:
            for written in report.write(comparison, workdir):
                line.print(f"Written: {written}")

        if _REPORT_ONLY.value:
            write_report()
        else:
            comparison.run(executor, write_report)
    except KeyboardInterrupt as error:
        raise Preempted("Interrupted; run the same command again to resume.") from error
    finally:
        executor.close()
    if executor.failures:
        reasons = "\n".join(dict.fromkeys(executor.failures))
        raise RunError(
            f"{len(executor.failures)} pieces of work failed, each with its log above; the reasons:\n{reasons}"
        )


def _chosen(plan: Plan) -> Plan:
    """The plan with the tasks that --tasks names."""
    if unknown := [name for name in _TASKS.value if name not in plan.tasks]:
        raise InputError(f"--tasks: {', '.join(unknown)} not in the plan, expected some of {', '.join(plan.tasks)}")
    chosen = {name: task for name, task in plan.tasks.items() if not _TASKS.value or name in _TASKS.value}
    return dataclasses.replace(plan, tasks=chosen)


if __name__ == "__main__":
    entry_point.enter(main)

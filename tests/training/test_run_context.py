import pytest

from electra_jax.errors import ProcessLost
from electra_jax.training.run_context import RunContext


def test_run_whose_workdir_was_taken_over_ends_with_75():
    RunContext("run").check_owner()
    with pytest.raises(ProcessLost, match="--workdir=run: another process has taken over") as error:
        RunContext("run", owns_workdir=lambda: False).check_owner()
    assert error.value.exit_code == 75

import pytest

from electra_jax.tpu_planning.program import Collective, read_costs, scope_of
from electra_jax.tpu_planning.topologies import CHIPS

# As the compiler writes it, less what is not read.
PROGRAM = """HloModule jit_train_step, is_scheduled=true

%body.1 (loop: (s32[], f32[8])) -> (s32[], f32[8]) {
  %fusion.7 = bf16[8]{0} fusion(%loop), kind=kOutput, calls=%fused.1, metadata={op_name="jit(train_step)/jvp(discriminator)/Electra.discriminate/discriminator/while/body/closed_call/layers.one_layer/layers/output/bli,io->blo/dot_general"}, backend_config={"estimated_cycles":"100"}
  %all-gather-start.2 = (bf16[4]{0}, bf16[8]{0}) all-gather-start(%fusion.7), channel_id=1
  %all-gather-done.2 = bf16[8]{0} all-gather-done(%all-gather-start.2)
}

%condition.1 (loop: (s32[], f32[8])) -> pred[] {
  %bound = s32[]{:T(128)} constant(12)
  ROOT %less = pred[] compare(%turn, %bound), direction=LT
}

%called.1 (x: f32[8]) -> f32[8] {
  ROOT %copy.3 = f32[8]{0} copy(%x), metadata={op_name="jit(train_step)/optimizer/sub"}, backend_config={"estimated_cycles":"30"}
}

ENTRY %main.1 (x: f32[8]) -> f32[8] {
  %while.1 = (s32[], f32[8]) while(%start), condition=%condition.1, body=%body.1
  %call.1 = f32[8] call(%x), to_apply=%called.1
  %kernel.1 = bf16[64,128,768]{2,1,0:T(8,128)(2,1)} custom-call(%x), custom_call_target="tpu_custom_call", metadata={op_name="jit(train_step)/transpose(jvp(generator))/Electra.generate/generator/closed_call/layers.one_layer/layers/attention/shard_map/attention_backward/pallas_call"}, backend_config={"custom_call_config":{"cost_estimate":{"flops":"197000000","transcendentals":"5","bytes_accessed":"8190000","remote_bytes_transferred":"0"}}}
  %all-reduce.1 = (f32[]{:T(128)}, bf16[30522,768]{1,0:T(8,128)(2,1)}) all-reduce(%a, %b), channel_id=24
}
"""


def test_loops_count_by_their_condition_and_calls_once():
    costs = read_costs(PROGRAM, CHIPS["v5e"])
    assert costs.scopes["discriminator, forward: layers/output"] == 12 * 100
    assert costs.scopes["optimizer"] == 30


def test_a_kernel_takes_the_longer_of_its_operations_and_its_bytes():
    costs = read_costs(PROGRAM, CHIPS["v5e"])
    # 8.19 MB at 819 GB/s are 10 µs, 197 MFLOPs at 197 TFLOP/s one; at 1.5 GHz.
    assert costs.kernel_cycles == pytest.approx(15_000)
    assert costs.cycles == pytest.approx(1_200 + 30 + 15_000)
    assert costs.scopes["generator, backward: layers/attention/attention_backward"] == pytest.approx(15_000)


def test_collectives_are_counted_by_kind_and_size_those_in_loops_too():
    costs = read_costs(PROGRAM, CHIPS["v5e"])
    assert costs.collectives == {
        "all-gather": Collective(count=12, bytes=12 * 8 * 2),
        "all-reduce": Collective(count=1, bytes=4 + 2 * 30522 * 768),
    }


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("jit(train_step)/optimizer/reduce_sum", "optimizer"),
        ("jit(train_step)/jvp(sample)/jit(argmax)/reduce", "sample"),
        ("jit(train_step)/jvp()/reduce", "losses, forward: rest"),
        ("", "other"),
        (
            "jit(train_step)/transpose(jvp(generator))/Electra.generate/generator_head/bme,ve->bmv/dot_general",
            "generator, backward: generator_head",
        ),
    ],
)
def test_operations_are_named_by_phase_direction_and_module(operation, expected):
    assert scope_of(operation) == expected

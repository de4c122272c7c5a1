"""The estimate of a step is that of its own loop, with the loops in it as often as they go round."""

import pytest

from benchmarks.cycles import estimated_cycles

TEXT = """\
HloModule jit_train_steps

%below (a: (s32[])) -> pred[] {
  %constant.9 = s32[]{:T(128)} constant(8)
  ROOT %lt.1 = pred[] compare(%counter, %constant.9), direction=LT, backend_config={"estimated_cycles":"5"}
}

%block.2.clone (a: (s32[])) -> (s32[]) {
  %fusion.3 = f32[8]{0} fusion(%x), backend_config={"estimated_cycles":"100"}
  ROOT %copy.4 = f32[8]{0} copy(%fusion.3), backend_config={"estimated_cycles":"10"}
}

%block.2 (a: (s32[])) -> (s32[]) {
  ROOT %copy.9 = f32[8]{0} copy(%fusion.3), backend_config={"estimated_cycles":"777"}
}

%step.1 (a: (s32[])) -> (s32[]) {
  %copy-start.5 = f32[8]{0} copy-start(%x), backend_config={"flag":true,"estimated_cycles":"3"}
  %fusion.6 = f32[8]{0} fusion(%x), backend_config={"estimated_cycles":"1000"}
  %while.7 = (s32[]) while(%fusion.6), condition=%below, body=%block.2.clone, metadata={op_name="while"}
  ROOT %add.8 = f32[8]{0} add(%x, %x)
}

ENTRY %main (a: s32[]) -> s32[] {
  %fusion.1 = f32[8]{0} fusion(%x), backend_config={"estimated_cycles":"5000"}
  ROOT %while.1 = (s32[]) while(%fusion.1), condition=%below, body=%step.1
}
"""


def test_a_loop_in_the_step_counts_as_often_as_it_goes_round() -> None:
    assert estimated_cycles(TEXT) == {"all": 1003 + 8 * 110, "copies": 3 + 8 * 10}


def test_a_compiler_without_estimates() -> None:
    assert estimated_cycles(TEXT.replace("estimated_cycles", "other")) == {}
    assert estimated_cycles("ENTRY %main (a: s32[]) -> s32[] {\n}\n") == {}


def test_a_loop_that_goes_round_as_often_as_it_likes() -> None:
    with pytest.raises(AssertionError, match="no loop over a known number of parts"):
        estimated_cycles(TEXT.replace("constant(8)", "parameter(0)"))

"""Programs' text: lines as XLA's TPU and CPU compilers print them (metadata left out)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_like.cost import hlo
from t5x_like.cost.hlo.collectives import replica_groups

MESH = {"data": 1, "fsdp": 4, "tensor": 2}  # devices 0 1 | 2 3 | 4 5 | 6 7: tensor is inner


@pytest.mark.parametrize(
    ("written", "groups"),
    [
        ("replica_groups={{0,2,4,6},{1,3,5,7}}", [[0, 2, 4, 6], [1, 3, 5, 7]]),
        ("replica_groups=[2,4]<=[4,2]T(1,0)", [[0, 2, 4, 6], [1, 3, 5, 7]]),
        ("replica_groups=[4,2]<=[8]", [[0, 1], [2, 3], [4, 5], [6, 7]]),
        ("replica_groups=mesh['axis_0'=4,'axis_1'=1,'axis_2'=2] {'axis_0'}",
         [[0, 2, 4, 6], [1, 3, 5, 7]]),
        ("replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_1'}", [[0, 1], [2, 3], [4, 5], [6, 7]]),
        ("replica_groups=mesh['a'=8] {'a':(2)2}", [[0, 2], [1, 3], [4, 6], [5, 7]]),
        ("replica_groups=mesh['a'=2,'b'=4] {'a','b'}", [[0, 1, 2, 3, 4, 5, 6, 7]]),
        ("replica_groups={}, to_apply=%add", [[0, 1, 2, 3, 4, 5, 6, 7]]),
        ("source_target_pairs={{0,6},{2,0},{4,2},{6,4}}", [[0, 6], [2, 0], [4, 2], [6, 4]]),
    ],
)  # fmt: skip
def test_all_ways_of_writing_who_exchanges_with_whom(written, groups):
    found = replica_groups(f", channel_id=1, {written}, use_global_device_ids=true", 8)
    assert found.tolist() == groups


def exchanges(*lines, before="", slices=(0,) * 8):
    text = "\n".join(
        ["HloModule jit_step", before, "ENTRY %main (p: f32[8]) -> f32[8] {", *lines, "}"]
    )
    return hlo.collectives(hlo.parse(text), slices)


def test_a_combined_all_reduce_counts_all_its_arrays():
    (found,) = exchanges(
        "  %fusion.699 = bf16[4,1024,1024]{2,1,0:T(8,128)(2,1)S(3)} fusion(), calls=%f",
        "  %fusion.726 = bf16[4,1024,1024]{2,1,0:T(8,128)(2,1)S(3)} fusion(), calls=%f",
        "  %all-reduce.153 = (bf16[4,1024,1024]{2,1,0:T(8,128)(2,1)S(3)}, "
        "bf16[4,1024,1024]{2,1,0:T(8,128)(2,1)S(3)}) all-reduce(%fusion.699, %fusion.726), "
        "channel_id=12, replica_groups=[4,2]<=[8], use_global_device_ids=true, to_apply=%add",
    )
    assert (found.kind, found.bytes) == ("all-reduce", 2 * 4 * 1024 * 1024 * 2)
    assert found.axes(MESH) == ("tensor",)


def test_an_asynchronous_all_gather_counts_once_and_what_is_gathered():
    (found,) = exchanges(
        "  %p = bf16[256,128]{1,0} parameter(0)",
        "  %all-gather-start.1 = (bf16[256,128]{1,0}, bf16[1024,128]{1,0}) "
        "all-gather-start(%p), channel_id=2, replica_groups={{0,2,4,6},{1,3,5,7}}, dimensions={0}",
        "  ROOT %all-gather-done.1 = bf16[1024,128]{1,0} all-gather-done(%all-gather-start.1)",
    )
    assert (found.kind, found.bytes) == ("all-gather", 1024 * 128 * 2)
    assert found.axes(MESH) == ("fsdp",)


def test_a_wrapped_collective_counts_once():
    wrapped = (
        "%async_computation (param: f32[1024]) -> f32[256] {\n"
        "  %param = f32[1024]{0} parameter(0)\n"
        "  ROOT %reduce-scatter.2 = f32[256]{0} reduce-scatter(%param), channel_id=3, "
        "replica_groups=[2,4]<=[4,2]T(1,0), dimensions={0}, to_apply=%add\n"
        "}\n"
    )
    (found,) = exchanges(
        "  %p = f32[1024]{0} parameter(0)",
        "  %s = ((f32[1024]{0}), f32[256]{0}) async-start(%p), calls=%async_computation",
        "  ROOT %d = f32[256]{0} async-done(%s), calls=%async_computation",
        before=wrapped,
    )
    assert (found.kind, found.bytes) == ("reduce-scatter", 4096)


def test_an_all_reduce_of_which_each_device_keeps_a_part_is_a_reduce_scatter():
    """The TPU compiler fuses the two: a fusion that calls `all-reduce-scatter`."""
    inner = (
        "%all-reduce-scatter.1.clone.1 (input.12: bf16[1024,2048]) -> bf16[256,2048] {\n"
        "  %input.12 = bf16[1024,2048]{1,0:T(8,128)(2,1)} parameter(0)\n"
        "  %all-reduce.150 = bf16[1024,2048]{1,0:T(8,128)(2,1)} all-reduce(%input.12), "
        "channel_id=44, replica_groups={{0,2,4,6},{1,3,5,7}}, to_apply=%add.24.clone\n"
        "  ROOT %dynamic-slice.608 = bf16[256,2048]{1,0} dynamic-slice(%all-reduce.150, %m, %c)\n"
        "}\n"
    )
    (found,) = exchanges(
        "  %fusion.669 = bf16[1024,2048]{1,0:T(8,128)(2,1)} fusion(), calls=%f",
        "  %fusion.670 = bf16[256,2048]{1,0:T(8,128)(2,1)S(3)} fusion(%fusion.669), kind=kCustom, "
        "calls=%all-reduce-scatter.1.clone.1",
        before=inner,
    )
    assert (found.kind, found.bytes) == ("reduce-scatter", 1024 * 2048 * 2)


def test_what_slices_exchange_is_sent_by_way_of_the_host():
    (found,) = exchanges(
        "  %bitcast.1114 = bf16[432,8,128]{2,1,0:T(8,128)(2,1)} bitcast(%p)",
        "  %after-all.28 = token[] after-all()",
        "  %send.28 = (bf16[432,8,128]{2,1,0:T(8,128)(2,1)}, u32[], token[]) "
        "send(%bitcast.1114, %after-all.28), channel_id=2, is_host_transfer=true, "
        'frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",'
        '_xla_host_transfer_rendezvous="all-reduce.141_0",_xla_megascale_reduce_operation="SUM",'
        '_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}',
        slices=(0, 0, 0, 0, 1, 1, 1, 1),
    )
    assert (found.kind, found.bytes) == ("all-reduce", 432 * 8 * 128 * 2)
    assert found.groups.tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert found.axes({"data": 2, "fsdp": 2, "tensor": 2}) == ("data",)


LOOP = """
%body (p: (bf16[4,256], u32[])) -> (bf16[4,256], u32[]) {
  %p = (bf16[4,256]{1,0}, u32[]) parameter(0)
  %x = bf16[4,256]{1,0} get-tuple-element(%p), index=0
  %i = u32[]{:T(128)} get-tuple-element(%p), index=1
  %collective-permute-start.40 = (bf16[4,256]{1,0}, bf16[4,256]{1,0}, u32[]{:S(2)}, u32[]{:S(2)}) \
collective-permute-start(%x), channel_id=19, source_target_pairs={{0,6},{2,0},{4,2},{6,4}}
  %y = bf16[4,256]{1,0} collective-permute-done(%collective-permute-start.40)
  %two = u32[]{:T(128)} constant(2)
  %next = u32[]{:T(128)} add(%i, %two)
  ROOT %t = (bf16[4,256]{1,0}, u32[]) tuple(%y, %next)
}
%condition (p.1: (bf16[4,256], u32[])) -> pred[] {
  %eight = u32[]{:T(128)} constant(8)
  %p.1 = (bf16[4,256]{1,0}, u32[]) parameter(0)
  %i.1 = u32[]{:T(128)} get-tuple-element(%p.1), index=1
  ROOT %compare = pred[]{:T(512)} compare(%i.1, %eight), direction=LT
}
"""


@pytest.mark.parametrize(("first", "times"), [(0, 4), (2, 3), (7, 1)])
def test_a_loop_counts_as_often_as_it_turns(first, times):
    """From `first` in steps of 2 up to 8: the TPU compiler does two turns in one."""
    (found,) = exchanges(
        "  %p = bf16[4,256]{1,0} parameter(0)",
        f"  %zero = u32[]{{:T(128)}} constant({first})",
        "  %start = (bf16[4,256]{1,0}, u32[]) tuple(%p, %zero)",
        "  %while.1 = (bf16[4,256]{1,0}, u32[]) while(%start), condition=%condition, body=%body",
        before=LOOP,
    )
    assert (found.kind, found.bytes, found.count) == ("collective-permute", 2048, times)
    assert found.axes(MESH) == ("fsdp",)


def test_a_known_trip_count_needs_no_condition():
    (found,) = exchanges(
        "  %w = (bf16[4,256]{1,0}, u32[]) while(%s), condition=%unreadable, body=%body, "
        'backend_config={"known_trip_count":{"n":"118"},"known_init_step":{"init":"0","step":"1"}}',
        before=LOOP,
    )
    assert found.count == 118


def test_attributes_of_several_lines_do_not_end_a_computation():
    """As of Pallas kernels on TPUs."""
    found = exchanges(
        "  %k = bf16[8,128]{1,0} custom-call(%p), custom_call_target=\"tpu_custom_call\", "
        "frontend_attributes={kernel_metadata={",
        '"xprof_metadata":"{}"',
        "}}, backend_config={}",
        "  %all-to-all.1 = bf16[8,128]{1,0} all-to-all(%k), replica_groups=[4,2]<=[8]",
    )  # fmt: skip
    assert [(one.kind, one.bytes) for one in found] == [("all-to-all", 2048)]


def test_a_device_alone_exchanges_nothing():
    assert not exchanges(
        "  %p = f32[8]{0} parameter(0)",
        "  %r = f32[8]{0} all-reduce(%p), replica_groups=[8,1]<=[8], to_apply=%add",
    )


@pytest.mark.parametrize(
    ("left", "right", "line", "flops"),
    [
        # [16384, 512] by [512, 4096], as a convolution over two halves of the 512.
        ("bf16[1,16384,2,256]", "bf16[2,256,4096,1]",
         "bf16[1,16384,4096,1] convolution(%l, %r), window={size=2x1}, "
         "dim_labels=1b0f_0io1->1bf0", 2 * 16384 * 4096 * 512),
        # A batch of 8 products [512, 128] by [128, 256]: dilation keeps the others apart.
        ("bf16[8,512,128]", "bf16[8,128,256]",
         "bf16[8,512,256] convolution(%l, %r), window={size=8 stride=7 lhs_dilate=8}, "
         "dim_labels=0bf_0io->0bf", 2 * 8 * 512 * 128 * 256),
        ("f32[64,32]", "f32[32,16]",
         "f32[64,16] dot(%l, %r), lhs_contracting_dims={1}, rhs_contracting_dims={0}",
         2 * 64 * 32 * 16),
        ("s8[64,32]", "s8[32,16]",
         "s32[64,16] dot(%l, %r), lhs_contracting_dims={1}, rhs_contracting_dims={0}",
         2 * 64 * 32 * 16),
        # A factor of 16 bits makes it a product of 16 bits.
        ("s8[64,32]", "bf16[32,16]",
         "bf16[64,16] dot(%l, %r), lhs_contracting_dims={1}, rhs_contracting_dims={0}",
         2 * 64 * 32 * 16),
    ],
)  # fmt: skip
def test_products_on_tpus_are_convolutions(left, right, line, flops):
    text = f"ENTRY %main () -> f32[] {{\n  %l = {left} parameter(0)\n  %r = {right} parameter(1)\n"
    module = hlo.parse(f"{text}  ROOT %o = {line}\n}}")
    assert hlo.matmul_flops(module) == {right.partition("[")[0]: flops}


@pytest.mark.parametrize("integers", ["s8", "s16", "s32"])
def test_splash_attention_is_counted_by_its_queries_and_keys(integers):
    """Its tables of blocks come first; they are of 16 bits where rows have 256 blocks or more."""
    text = "\n".join(
        [
            "HloModule jit_step",
            "ENTRY %main (p: f32[8]) -> f32[8] {",
            f"  %blocks = {integers}[4,256,256]{{2,1,0}} parameter(0)",
            "  %q = bf16[4,1024,128]{2,1,0} parameter(1)",
            "  %k = bf16[4,2048,128]{2,1,0} parameter(2)",
            "  ROOT %splash = bf16[4,1024,128]{2,1,0} custom-call(%blocks, %blocks, %q, %k, %k), "
            'custom_call_target="tpu_custom_call", '
            'metadata={op_name="jit(step)/splash_mha_fwd_no_residuals"}',
            "}",
        ]
    )
    flops = 2 * 2 * 4 * 1024 * 128 * 2048
    assert hlo.matmul_flops(hlo.parse(text)) == {"bf16": flops}


def test_xla_counts_a_loop_once_and_we_do_not():
    """Seven products of [32, 32] in a scan, and one outside."""

    @jax.jit
    def program(x, ws):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, ws)[0] @ ws[0]

    compiled = program.lower(np.ones((32, 32), np.float32), np.ones((7, 32, 32), np.float32))
    compiled = compiled.compile()
    module = hlo.parse(compiled.as_text())
    assert hlo.matmul_flops(module) == {"f32": 8 * 2 * 32**3}
    assert compiled.cost_analysis()["flops"] < 3 * 2 * 32**3
    # Each turn reads x and its own w, and writes x.
    arrays = hlo.bytes_accessed(module) / (32 * 32 * 4)
    assert 8 * 3 <= arrays <= 8 * 3 * 3


def test_what_each_part_of_a_program_costs():
    """The innermost part counts, whatever transformations wrote around its name."""
    named = {
        "mlp": "jit(step)/gradient/transpose(jvp(GPT2))/mlp/part=mlp/wi/part=mlp/dot_general",
        "norm": "jit(step)/gradient/jvp()/part=head/lm_norm/part=norm/mul",
        "head": "jit(step)/gradient/vmap(transpose(vmap(jvp(part=head))))/dot_general",
        "update": "jit(step)/update/mul",
        "other": "jit(step)/gradient/jvp(GPT2)/stack/while/body/add",
    }
    lines = [
        f'  %{part} = f32[8,8]{{1,0}} {what}(%p, %p), metadata={{op_name="{named[part]}"}}'
        for part, what in (("norm", "multiply"), ("update", "multiply"), ("other", "add"))
    ]
    lines += [
        f"  %{part} = f32[8,8]{{1,0}} dot(%p, %p), lhs_contracting_dims={{1}}, "
        f'rhs_contracting_dims={{0}}, metadata={{op_name="{named[part]}"}}'
        for part in ("mlp", "head")
    ]
    text = [
        "HloModule jit_step", "ENTRY %main (p: f32[8,8]) -> f32[8,8] {",
        "  %p = f32[8,8]{1,0} parameter(0)", *lines, "  ROOT %c = f32[8,8]{1,0} copy(%mlp)", "}",
    ]  # fmt: skip
    found = hlo.spent_by_part(hlo.parse("\n".join(text)))
    moved, product = 3 * 8 * 8 * 4, 2 * 8**3
    assert found == {
        "other": (0, moved + 2 * 8 * 8 * 4),  # the compiler's own copy too
        "mlp": (product, moved),
        "head": (product, moved),
        "norm": (0, moved),
        "update": (0, moved),
    }
    assert next(iter(found)) == "other"  # most traffic first


# An all-gather that an LSTM's loop overlaps, on v5p with --xla_tpu_enable_async_collective_fusion:
# its start, a step of it in each of 512 turns, and its end. Every part holds the all-gather.
ASYNC_FUSION = """HloModule jit_step
%fused_computation.423 (param_0: bf16[1,375,1024]) -> (bf16[1,375,1024], bf16[4,375,1024], u32[]) {
  %param_0 = bf16[1,375,1024]{2,1,0:T(8,128)(2,1)} parameter(0)
  %all-gather.37 = bf16[4,375,1024]{2,1,0:T(8,128)(2,1)} all-gather(%param_0), channel_id=13, \
replica_groups=mesh['axis_0'=4,'axis_1'=1] {'axis_0'}, dimensions={0}, use_global_device_ids=true
  ROOT %custom-call.21 = (bf16[1,375,1024]{2,1,0:T(8,128)(2,1)}, bf16[4,375,1024]{2,1,0}, \
u32[]{:S(2)}) custom-call(%all-gather.37), custom_call_target="AsyncCollectiveStart"
}
%async_collective_fusion.316 (p.0: bf16[16,64], p.1: bf16[64,64], p.2: bf16[1,375,1024], \
p.3: bf16[4,375,1024], p.4: u32[]) -> (f32[16,64], bf16[1,375,1024], bf16[4,375,1024], u32[]) {
  %p.0 = bf16[16,64]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  %p.1 = bf16[64,64]{1,0:T(8,128)(2,1)} parameter(1)
  %convolution.15 = f32[16,64]{1,0:T(8,128)} convolution(%p.0, %p.1), dim_labels=bf_io->bf
  %p.2 = bf16[1,375,1024]{2,1,0:T(8,128)(2,1)} parameter(2)
  %p.3 = bf16[4,375,1024]{2,1,0:T(8,128)(2,1)} parameter(3)
  %all-gather.39 = bf16[4,375,1024]{2,1,0:T(8,128)(2,1)} all-gather(%p.2), channel_id=13, \
replica_groups=mesh['axis_0'=4,'axis_1'=1] {'axis_0'}, dimensions={0}, use_global_device_ids=true
  %p.4 = u32[]{:S(2)} parameter(4)
  ROOT %tuple.304 = (f32[16,64]{1,0:T(8,128)S(1)}, bf16[1,375,1024]{2,1,0}, \
bf16[4,375,1024]{2,1,0}, u32[]{:S(2)}) tuple(%convolution.15, %p.2, %all-gather.39, %p.4)
}
%body (b: (s32[], bf16[16,64], bf16[64,64], bf16[1,375,1024], bf16[4,375,1024], u32[])) -> (s32[]) {
  %b = (s32[], bf16[16,64]{1,0:S(1)}, bf16[64,64]{1,0}, bf16[1,375,1024]{2,1,0}, \
bf16[4,375,1024]{2,1,0}, u32[]{:S(2)}) parameter(0)
  %h = bf16[16,64]{1,0:S(1)} get-tuple-element(%b), index=1
  %w = bf16[64,64]{1,0} get-tuple-element(%b), index=2
  %from = bf16[1,375,1024]{2,1,0} get-tuple-element(%b), index=3
  %to = bf16[4,375,1024]{2,1,0} get-tuple-element(%b), index=4
  %sync = u32[]{:S(2)} get-tuple-element(%b), index=5
  ROOT %fusion.316 = (f32[16,64]{1,0:T(8,128)S(1)}, bf16[1,375,1024]{2,1,0}, \
bf16[4,375,1024]{2,1,0}, u32[]{:S(2)}) fusion(%h, %w, %from, %to, %sync), kind=kOutput, \
calls=%async_collective_fusion.316
}
%fused_computation.426 (q.0: bf16[1,375,1024], q.1: bf16[4,375,1024], q.2: u32[]) -> \
bf16[4,375,1024] {
  %q.0 = bf16[1,375,1024]{2,1,0:T(8,128)(2,1)} parameter(0)
  %q.1 = bf16[4,375,1024]{2,1,0:T(8,128)(2,1)} parameter(1)
  %all-gather.43 = bf16[4,375,1024]{2,1,0:T(8,128)(2,1)} all-gather(%q.0), channel_id=13, \
replica_groups=mesh['axis_0'=4,'axis_1'=1] {'axis_0'}, dimensions={0}, use_global_device_ids=true
  %q.2 = u32[]{:S(2)} parameter(2)
  ROOT %custom-call.23 = bf16[4,375,1024]{2,1,0} custom-call(%q.0, %q.1, %all-gather.43, %q.2), \
custom_call_target="AsyncCollectiveDone"
}
ENTRY %main (x: bf16[1,375,1024]) -> bf16[4,375,1024] {
  %x = bf16[1,375,1024]{2,1,0} parameter(0)
  %async-collective-start = (bf16[1,375,1024]{2,1,0}, bf16[4,375,1024]{2,1,0}, u32[]{:S(2)}) \
fusion(%x), kind=kCustom, calls=%fused_computation.423
  %from.1 = bf16[1,375,1024]{2,1,0} get-tuple-element(%async-collective-start), index=0
  %to.1 = bf16[4,375,1024]{2,1,0} get-tuple-element(%async-collective-start), index=1
  %sync.1 = u32[]{:S(2)} get-tuple-element(%async-collective-start), index=2
  %while.1 = (s32[]) while(%x), condition=%gone, body=%body, \
backend_config={"known_trip_count":{"n":"512"}}
  ROOT %async-collective-done = bf16[4,375,1024]{2,1,0} fusion(%from.1, %to.1, %sync.1), \
kind=kCustom, calls=%fused_computation.426
}
"""


def test_a_collective_that_a_loop_of_a_tpu_overlaps_counts_once():
    module = hlo.parse(ASYNC_FUSION)
    (found,) = hlo.collectives(module, (0,) * 4)
    gathered = 4 * 375 * 1024 * 2
    assert (found.kind, found.name, found.count) == ("all-gather", "all-gather.37", 1)
    assert found.bytes == gathered
    # A turn reads its own 64 x 64 matrix from HBM, and nothing of what is gathered meanwhile.
    assert hlo.bytes_accessed(module) == 512 * 64 * 64 * 2 + 2 * gathered / 4


def test_a_collective_that_is_started_in_every_turn_counts_every_turn():
    start = "  %s = (bf16[1,375,1024]{2,1,0}) fusion(%from), calls=%fused_computation.423"
    text = ASYNC_FUSION.replace("  ROOT %fusion.316", f"{start}\n  ROOT %fusion.316")
    counts = [found.count for found in hlo.collectives(hlo.parse(text), (0,) * 4)]
    assert sum(counts) == 1 + 512

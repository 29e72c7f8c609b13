"""Models on devices: steps, memory, layers, and what does not fit."""

import json

import pytest

from tritstream.golden.model_sizes import QWEN25
from tritstream.golden.packed.reader import MatrixInfo, PackedCheckpoint
from tritstream.host.layout.projection import MODELS, project
from tritstream.host.layout.shapes import WeightForm
from tritstream.host.layout.stored import scale_words
from tritstream.host.placement.cutting import Unit
from tritstream.host.placement.fitting import fit
from tritstream.host.placement.forecast import forecast
from tritstream.host.placement.plan import PlacementError, place
from tritstream.host.placement.targets import find_target, target_names
from tritstream.host.placement.work import steps_of_checkpoint, steps_of_shapes
from tritstream.hw.soc.boards import BOARDS
from tritstream.scripts.hardware.soc import REPORTS

from support.golden_cases import direct_matrix, integer_matrix
from support.golden_helpers import write_json
from support.grouped import write_grouped

TINY = {f"model.layers.{layer}.{name}": shape for layer in range(6)
        for name, shape in {"self_attn.q_proj": (320, 256), "self_attn.k_proj": (64, 256),
                            "self_attn.v_proj": (64, 256), "self_attn.o_proj": (256, 320),
                            "mlp.gate_proj": (640, 256), "mlp.up_proj": (640, 256),
                            "mlp.down_proj": (256, 640)}.items()}


def shapes_of(size):
    return dict(MODELS[f"Qwen2.5-{size}"].matrices())


def test_steps_are_the_round_trips_of_a_layer():
    steps = steps_of_shapes(TINY | {"lm_head": (1000, 256)}, 3)
    assert [[work.name.rpartition(".")[2] for work in step.works] for step in steps[:4]] == [
        ["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]]
    assert len(steps) == 4 * 6 + 1
    assert [step.layer for step in steps[3:5]] == ["model.layers.0", "model.layers.1"]
    assert steps[-1].layer == "lm_head"


def test_groups_of_shapes():
    step, = steps_of_shapes({"up": (64, 100)}, 1, None, True)
    assert (step.works[0].group, step.works[0].direct) == (112, False)
    step, = steps_of_shapes({"up": (64, 512)}, 1, 128, True)
    assert (step.works[0].group, step.works[0].direct) == (128, True)
    assert step.works[0].nbytes == 13 * (512 + 4 * 10)


def test_steps_of_a_checkpoint(tmp_path):
    """Groups of 16 in tiles, and others apart from their scales."""
    matrices = {f"model.layers.{layer}.{name}": matrix for layer in (0, 1) for name, matrix in {
        "self_attn.q_proj": direct_matrix(40, 128, 1, 32),
        "mlp.up_proj": direct_matrix(40, 96, 2, 96), "mlp.gate_proj": integer_matrix(40, 96, 3),
        "mlp.down_proj": integer_matrix(40, 96, 2, group=48)}.items()}
    write_grouped(tmp_path / "model", tmp_path / "packed", matrices)
    checkpoint = PackedCheckpoint(tmp_path / "packed")
    steps = steps_of_checkpoint(checkpoint, checkpoint.matrices)
    assert len(steps) == 6
    assert [[work.name for work in step.works] for step in steps[:2]] == [
        ["model.layers.0.mlp.down_proj"],
        ["model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"]]
    for step in steps:
        for work in step.works:
            matrix, stored = matrices[work.name], checkpoint.stored(work.name)
            assert (work.shape, work.depth, work.group) == (
                matrix.shape, matrix.depth, matrix.group)
            for max_k in (64, 32768):
                assert work.scales(max_k) == scale_words(stored, max_k)


class Named:
    """A checkpoint whose matrices have these names and one shape."""

    def __init__(self, config, *names):
        self.config = config
        self.matrices = {name: MatrixInfo(name, (64, 64), 1, "") for name in names}


def uses(config, *names):
    checkpoint = Named(config, *names)
    steps = steps_of_checkpoint(checkpoint, checkpoint.matrices)
    return {step.works[0].name: step.uses for step in steps}


def test_experts_and_embeddings_are_needed_by_some_tokens_only():
    experts = [f"model.layers.0.mlp.experts.{expert}.up_proj" for expert in range(8)]
    found = uses({"num_experts_per_tok": 2}, *experts, "model.layers.0.self_attn.o_proj",
                 "model.embed_tokens", "lm_head")
    assert found == dict.fromkeys(experts, 0.25) | {
        "model.layers.0.self_attn.o_proj": 1.0, "model.embed_tokens": 0.0, "lm_head": 1.0}
    stacked = [f"model.layers.0.mlp.experts.gate_up_proj.{expert}" for expert in range(4)]
    assert set(uses({"text_config": {"top_k": 1}}, *stacked).values()) == {0.25}
    assert set(uses({}, *stacked).values()) == {1.0}
    assert uses({"tie_word_embeddings": True}, "model.embed_tokens") == {"model.embed_tokens": 1.0}


def test_layers_are_in_order():
    names = [f"model.layers.{layer}.mlp.down_proj" for layer in (10, 2, 0)]
    checkpoint = Named({}, "lm_head", *names)
    assert [step.layer for step in steps_of_checkpoint(checkpoint, checkpoint.matrices)] == [
        "model.layers.0", "model.layers.2", "model.layers.10", "lm_head"]


def sized(*sizes, rates=None, lanes=8):
    return [Unit(f"u{place}", lanes, 32768, rate, size, place) for place, (size, rate) in enumerate(
        zip(sizes, rates or [1.0] * len(sizes), strict=True))]


@pytest.mark.parametrize("layers", [False, True])
@pytest.mark.parametrize("memory", [
    (950_000, 1_000_000), (350_000, 1_600_000), (60_000, 0, 2_000_000)])
def test_memory_is_never_exceeded(memory, layers):
    steps = steps_of_shapes(TINY, 2)
    plan = place(steps, sized(*memory, rates=[3.0] + [1.0] * (len(memory) - 1)), layers)
    assert all(held <= size for held, size in zip(plan.nbytes, memory, strict=True))
    assert sum(plan.nbytes) >= sum(work.nbytes for step in steps for work in step.works)
    assert set(plan.shares) == set(TINY)


def test_layers_stay_on_a_card():
    plan = place(steps_of_shapes(TINY, 2), sized(None, None, None, rates=[3.0, 2.0, 1.0]), True)
    cards = [{share.unit for name, shares in plan.shares.items() for share in shares
              if name.startswith(f"model.layers.{layer}.")} for layer in range(6)]
    assert cards == [{0}, {0}, {0}, {1}, {1}, {2}]
    # The first card is full after two layers.
    plan = place(steps_of_shapes(TINY, 2), sized(700_000, None, rates=[9.0, 1.0]), True)
    assert 600_000 < plan.nbytes[0] < 700_000


def test_what_does_not_fit_is_refused():
    with pytest.raises(PlacementError, match=r"^\d+\.\d kB of weights and their padding do not fit "
                                             r"300\.0 kB$"):
        place(steps_of_shapes(TINY, 2), sized(200_000, 100_000))


def test_what_would_fit():
    steps, target = steps_of_shapes(shapes_of("32B"), 3), find_target("u55c")
    with pytest.raises(PlacementError, match=r"^19894\.8 MB of weights and their padding do not "
                       r"fit 17129\.5 MB of 1 card u55c; what fits: 2 cards u55c, or depth 2 on 1 "
                       r"card u55c$"):
        fit(steps, target, 1)
    with pytest.raises(PlacementError, match=r"of 1 card ulx3s-85f; nothing smaller fits$"):
        fit(steps, find_target("ulx3s-85f"), 1)
    with pytest.raises(PlacementError, match=r"^19894\.8 MB of weights do not fit 32 cards "
                       r"ulx3s-85f of 32\.0 MB each, and no more can work together$"):
        fit(steps, find_target("ulx3s-85f"))
    with pytest.raises(ValueError, match=r"^cards must be 1\.\.32, not 33$"):
        fit(steps, target, 33)


def test_the_forecast_of_a_board_is_that_of_its_projection():
    """An independent computation of the same figures, without loads and ends of frames."""
    target = find_target("ecpix5-85")
    for size, depth in (("0.5B", 3), ("1.5B", 1)):
        found = forecast(fit(steps_of_shapes(shapes_of(size), depth), target), target)
        model = MODELS[f"Qwen2.5-{size}"].in_form(WeightForm(depth))
        one = project(model, 8, target.memory, target.rate * 8, 4 / target.write, 4 / target.read)
        assert found.words == one.layers
        assert found.seconds == pytest.approx(one.seconds, rel=0.005)
        assert found.seconds > one.seconds
        assert found.link_seconds == pytest.approx(one.link_seconds, rel=0.02)
        assert found.round_trips == 4 * QWEN25[size].layers
        assert found.tokens < found.roofline


def test_more_channels_are_faster():
    steps = steps_of_shapes(shapes_of("0.5B"), 3)
    times = [forecast(place(steps, find_target(name).units(1)), find_target(name)).seconds
             for name in ("ecpix5-85", "kv260", "u55c")]
    assert times[0] > 20 * times[1] > 200 * times[2]


def test_figures_of_boards_are_those_of_their_reports():
    for name, memory in (("ecpix5-85", "mt41k256m16-layer"), ("ulx3s-85f", "mt48lc16m16")):
        target, board = find_target(name), BOARDS[name]
        report = json.loads((REPORTS / "bandwidth" / f"{memory}.json").read_text())
        assert target.bandwidth == pytest.approx(report["peak_mb_s"] * 1e6, rel=1e-4)
        assert target.share == pytest.approx(report["gemv_share"], rel=1e-3)
        assert target.clock == pytest.approx(report["clock_mhz"] * 1e6, rel=1e-3)
        assert target.lanes == report["lanes"] and board
    link = json.loads((REPORTS / "link.json").read_text())
    target = find_target("ecpix5-85")
    assert (target.write, target.read) == pytest.approx(
        (link["write_mb_s"] * 1e6, link["read_mb_s"] * 1e6), rel=2e-3)


def test_targets_have_sources():
    assert target_names() == ["kv260", "u280", "u55c", "v80", "ecpix5-85", "ulx3s-85f"]
    for name in target_names():
        target = find_target(name)
        assert {"memory", "bandwidth", "share", "lanes", "clock"} <= set(target.sources)
        assert target.rate <= target.clock
    assert find_target("u55c").bandwidth * 32 == 460e9
    assert sum(unit.memory for unit in find_target("v80").units(1)) > 34e9


TARGET = {"channels": 2, "memory": 1 << 28, "bandwidth": 3e9, "share": 0.9, "lanes": 16,
          "clock": 200000000}


def test_a_target_of_a_file(tmp_path):
    write_json(tmp_path / "mine.json", TARGET)
    (tmp_path / "mine.toml").write_text("".join(f"{key} = {value}\n" for key, value in
                                                TARGET.items()))
    for name in ("mine.json", "mine.toml"):
        target = find_target(str(tmp_path / name))
        assert (target.name, target.lanes, target.rate) == ("mine", 16, 3e9 * 0.9 / 16)
        assert [unit.card for unit in target.units(2)] == [0, 0, 1, 1]


@pytest.mark.parametrize("change, message", [
    ({"lanes": None}, "lanes is missing"),
    ({"lane": 3}, "no key 'lane'; there are channels, memory, bandwidth, share, lanes, clock, "),
    ({"lanes": 8.5}, "lanes must be an integer, not 8.5"),
    ({"lanes": 7}, r"Lanes must be one of \(1, 2, 4, 8, 16, 32, 64\), not 7"),
    ({"share": 1.5}, "share must be above 0 and at most 1, not 1.5"),
    ({"clock": True}, "clock must be a number, not True"),
    ({"title": 3}, "title must be a text, not 3"),
    ({"sources": 3}, "sources must be a table, not 3"),
    ({"bandwidth": 0}, "bandwidth must be above 0, not 0"),
    ({"memory": 1000}, "reserved must be less than the memory, not 1572864"),
    ({"write": 1e6}, "write and read go together: give both or none"),
])
def test_wrong_targets(tmp_path, change, message):
    path = tmp_path / "mine.json"
    write_json(path, {key: value for key, value in (TARGET | change).items() if value is not None})
    with pytest.raises(ValueError, match=rf"^{path}: {message}"):
        find_target(str(path))


def test_files_that_are_no_target(tmp_path):
    (tmp_path / "a.toml").write_text("channels = ")
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(ValueError, match=r"a\.toml: Invalid value"):
        find_target(str(tmp_path / "a.toml"))
    with pytest.raises(ValueError, match=r"a\.json: a target is a table of channels, memory"):
        find_target(str(tmp_path / "a.json"))
    with pytest.raises(ValueError, match=r"^no target 'kv261'; there are kv260, u280, u55c, v80, "
                       r"ecpix5-85, ulx3s-85f, or give a TOML or JSON file$"):
        find_target("kv261")

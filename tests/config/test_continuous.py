"""Continuous models, drafts and decoders: what composes, what they are called, and every mistake by its message."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests import nano
from vvsbench import identity
from vvsbench.axes import Order
from vvsbench.composition import composed, plain
from vvsbench.validation import validate


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    nano.write_latent(folder)
    return folder


def run(weights, *overrides, kind="mar", draft=True):
    decoder = ["decoder=csd"] if draft else ["decoder=masked"]
    return composed([*decoder, *nano.latent_overrides(weights, kind, draft), *overrides])


@pytest.mark.parametrize("kind", ["mar", "causal"])
@pytest.mark.parametrize("draft", [False, True])
def test_a_sound_run_has_no_problem(weights, kind, draft):
    assert validate(run(weights, kind=kind, draft=draft)) == []


@pytest.mark.parametrize(
    ("model", "draft", "scale", "schedule"),
    [
        ("mar_base", None, 2.9, "linear"),
        ("mar_large", "mar_base", 3.0, "linear"),
        ("mar_huge", "mar_base", 3.2, "linear"),
        ("tiny_mar", "tiny_mar_draft", 3.0, "constant"),
        ("tiny_causal", "tiny_causal_draft", 3.0, "constant"),
    ],
)
def test_a_model_brings_its_decoder_its_sampling_and_its_draft(model, draft, scale, schedule):
    assert composed([f"model={model}"]).decoder.name == "masked"
    made = composed([f"model={model}", "decoder=csd", "model.tokenizer.checkpoint=elsewhere.ckpt"])
    assert (made.sampling.guidance_scale, made.sampling.guidance_schedule) == (scale, schedule)
    drafter = made.decoder.drafter
    assert (drafter and drafter.model.name) == draft
    assert drafter is None or drafter.model.tokenizer.checkpoint == "elsewhere.ckpt"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("decoder.length=15", None),
        ("decoder.length=16", "decoder.length=16 is more than the 15 AR steps that are left after 1 of 16"),
        ("decoder.length=0", "decoder.length=0 must be at least 1"),
        ("decoder.prefill=0.9", "decoder.length=4 is more than the 2 AR steps that are left after 14 of 16"),
        ("decoder.prefill=1", "decoder.prefill=1.0 must lie in [0, 1)"),
        ("decoder.ar_steps=17", "decoder.ar_steps=17 must lie in [1, 16], the tokens of an image of model=tiny_mar"),
        ("decoder.ar_steps=3", "decoder.length=4 is more than the 3 AR steps that are left after 0 of 3"),
        ("decoder.head_steps=1", "decoder.head_steps=1 must lie in [2, 1000]"),
        ("decoder.head_steps=1001", "decoder.head_steps=1001 must lie in [2, 1000]"),
        ("model.head_steps=1", "model.head_steps=1 must lie in [2, 1000]"),
        ("decoder.drafter.model.head_steps=5", "decoder.drafter.model.head_steps=5 is not model.head_steps=3"),
        ("decoder.drafter.model.grid=8", "decoder.drafter.model.grid=8 does not fit the target's model.grid=4"),
        ("decoder.drafter.model.channels=8", "decoder.drafter.model.channels=8 does not fit the target's model.ch"),
        (
            "decoder.drafter.model.classes=9",
            "decoder.drafter.model.classes=9 does not fit the target's model.classes=4",
        ),
        ("decoder.drafter.model.tokenizer.scale=2", "decoder.drafter.model.tokenizer.scale=2.0 does not fit"),
        ("decoder.drafter=null", "decoder.drafter: there is none of that name"),
        ("decoder.tolerance=-1", "decoder.tolerance=-1.0 must be 0 (exact) or more"),
        ("decoder.inner_temperature=1", "decoder.inner_temperature=1.0 has an effect in decoder.mode=released only"),
        (
            "sampling.temperature=0",
            "decoder.mode=exact compares densities, of which sampling.temperature=0 leaves none",
        ),
        ("sampling.top_k=5", "sampling.top_k=5 is for discrete tokens"),
        ("sampling.top_p=0.5", "sampling.top_p=0.5 is for discrete tokens"),
        ("sampling.guidance_interval=3", "sampling.guidance_interval=3 is for discrete tokens"),
        ("model.condition=caption", "model.condition=caption: model=tiny_mar draws from class ids"),
        ("model.tokenizer.embed_dim=8", "model.tokenizer.embed_dim=8 is not model.channels=4"),
        ("model.tokenizer.base_channels=64", "model.tokenizer.base_channels=64 but the checkpoint"),
        ("model.buffer=3", "model.buffer=3 but the checkpoint"),
        ("model.grid=5", "model.grid=5 but the checkpoint"),
        ("model.head_depth=2", "model.head_depth=2 but the checkpoint"),
        ("model.checkpoint=/nowhere/x.pth", "model.checkpoint=/nowhere/x.pth: weights not found: /nowhere/x.pth"),
        ("decoder.drafter.model.decoder_depth=4", "decoder.drafter.model.decoder_depth=4 but the checkpoint"),
    ],
)
def test_a_contradiction_names_its_key(weights, override, message):
    found = validate(run(weights, override))
    assert any(message in problem for problem in found) if message else found == [], found


@pytest.mark.parametrize(
    ("model", "decoder", "drafter", "kinds"),
    [
        ("tiny_mar", "csd", "tiny", ("discrete", "continuous")),
        ("tiny", "sd", "tiny_mar", ("continuous", "discrete")),
    ],
)
def test_a_draft_of_another_kind_is_refused(model, decoder, drafter, kinds):
    found = validate(composed([f"model={model}", f"decoder={decoder}", f"drafter@decoder.drafter={drafter}"]))
    expected = f"decoder.drafter.name={drafter} drafts {kinds[0]} tokens and model={model} has {kinds[1]} ones"
    assert any(problem.startswith(expected) for problem in found)


@pytest.mark.parametrize("mode", ["published", "released"])
def test_a_tolerance_belongs_to_the_exact_mode(weights, mode):
    found = validate(run(weights, "decoder.tolerance=0.1", f"decoder.mode={mode}"))
    assert found == [f"decoder.tolerance=0.1 relaxes decoder.mode=exact, not mode={mode}; set tolerance=0."]
    assert validate(run(weights, "decoder.tolerance=0.1")) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("decoder.order=random", "decoder.order=random: tiny_causal is causal and knows one order; set order=raster."),
        ("decoder.ar_steps=8", "decoder.ar_steps=8: tiny_causal is causal and decides one token per AR step; set ar"),
        (
            "decoder.mode=released",
            "decoder.mode=released draws a whole round from the verified prefix, and tiny_causal",
        ),
    ],
)
def test_a_causal_model_decides_one_token_after_the_other(weights, override, message):
    (problem,) = validate(run(weights, override, kind="causal"))
    assert message in problem


def test_a_causal_draft_binds_its_target(weights):
    draft = [text for text in nano.latent_overrides(weights, "causal", True) if "decoder.drafter" in text]
    chosen = [*nano.latent_overrides(weights), "decoder=csd", "drafter@decoder.drafter=tiny_causal", *draft]
    assert [problem.split(":")[0] for problem in validate(composed(chosen))] == ["decoder.order=random"]
    assert validate(composed([*chosen, "decoder.order=raster"])) == []


@pytest.mark.parametrize("decoder", ["ar", "sd", "vvs"])
def test_discrete_decoders_refuse_continuous_models(weights, decoder):
    (problem,) = validate(composed([*nano.latent_overrides(weights), f"decoder={decoder}", "decoder.name=x"]))[:1]
    assert problem == (
        "decoder.name=x draws discrete tokens and model=tiny_mar has continuous ones: choose another decoder "
        "(masked, csd) or another model."
    )


@pytest.mark.parametrize("decoder", ["masked", "csd"])
def test_continuous_decoders_refuse_discrete_models(decoder):
    (problem,) = validate(composed(["model=tiny", f"decoder={decoder}"]))
    assert f"decoder.name={decoder} draws continuous tokens and model=tiny has discrete ones" in problem


def test_discrete_targets_are_guided_alike_everywhere():
    (problem,) = validate(composed(["model=tiny", "sampling.guidance_schedule=linear"]))
    assert "sampling.guidance_schedule=linear is for targets of continuous tokens" in problem


def test_a_checkpoint_of_another_size_is_one_message(weights, tmp_path):
    shapes = {"class_emb.weight": (9, 16), "decoder_embed.weight": (16, 16), "encoder_blocks.1.x": (1,)}
    other = tmp_path / "other.safetensors"
    save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, other)
    (problem,) = validate(run(weights, f"model.checkpoint={other}", draft=False))
    assert "is of another size than model=tiny_mar" in problem
    assert "it has classes=9, encoder_dim=16, decoder_dim=16 instead of 4, 8, 8" in problem


@pytest.mark.parametrize(
    ("kind", "overrides", "label"),
    [
        ("mar", ["decoder=masked"], "masked 16 x 3"),
        ("mar", ["decoder=masked", "decoder.ar_steps=4", "decoder.head_steps=9"], "masked 4 x 9"),
        (
            "mar",
            ["decoder=masked", "decoder.order=raster", "decoder.last_noise=true"],
            "masked 16 x 3 raster last noise",
        ),
        ("causal", ["decoder=masked", "decoder.order=raster"], "masked 16 x 3"),
        ("mar", ["decoder=csd"], "csd exact 4"),
        ("mar", ["decoder=csd", "decoder.length=8", "decoder.tolerance=0.25"], "csd exact 8 within 0.25"),
        ("mar", ["decoder=csd", "decoder.mode=published", "decoder.aligned=false"], "csd published 4 unaligned"),
        ("mar", ["decoder=csd", "decoder.mode=released", "decoder.prefill=0.15"], "csd released 4 prefill 0.15"),
        ("mar", ["decoder=csd", "decoder.ar_steps=8", "decoder.inner_temperature=1"], "csd exact 4 8 x 3 softened 1"),
    ],
)
def test_labels_say_what_a_cell_is(weights, kind, overrides, label):
    made = composed([*nano.latent_overrides(weights, kind), *overrides])
    assert made.decoder.label(made.model) == label


def test_what_is_left_to_the_model_is_filled_in(weights):
    made = run(weights, kind="causal")
    assert (made.decoder.steps(made.model), made.decoder.chain(made.model)) == (16, 3)
    assert made.decoder.path(made.model) is Order.raster
    assert run(weights).decoder.path(run(weights).model) is Order.random


@pytest.mark.parametrize(
    ("mode", "prefill", "steps"), [("released", 0.15, 39), ("released", 0, 1), ("exact", 0.05, 13)]
)
def test_prefilled_steps_are_counted_as_published(mode, prefill, steps):
    made = composed(["model=mar_huge", "decoder=csd", f"decoder.mode={mode}", f"decoder.prefill={prefill}"])
    assert made.decoder.prefilled(made.model) == steps


def test_every_file_of_a_pair_is_part_of_the_key(weights, tmp_path):
    names = identity.weights_names(plain(run(weights)))
    assert list(names) == [
        "model.checkpoint",
        "model.tokenizer.checkpoint",
        "decoder.drafter.model.checkpoint",
        "decoder.drafter.model.tokenizer.checkpoint",
    ]
    other = tmp_path / "other.safetensors"
    before = identity.cell_key(plain(run(weights)))
    other.write_bytes((weights / "mar_draft.safetensors").read_bytes())
    changed = run(weights, f"decoder.drafter.model.checkpoint={other}")
    first = identity.cell_key(plain(changed))
    save_file({"w": np.zeros(1, np.float32)}, other)
    assert len({before, first, identity.cell_key(plain(changed))}) == 3

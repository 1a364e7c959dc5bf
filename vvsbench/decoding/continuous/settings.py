"""The settings of the decoders of continuous tokens; the module imports no torch, because settings are read before it.

What a setting leaves to the model (0 or null) is filled in here and nowhere else: `steps`, `chain`, `path`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING, ClassVar

from vvsbench.axes import Mode, Order, Tokens
from vvsbench.decoding.settings import DecoderConfig
from vvsbench.drafting.sources import DrafterConfig, LatentDrafterConfig
from vvsbench.models.settings import HEAD_STEPS, CausalConfig, LatentConfig, ModelConfig

if TYPE_CHECKING:
    from vvsbench.config import SamplingConfig

INNER_TEMPERATURE = 42.0
"""The released code divides distances by so many standard deviations before it compares densities."""


@dataclass
class LatentDecoderConfig(DecoderConfig):
    """What the decoders of continuous tokens share.

    Attributes:
        ar_steps: AR steps per image, each of which reveals a group of tokens; 0 for one token per step.
        head_steps: denoising steps of the diffusion head per token, in target and draft; 0 for the model's own number.
        order: in which the tokens are decided; None for the model's own.
    """

    tokens: ClassVar[Tokens | None] = Tokens.continuous

    ar_steps: int = 0
    head_steps: int = 0
    order: Order | None = None

    def steps(self, model: ModelConfig) -> int:
        """AR steps per image."""
        return self.ar_steps or model.grid**2

    def chain(self, model: LatentConfig) -> int:
        """Denoising steps per token."""
        return self.head_steps or model.head_steps

    def path(self, model: LatentConfig) -> Order:
        """Order in which the tokens are decided."""
        return Order(self.order or model.order)

    def problems(self, model: ModelConfig, sampling: SamplingConfig) -> list[str]:
        """See `DecoderConfig.problems`."""
        assert isinstance(model, LatentConfig)
        tokens, (least, most) = model.grid**2, HEAD_STEPS
        found = []
        if not 0 <= self.ar_steps <= tokens:
            found.append(
                f"ar_steps={self.ar_steps} must lie in [1, {tokens}], the tokens of an image of model={model.name}; "
                "0 is one token per step"
            )
        if self.head_steps and not least <= self.head_steps <= most:
            found.append(f"head_steps={self.head_steps} must lie in [{least}, {most}]; 0 is the model's own number")
        return found + self._unordered(model, model)

    def _unordered(self, model: LatentConfig, target: LatentConfig) -> list[str]:
        """What a causal model cannot do, whether it is the target or its draft."""
        if not isinstance(model, CausalConfig):
            return []
        found = []
        if self.path(target) != Order.raster:
            found.append(f"order={self.path(target)}: {model.name} is causal and knows one order; set order=raster")
        if self.ar_steps not in (0, target.grid**2):
            found.append(
                f"ar_steps={self.ar_steps}: {model.name} is causal and decides one token per AR step; set ar_steps=0"
            )
        return found

    def _departures(self, model: LatentConfig) -> list[str]:
        """Words for what is not the model's own way."""
        return [] if self.path(model) == model.order else [self.path(model).value]


@dataclass
class MaskedConfig(LatentDecoderConfig):
    """The target alone, at any number of AR steps and head steps: what every accelerated method has to beat.

    Attributes:
        last_noise: whether the last head step adds its noise too. The authors' sampler leaves it out; the exact mode of
            continuous speculative decoding keeps the law that has it.
    """

    name: str = "masked"
    last_noise: bool = False

    def label(self, model: ModelConfig) -> str:
        """See `DecoderConfig.label`: AR steps and head steps, as in "masked 16 x 25"."""
        assert isinstance(model, LatentConfig)
        words = [*self._departures(model), *(["last noise"] if self.last_noise else [])]
        return " ".join([self.name, f"{self.steps(model)} x {self.chain(model)}", *words])


@dataclass
class CSDConfig(LatentDecoderConfig):
    """Continuous speculative decoding (arXiv 2411.11925): a smaller model drafts tokens, the target judges them.

    Attributes:
        mode: how a draft is judged.
        drafter: chosen by the model; another: drafter@decoder.drafter=NAME.
        length: AR steps drafted per round.
        prefill: share of the AR steps that the target takes alone before the first draft.
        aligned: whether target and draft denoise a token with the same noise.
        tolerance: in the exact mode, the distance in units of the latents, from the target's own token, within which a
            draft is kept all the same; 0 keeps the mode exact.
        inner_temperature: in the released mode, what distances are divided by before densities are compared.
    """

    name: str = "csd"
    mode: Mode = Mode.exact
    drafter: DrafterConfig | None = None
    length: int = 4
    prefill: float = 0.05
    aligned: bool = True
    tolerance: float = 0.0
    inner_temperature: float = INNER_TEMPERATURE

    def prefilled(self, model: ModelConfig) -> int:
        """AR steps that the target takes alone; the released code counts from 0 and includes the last."""
        share = self.prefill * self.steps(model)
        return floor(share) + 1 if self.mode == Mode.released else round(share)

    def label(self, model: ModelConfig) -> str:
        """See `DecoderConfig.label`: mode and draft length, as in "csd exact 4", and what departs from the usual."""
        assert isinstance(model, LatentConfig)
        usual = CSDConfig()
        words = [self.name, Mode(self.mode).value, str(self.length)]
        if (self.steps(model), self.chain(model)) != (model.grid**2, model.head_steps):
            words.append(f"{self.steps(model)} x {self.chain(model)}")
        words += self._departures(model)
        words += [f"prefill {self.prefill:g}"] if self.prefill != usual.prefill else []
        words += [] if self.aligned else ["unaligned"]
        words += [f"within {self.tolerance:g}"] if self.tolerance else []
        words += [f"softened {self.inner_temperature:g}"] if self.inner_temperature != usual.inner_temperature else []
        return " ".join([*words, *(self.drafter.label if self.drafter else [])])

    def problems(self, model: ModelConfig, sampling: SamplingConfig) -> list[str]:
        """See `DecoderConfig.problems`."""
        assert isinstance(model, LatentConfig)
        found = super().problems(model, sampling)
        if isinstance(model, CausalConfig) and self.mode == Mode.released:
            found.append(
                f"mode=released draws a whole round from the verified prefix, and {model.name} is causal: each of its "
                "tokens needs the one before; take decoder.mode=exact or published"
            )
        if sampling.temperature == 0:
            found.append(f"mode={self.mode} compares densities, of which sampling.temperature=0 leaves none")
        found += self._out_of_range(model)
        if self.tolerance and self.mode != Mode.exact:
            found.append(
                f"tolerance={self.tolerance} relaxes decoder.mode=exact, not mode={self.mode}; set tolerance=0"
            )
        if self.inner_temperature != INNER_TEMPERATURE and self.mode != Mode.released:
            found.append(f"inner_temperature={self.inner_temperature} has an effect in decoder.mode=released only")
        return found + self._mismatch(model)

    def _out_of_range(self, model: LatentConfig) -> list[str]:
        found = []
        if not 0 <= self.prefill < 1:
            found.append(f"prefill={self.prefill} must lie in [0, 1): a share of the AR steps")
        elif self.length < 1:
            found.append(f"length={self.length} must be at least 1; decoder=masked is the one that never drafts")
        elif self.length > (left := self.steps(model) - self.prefilled(model)):
            found.append(
                f"length={self.length} is more than the {left} AR steps that are left after {self.prefilled(model)} of "
                f"{self.steps(model)} are taken by the target alone (decoder.prefill={self.prefill}); "
                "draft fewer, or prefill less"
            )
        if self.tolerance < 0:
            found.append(f"tolerance={self.tolerance} must be 0 (exact) or more")
        if not self.inner_temperature > 0:
            found.append(f"inner_temperature={self.inner_temperature} must be above 0; 1 compares the densities as is")
        return found

    def _mismatch(self, model: LatentConfig) -> list[str]:
        """What keeps the draft from following the target step by step."""
        draft = self.drafter.model if isinstance(self.drafter, LatentDrafterConfig) else None
        if not isinstance(draft, LatentConfig):
            return []
        found = [] if isinstance(model, CausalConfig) else self._unordered(draft, model)
        if not self.head_steps and draft.head_steps != model.head_steps:
            found.append(
                f"drafter.model.head_steps={draft.head_steps} is not model.head_steps={model.head_steps}: a draft and "
                "the target's token share the noise of every head step; set decoder.head_steps, which is for both"
            )
        return found

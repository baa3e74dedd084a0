"""Measure configurations of one model on one shard, each paired with the dense model."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from atm_search.data.cache import Cache
from atm_search.data.shard import Shard
from atm_search.errors import MeasurementError, ParameterError
from atm_search.measure.feed import Feed
from atm_search.measure.flops import GIGA, CostModel
from atm_search.measure.measurement import LABELLED, Measurement
from atm_search.measure.racing import Race
from atm_search.measure.reference import dense_reference
from atm_search.merging.method import Method
from atm_search.models.cpu import choose_attention
from atm_search.models.forward_pass import BlockTokens, ForwardPass
from atm_search.models.reduction import run
from atm_search.models.zoo import LoadedModel

OnBatch = Callable[[int, int], None]
"""Told after every batch: images done, images in all."""


CONSTANT = 1e-6
"""Largest difference of outputs between images that counts as none."""

OnAnswers = Callable[["Answers", "Answers"], None]
"""Told after every batch: what the reduced model said of its images, and what the dense one."""


@dataclass(frozen=True)
class Answers:
    """What a model said of some images, and whether it was right."""

    log_probs: Tensor | None = None
    """float32 [images, classes]; None without a classifier head."""
    top1_hit: Tensor | None = None
    """bool [images]; None without labels."""
    top5_hit: Tensor | None = None
    """bool [images]; None without labels."""
    feature: Tensor | None = None
    """Pooled, of length 1, float32 [images, dim]; only without a classifier head."""

    @classmethod
    def score(cls, outputs: Tensor, labels: Tensor | None, *, has_head: bool = True) -> "Answers":
        """Answers of outputs of any float dtype, for labels [batch], if any.

        Args:
            outputs: logits [batch, classes]; without a head the pooled feature [batch, dim].
            labels: class indices; of no use without a head.
            has_head: whether outputs are logits.
        """
        if not has_head:
            return cls(feature=F.normalize(outputs.float(), dim=1))
        log_probs = outputs.float().log_softmax(dim=1)
        if labels is None:
            return cls(log_probs)
        best = log_probs.topk(min(5, log_probs.shape[1]), dim=1).indices
        right = best == labels[:, None]
        return cls(log_probs, right[:, 0], right.any(dim=1))

    def __getitem__(self, images: slice) -> "Answers":
        return Answers(**{name: part[images] for name, part in self.known().items()})

    def __len__(self) -> int:
        """Number of images."""
        return len(self.outputs)

    @property
    def outputs(self) -> Tensor:
        """Log-probabilities, or features."""
        found = self.feature if self.log_probs is None else self.log_probs
        assert found is not None  # one of both is there
        return found

    def distances(self, dense: "Answers") -> Tensor:
        """How far each answer is from the dense model's, [images].

        KL(dense || this) in nats; of features 1 - cosine, as half of the squared chord between
        vectors of length 1, which loses no digits where both are nearly the same.
        """
        if self.log_probs is None or dense.log_probs is None:
            return 0.5 * (self.outputs - dense.outputs).square().sum(dim=1)
        divergence = dense.log_probs.exp() * (dense.log_probs - self.log_probs)
        return divergence.sum(dim=1).clamp_(min=0.0)  # rounding can take it below its bound

    def agrees(self, dense: "Answers") -> Tensor | None:
        """Whether the best class is the dense model's, bool [images]; None without classes."""
        if self.log_probs is None or dense.log_probs is None:
            return None
        return self.log_probs.argmax(1) == dense.log_probs.argmax(1)

    def known(self) -> dict[str, Tensor]:
        """The tensors by name, those left out that there are not."""
        return {name: tensor for name, tensor in vars(self).items() if tensor is not None}

    def hits(self) -> Tensor:
        """Whether the best class is right, bool [images].

        Raises:
            MeasurementError: there are no labels.
        """
        if self.top1_hit is None:
            raise MeasurementError("Without labels nobody knows which answers are right.")
        return self.top1_hit


class Evaluator:
    """Measures methods on a shard, in batches of a fixed size and order.

    Both are part of the result: a batch-adaptive method merges by the mean over a batch. The last
    batch may be smaller. The same call gives the same numbers, run after run.
    """

    def __init__(
        self, model: LoadedModel, shard: Shard, *, batch_size: int, cache: Cache | None = None
    ) -> None:
        """Nothing is computed yet.

        Args:
            model: the dense model.
            shard: the images.
            batch_size: images per batch.
            cache: keeps the dense model's answers for other processes and runs.

        Raises:
            ParameterError: batch_size is below 1.
        """
        if batch_size < 1:
            raise ParameterError(f"batch_size={batch_size} is not a count: use 1 or more.")
        choose_attention(model.network)
        self.model = model
        self.shard = shard
        self.batch_size = batch_size
        self._cache = cache
        self._feed = Feed(shard, batch_size, model.device)
        self._cost = CostModel.of(model.network, model.preprocessing.input_size)
        self._dense: Answers | None = None

    def dense(self, on_batch: OnBatch | None = None) -> Answers:
        """The untouched model's answers, which every measurement is paired with; computed once.

        Raises:
            MeasurementError: its outputs are not finite, or a batch does not fit in memory.
        """

        def answer() -> dict[str, Tensor]:
            parts = [answers.known() for answers, _ in self._answers(None, on_batch)]
            return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

        if self._dense is None:
            self._dense = Answers(
                **dense_reference(
                    answer,
                    model=self.model,
                    shard=self.shard,
                    batch_size=self.batch_size,
                    cache=self._cache,
                )
            )
        return self._dense

    @cached_property
    def reference(self) -> Answers:
        """The dense model's answers as something to be compared with.

        Raises:
            MeasurementError: as `dense`; or they are the same for all images.
        """
        answers = self.dense()
        check_varied(answers)
        return answers

    def measure(
        self,
        method: Method | None,
        on_batch: OnBatch | None = None,
        *,
        race: Race | None = None,
        on_answers: OnAnswers | None = None,
    ) -> Measurement:
        """The measurement of one configuration; None measures the dense model itself.

        A race takes the outcomes of every batch and may end it: the measurement is then of fewer
        images than the shard has, its first ones.

        Raises:
            ParameterError: the method does not suit the model's depth.
            MeasurementError: outputs are not finite, a batch does not fit in memory, or the dense
                model says the same of all images.
        """
        if method is not None:
            method.check(len(self.model.network.blocks))
        dense = self.reference
        total = _Total()
        started = time.perf_counter()
        for answers, forward in self._answers(method, on_batch):
            cost = self._cost.of_pass(forward)
            theirs = dense[total.images : total.images + len(answers)]
            total.add(answers, theirs, forward, cost)
            if on_answers is not None:
                on_answers(answers, theirs)
            if race is not None and not race.add(
                None if answers.top1_hit is None else answers.top1_hit.cpu(),
                total.distances[-1].cpu(),
                cost / GIGA,
            ):
                break
        seconds = time.perf_counter() - started
        return total.measurement(
            has_head=self.model.has_head, dense_gflops=self.dense_gflops, seconds=seconds
        )

    @property
    def dense_gflops(self) -> float:
        """GFLOPs of the untouched model per image."""
        counts = self._dense_counts
        return self._cost.multiply_adds(counts, counts) / GIGA

    @property
    def _dense_counts(self) -> tuple[int, ...]:
        network = self.model.network
        tokens = network.patch_embed.num_patches + network.num_prefix_tokens
        return (int(tokens),) * len(network.blocks)

    def _answers(
        self, method: Method | None, on_batch: OnBatch | None
    ) -> Iterator[tuple[Answers, ForwardPass]]:
        """Answers and forward pass of every batch, in order."""
        done = 0
        for images, labels in self._feed.batches():
            with torch.inference_mode():
                forward = self._fitting(method, images)
                if not bool(forward.logits.isfinite().all()):
                    raise MeasurementError(
                        f"The model's outputs for images {done} to {done + len(images) - 1} are "
                        "not finite (NaN or infinity), so they cannot be scored. In half "
                        "precision, try --dtype float32."
                    )
                answers = Answers.score(forward.logits, labels, has_head=self.model.has_head)
            yield answers, forward
            done += len(images)
            if on_batch is not None:
                on_batch(done, len(self.shard))

    def _fitting(self, method: Method | None, images: Tensor) -> ForwardPass:
        """The forward pass of uint8 images, or a refusal that says how many would fit.

        A smaller batch is not taken by itself: it would be another measurement.
        """
        try:
            return self._forward(method, self.model.prepare(images))
        except torch.OutOfMemoryError:
            pass  # what the failed pass holds is freed as soon as this block is left
        fits = len(images) // 2
        while fits > 0:
            try:
                self._forward(method, self.model.prepare(images[:fits]))
                break
            except torch.OutOfMemoryError:
                fits //= 2
        todo = f"{fits} would: use --batch-size {fits}" if fits else "not even one image does"
        raise MeasurementError(
            f"A batch of {len(images)} images does not fit in the memory of {self.model.device}; "
            f"{todo}. The batch size is part of the result, so it is not changed by itself."
        )

    def _forward(self, method: Method | None, images: Tensor) -> ForwardPass:
        if method is not None:
            return run(self.model.network, method, images)
        counts = self._dense_counts
        blocks = tuple(BlockTokens(count, count, count, count) for count in counts)
        return ForwardPass(self.model.network(images), counts, counts, 0, blocks=blocks)


class _Total:
    """Sums of one measurement, batch by batch."""

    def __init__(self) -> None:
        self.images = 0
        self.hits: Counter[str] = Counter()
        self.agreements = 0
        self.multiply_adds = 0
        self.matching = 0
        self.tokens: list[float] = []
        self.distances: list[Tensor] = []

    def add(self, answers: Answers, dense: Answers, forward: ForwardPass, cost: int) -> None:
        """Add one batch; `cost` is in multiply-adds per image."""
        images = len(answers)
        self._count(answers, dense)
        same = answers.agrees(dense)
        self.agreements += 0 if same is None else int(same.sum())
        self.distances.append(answers.distances(dense))
        self.multiply_adds += cost * images
        self.matching += forward.matching_multiply_adds * images
        before = self.tokens or [0] * len(forward.mlp_tokens)
        self.tokens = [
            so_far + count * images
            for so_far, count in zip(before, forward.mlp_tokens, strict=True)
        ]
        self.images += images

    def _count(self, answers: Answers, dense: Answers) -> None:
        """Count what labels tell, if there are any."""
        right, right5 = answers.top1_hit, answers.top5_hit
        dense_right, dense_right5 = dense.top1_hit, dense.top5_hit
        if right is None or right5 is None or dense_right is None or dense_right5 is None:
            return
        for name, hit in (
            ("top1_hits", right),
            ("top5_hits", right5),
            ("dense_top1_hits", dense_right),
            ("dense_top5_hits", dense_right5),
            ("lost", dense_right & ~right),
            ("gained", right & ~dense_right),
        ):
            self.hits[name] += int(hit.sum())

    def measurement(self, *, has_head: bool, dense_gflops: float, seconds: float) -> Measurement:
        """The measurement of all that was added; at least one image."""
        distances = torch.cat(self.distances).double()
        spread = float(distances.std()) if self.images > 1 else 0.0
        mean, error = float(distances.mean()), spread / self.images**0.5
        hits: dict[str, Any] = {name: self.hits.get(name) for name in LABELLED}
        return Measurement(
            images=self.images,
            **hits,
            agreements=self.agreements if has_head else None,
            kl=mean if has_head else None,
            kl_se=error if has_head else None,
            feature=None if has_head else mean,
            feature_se=None if has_head else error,
            gflops=self.multiply_adds / self.images / GIGA,
            dense_gflops=dense_gflops,
            matching_gflops=self.matching / self.images / GIGA,
            tokens_per_layer=tuple(count / self.images for count in self.tokens),
            seconds=seconds,
        )


def check_varied(answers: Answers) -> None:
    """Refuse a dense model that says the same of every image: there is nothing to search.

    Raises:
        MeasurementError: they are.
    """
    outputs = answers.outputs
    if len(outputs) > 1 and bool((outputs - outputs[:1]).abs().max() < CONSTANT):
        raise MeasurementError(
            f"The dense model gives the same output for all of {len(outputs):,} images: its "
            "weights may be missing or damaged, or the images may all be the same one."
        )

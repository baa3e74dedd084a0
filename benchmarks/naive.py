"""The loop that a competent user would write first: what our speed is compared with.

    python benchmarks/naive.py --data imagenet/val --tau0 1 --alpha 0.035 --tau-min 0.88 --split 9

A timm model, timm's ImageDataset and a DataLoader with a worker per core, and a merging patch in
the style in which token merging is published: the classes of attention and blocks are swapped,
sizes live on the model, attention is spelt out with the logarithm of the sizes, tokens are
gathered with indices expanded over the channels and merged with scatter_reduce. One accuracy per
run over the data, which is decoded every time. It imports nothing of atm_search, so that it also
serves as a second opinion: same images, order and batches give the same top-1 and GFLOPs.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.data import ImageDataset, create_transform, resolve_model_data_config
from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset


@dataclass(frozen=True)
class Trial:
    """What one run over the data gave."""

    images: int
    top1_hits: int
    gflops: float
    """10^9 multiply-adds per image."""
    seconds: float
    forward_seconds: float


@dataclass(frozen=True)
class AtmRule:
    """Adaptive Token Merging: as many pairs as lie above the threshold, in the batch's mean."""

    tau0: float
    alpha: float
    tau_min: float
    split_depth: int
    cls_only_last_block: bool = True

    def count(self, best: Tensor, block: int) -> int:
        threshold = max(self.tau0 - (math.exp(self.alpha * block) - 1), self.tau_min)
        return int((best >= threshold).sum()) // len(best)


@dataclass(frozen=True)
class TomeRule:
    """Token Merging: r pairs in every block."""

    r: int
    split_depth: int = 1000
    cls_only_last_block: bool = False

    def count(self, best: Tensor, block: int) -> int:
        return self.r


class PatchedAttention(Attention):
    """Attention that adds the logarithm of the sizes, and gives away its keys."""

    def forward(self, x: Tensor, size: Tensor | None = None) -> tuple[Tensor, Tensor]:
        B, N, _ = x.shape  # noqa: N806
        qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        attn = (q * self.scale) @ k.transpose(-2, -1)
        if size is not None:
            attn = attn + size.log()[:, None, None, :, 0]
        attn = self.attn_drop(attn.softmax(dim=-1))
        x = (attn @ v).transpose(1, 2).reshape(B, N, self.attn_dim)
        return self.proj_drop(self.proj(x)), k.mean(1)


class PatchedBlock(Block):
    """A block that merges tokens between attention and MLP."""

    def forward(self, x: Tensor) -> Tensor:
        state = self.state
        if self.number == 0:
            state.update(size=None, attention_tokens=[], mlp_tokens=[])
        state["attention_tokens"].append(x.shape[1])
        branch, metric = self.attn(self.norm1(x), state["size"])
        x = x + self.drop_path1(self.ls1(branch))
        rule = state["rule"]
        if rule.cls_only_last_block and self.number == state["depth"] - 1:
            x = x[:, :1]
        else:
            x, state["size"] = merge_tokens(x, state["size"], metric, rule, self.number)
        state["mlp_tokens"].append(x.shape[1])
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


def merge_tokens(
    x: Tensor, size: Tensor | None, metric: Tensor, rule: AtmRule | TomeRule, block: int
) -> tuple[Tensor, Tensor | None]:
    """x [B, N, C] and sizes [B, N, 1] after merging; the class token stands first and stays."""
    batch, tokens, _ = x.shape
    if tokens < 3:
        return x, size
    metric = metric / metric.norm(dim=-1, keepdim=True)
    ones = torch.ones_like(x[..., :1])
    if block < rule.split_depth:
        order = torch.arange(1, tokens, device=x.device)
        order = torch.cat([order[order % 2 == 0], order[order % 2 == 1]])[None, :, None]
        half = (tokens - 1) // 2
    else:
        by_size = (ones if size is None else size)[:, 1:].argsort(dim=1, stable=True)
        order, half = by_size + 1, (tokens - 1) // 2
    order = order.expand(batch, -1, 1)

    def split(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        moved = t.gather(1, order.expand(-1, -1, t.shape[-1]))
        return t[:, :1], moved[:, :half], moved[:, half:]

    _, a, b = split(metric)
    best, target = (a @ b.transpose(-1, -2)).max(dim=-1)
    r = min(rule.count(best, block), half)
    if r <= 0:
        return x, size
    edges = best.argsort(dim=-1, descending=True)[..., None]
    unmerged, merged = edges[:, r:].sort(dim=1).values, edges[:, :r]
    joined = target[..., None].gather(1, merged)

    def reduce(t: Tensor) -> Tensor:
        first, source, destination = split(t)
        channels = t.shape[-1]
        stay = source.gather(1, unmerged.expand(-1, -1, channels))
        leave = source.gather(1, merged.expand(-1, -1, channels))
        total = destination.scatter_reduce(1, joined.expand(-1, -1, channels), leave, reduce="sum")
        return torch.cat([first, stay, total], dim=1)

    size = ones if size is None else size
    x, size = reduce(x * size), reduce(size)
    return x / size, size


def patch(model: VisionTransformer, rule: AtmRule | TomeRule) -> dict[str, Any]:
    """Swap the model's classes for the patched ones; its state says the tokens of every block."""
    state: dict[str, Any] = {"rule": rule, "depth": len(model.blocks)}
    for number, block in enumerate(model.blocks):
        block.__class__, block.attn.__class__ = PatchedBlock, PatchedAttention
        block.state, block.number = state, number
    return state


def multiply_adds(model: VisionTransformer, state: dict[str, Any]) -> int:
    """Per image, by the papers' formula, for a plain ViT with square patches."""
    dim, patches = model.embed_dim, model.patch_embed.num_patches
    total = patches * model.patch_embed.proj.weight.numel() + model.head.weight.numel()
    for block, entering, leaving in zip(
        model.blocks, state["attention_tokens"], state["mlp_tokens"], strict=True
    ):
        hidden = block.mlp.fc1.out_features
        total += 4 * entering * dim**2 + 2 * entering**2 * dim + 2 * leaving * dim * hidden
    return total


def load(
    name: str, checkpoint: Path | None, dtype: torch.dtype, num_classes: int | None = None
) -> VisionTransformer:
    """timm's model in evaluation mode, with the weights of its hub unless given."""
    model = timm.create_model(name, pretrained=checkpoint is None, num_classes=num_classes)
    if checkpoint is not None:
        model.load_state_dict(load_file(checkpoint))
    return model.eval().to(dtype=dtype)


def load_data(
    model: nn.Module, data: Path, names: Sequence[str] | None, batch_size: int, workers: int
) -> DataLoader[Any]:
    """A folder of classes, in sorted order or in that of the names (relative to the folder)."""
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    dataset = ImageDataset(str(data), transform=transform)
    if names is not None:
        place = {name: index for index, name in enumerate(dataset.filenames())}
        dataset = Subset(dataset, [place[name] for name in names])
    return DataLoader(dataset, batch_size=batch_size, num_workers=workers)


def evaluate(model: VisionTransformer, state: dict[str, Any], loader: DataLoader[Any]) -> Trial:
    """One trial: accuracy and cost of the patched model on all images."""
    dtype = next(model.parameters()).dtype
    started, forward_seconds = time.perf_counter(), 0.0
    images, hits, cost = 0, 0, 0
    with torch.no_grad():
        for batch, labels in loader:
            before = time.perf_counter()
            logits = model(batch.to(dtype))
            forward_seconds += time.perf_counter() - before
            hits += int((logits.argmax(dim=1) == labels).sum())
            cost += multiply_adds(model, state) * len(batch)
            images += len(batch)
    seconds = time.perf_counter() - started
    return Trial(images, hits, cost / images / 1e9, seconds, forward_seconds)


def comparison_options(parser: argparse.ArgumentParser) -> None:
    """Options of benchmarks that compare with this loop, as `in_process` reads them."""
    parser.add_argument("--model", default="deit_t")
    parser.add_argument("--naive-model", default="deit_tiny_patch16_224", help="timm's name of it")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--images", type=int, help="size of the subset; all unless given")
    parser.add_argument("--batch-size", type=int, default=100)


def in_process(
    options: argparse.Namespace,
    params: Mapping[str, Any],
    data: str | Path,
    names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """One trial of ATM in a process of its own, as a plain `Trial`; images as for `load_data`."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, __file__, "--data", str(data), "--json", str(answer)]
        command += ["--batch-size", str(options.batch_size), "--model", options.naive_model]
        command += ["--split", str(params["split_depth"])]
        for name in ("tau0", "alpha", "tau_min"):
            command += [f"--{name.replace('_', '-')}", str(params[name])]
        if options.checkpoint:
            command += ["--checkpoint", str(options.checkpoint)]
        if names is not None:
            listed = Path(folder) / "names.txt"
            listed.write_text("\n".join(names) + "\n")
            command += ["--names", str(listed)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        trial: dict[str, Any] = json.loads(answer.read_text())["trial"]
    return trial


def machine() -> dict[str, str | int]:
    """What a figure of speed depends on besides the code."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    flags: set[str] = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    known = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return {
        "cpu": names[0] if names else platform.machine(),
        "instructions": " ".join(flag for flag in known if flag in flags),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "python": platform.python_version(),
    }


def main() -> None:
    """Print one trial as JSON."""
    options = _parser().parse_args()
    names = options.names.read_text().splitlines() if options.names else None
    dtype = getattr(torch, options.dtype)
    model = load(options.model, options.checkpoint, dtype, options.num_classes)
    if options.r is not None:
        rule: AtmRule | TomeRule = TomeRule(options.r)
    else:
        rule = AtmRule(options.tau0, options.alpha, options.tau_min, options.split)
    state = patch(model, rule)
    loader = load_data(model, options.data, names, options.batch_size, options.workers)
    trial = evaluate(model, state, loader)
    facts = asdict(trial) | {"batch_size": options.batch_size, "dtype": options.dtype}
    text = json.dumps({"trial": facts, "rule": asdict(rule), "machine": machine()}, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="deit_tiny_patch16_224")
    parser.add_argument("--checkpoint", type=Path, help="a .safetensors file; else timm's hub")
    parser.add_argument("--data", type=Path, required=True, help="a folder per class")
    parser.add_argument("--names", type=Path, help="images of the folder, one a line, in order")
    parser.add_argument("--num-classes", type=int, help="of the checkpoint, if not the model's")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="of the loader")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--r", type=int, help="ToMe with r pairs per block, instead of ATM")
    parser.add_argument("--tau0", type=float, default=1.0)
    parser.add_argument("--alpha", type=float, default=0.035)
    parser.add_argument("--tau-min", type=float, default=0.88)
    parser.add_argument("--split", type=int, default=9)
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    main()

"""What each choice is worth: the default and its variants, trained alike, measured on held-out files.

    bench/ablation.py NAME=DIR [NAME=DIR ...] --minutes 3 --seeds 0 1 2 [--variants "as it is" "and noise"] [--list]

The variants are in `variants.py`. Each run has a process of its own, and every measured row is added to a file of JSON
lines at once, as in `quality.py`; `quality_report.py` makes the table.
"""

import argparse
import dataclasses
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

import distill
import rows
from code_figures import fully_coded_bits
from distill.models.loaded import LoadedVQModel
from distill.training.config import VQVAEConfig
from distill.training.loop import train_vqvae
from distill.training.request import plan_run
from held_out import Collection, Split, at_48_khz
from rows import Row
from variants import VARIANTS

_BY_NAME = {variant.name: variant for variant in VARIANTS}


def main() -> None:
    """Run what was asked for, variant by variant within a seed, so that a broken-off series is of use."""
    args = arguments().parse_args()
    if args.list:
        print("\n".join(_BY_NAME))
    for collection in args.collections:
        with tempfile.TemporaryDirectory() as name:
            split = Split.of(collection, Path(name))
            for seed in args.seeds:
                for variant in args.variants:
                    row = in_own_process(split, variant, args.minutes, seed) | {"collection": collection.name}
                    rows.append(args.results, row)
                    mel, kbits = row["distances"]["mel"], row["kbits"]
                    print(f"{collection.name}  {variant}  seed {seed}: mel {mel:.3f}  {kbits:.2f} kbit/s", flush=True)


def arguments() -> argparse.ArgumentParser:
    """What can be asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="*", type=Collection.parse, metavar="NAME=DIR")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--variants", nargs="+", default=list(_BY_NAME), choices=list(_BY_NAME), metavar="VARIANT")
    parser.add_argument("--list", action="store_true", help="name the variants")
    parser.add_argument("--results", type=Path, default=rows.ABLATION)
    return parser


def in_own_process(split: Split, variant: str, minutes: float, seed: int) -> Row:
    """`measure` in a fresh process, which no earlier patch has reached."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as process:
        return process.submit(measure, split, variant, minutes, seed).result()


def measure(split: Split, variant: str, minutes: float, seed: int) -> Row:
    """Train a variant on the split's files and measure it on the others."""
    chosen = _BY_NAME[variant]
    if chosen.patch:
        chosen.patch()
    with tempfile.TemporaryDirectory() as name:
        models = Path(name, "models")
        plan, _ = plan_run(split.train, models_dir=models, output_dir=Path(name, "run"), minutes=minutes, seed=seed)
        assert isinstance(plan.config, VQVAEConfig)
        config = dataclasses.replace(plan.config, **chosen.overrides(plan.config))
        history = train_vqvae(**dataclasses.replace(plan, config=config).arguments())["metrics_history"]
        loaded = distill.load(only_model(models))
        assert isinstance(loaded, LoadedVQModel)
        copies = [torch.from_numpy(loaded.reconstruct(path)) for path in split.test]
    return {
        "system": variant,
        "minutes": minutes,
        "seed": seed,
        "files": len(split.test),
        "seconds": split.seconds,
        "distances": dataclasses.asdict(split.distances(at_48_khz(copy, loaded.sample_rate) for copy in copies)),
        "kbits": fully_coded_bits(loaded) / 1000,
        "run": {
            "epochs": len(history.epoch_metrics),
            "kept": history.get_best_epoch() + 1,
            "steps": len(history.step_metrics),
            "elapsed": history.epoch_metrics[-1].elapsed_seconds,
            "settings": dataclasses.asdict(config),
        },
    }


def only_model(folder: Path) -> Path:
    """The one model file in a library."""
    (path,) = folder.glob("*.distill")
    return path


if __name__ == "__main__":
    main()

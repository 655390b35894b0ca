"""Measures the contribution of each design choice: the default and its variants, on held-out files.

    python -m bench.quality.ablation NAME=DIR [...] --minutes 3 --seeds 0 1 2 [--variants "as it is" "and noise"]
    python -m bench.quality.ablation --list

The variants are in `variants.py`. Each training has a process of its own, and every row is appended to a JSON-lines
file at once, so that measuring can be done in pieces; `python -m bench.quality.report` makes the table from it.
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

import torch

import distill
from bench.quality.codes import fully_coded_bits
from bench.quality.split import Split, at_48_khz
from bench.quality.variants import VARIANTS
from bench.shared import rows
from bench.shared.collection import Collection
from bench.shared.processes import in_fresh_process
from bench.shared.rows import Row
from distill.models.loaded_vqvae import LoadedVQModel
from distill.training.config import VQVAEConfig
from distill.training.execution import run_training
from distill.training.request import TrainingRequest

_BY_NAME = {variant.name: variant for variant in VARIANTS}


def main() -> None:
    """Train all variants with one seed before the next seed, so that an interrupted series is still of use."""
    args = arguments().parse_args()
    if args.list:
        print("\n".join(_BY_NAME))
    for collection in args.collections:
        with tempfile.TemporaryDirectory() as name:
            split = Split.of(collection, Path(name))
            for seed in args.seeds:
                for variant in args.variants:
                    row = in_fresh_process(measure, split, variant, args.minutes, seed)
                    rows.append(args.results, row | {"collection": collection.name})
                    mel, kbits = row["distances"]["mel"], row["kbits"]
                    print(f"{collection.name}  {variant}  seed {seed}: mel {mel:.3f}  {kbits:.2f} kbit/s", flush=True)


def arguments() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="*", type=Collection.parse, metavar="NAME=DIR")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--variants", nargs="+", default=list(_BY_NAME), choices=list(_BY_NAME), metavar="VARIANT")
    parser.add_argument("--list", action="store_true", help="print the names of the variants")
    parser.add_argument("--results", type=Path, default=rows.ABLATION)
    return parser


def measure(split: Split, variant: str, minutes: float, seed: int) -> Row:
    """Train a variant and measure it; call it in a fresh process, because a variant may patch the code."""
    chosen = _BY_NAME[variant]
    if chosen.patch:
        chosen.patch()
    with tempfile.TemporaryDirectory() as name:
        models = Path(name, "models")
        places = {"models_dir": models, "output_dir": Path(name, "run")}
        request = TrainingRequest.for_folder(split.train, **places, minutes=minutes, seed=seed)
        assert isinstance(request.config, VQVAEConfig)
        config = dataclasses.replace(request.config, **chosen.overrides(request.config))
        history = run_training(dataclasses.replace(request, config=config))["metrics_history"]
        (path,) = models.glob("*.distill")
        loaded = distill.load(path)
        assert isinstance(loaded, LoadedVQModel)
        made = (torch.from_numpy(loaded.reconstruct(path, mono=True)) for path in split.test)
        sounds = [at_48_khz(sound, loaded.sample_rate) for sound in made]
    return {
        "system": variant,
        "minutes": minutes,
        "seed": seed,
        "files": len(split.test),
        "seconds": split.seconds,
        "distances": dataclasses.asdict(split.distances(sounds)),
        "kbits": fully_coded_bits(loaded) / 1000,
        "run": {
            "epochs": len(history.epoch_metrics),
            "kept": history.get_best_epoch() + 1,
            "steps": len(history.step_metrics),
            "elapsed": history.epoch_metrics[-1].elapsed_seconds,
            "settings": dataclasses.asdict(config),
        },
    }


if __name__ == "__main__":
    main()

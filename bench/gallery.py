"""Makes the gallery of the documentation: a model of the demo's sounds, and what it makes, to be heard.

python -m bench.gallery [--minutes 2] [--to docs/gallery]
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import distill
from distill.audio.io import read_waveform
from distill.audio.recording import Samples
from distill.data.demo import write_demo_collection
from distill.models.loaded import LoadedFamily

_UNHEARD = ("kick_tight", "snare_crisp", "pluck_d4_soft", "pad_f3_major_clear")  # set aside, to be reconstructed
_INTRODUCTION = """# Gallery

A model was trained with `--minutes {minutes:g}` on {count} sounds, which the demo synthesises; the four below were kept
from it. Everything here was made by one command:

```sh
python -m bench.gallery
```
"""


@dataclass(frozen=True)
class Clip:
    """A sound of the gallery, float32 `[S]`, and what is said of it."""

    title: str
    samples: Samples


def main() -> None:
    """Train, and write the page and its sounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--to", type=Path, default=Path("docs/gallery"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        write_gallery(Path(name), args.minutes, args.to)


def write_gallery(work: Path, minutes: float, folder: Path) -> Path:
    """Train in `work` and write the gallery to `folder`; returns its page."""
    sounds = write_demo_collection(work / "sounds")
    unheard = []
    for path in sounds:
        if path.stem in _UNHEARD:
            unheard.append(path.rename(work / path.name))
    model = distill.train(
        work / "sounds", model_name="gallery", minutes=minutes, models_dir=work / "models", output_dir=work / "run"
    )
    folder.mkdir(parents=True, exist_ok=True)
    parts = [_INTRODUCTION.format(minutes=minutes, count=len(sounds) - len(unheard))]
    for title, text, rows in _sections(model, unheard):
        table = [_row(folder, model.sample_rate, name, clips) for name, clips in rows]
        parts.append("\n".join([f"## {title}\n\n{text}\n\n<table>", *table, "</table>\n"]))
    page = folder / "index.md"
    page.write_text("\n".join(parts))
    return page


def _sections(model: LoadedFamily, unheard: list[Path]) -> Iterator[tuple[str, str, list[tuple[str, list[Clip]]]]]:
    """The sections of the page: title, text, and rows of clips by name."""
    rate = model.sample_rate
    originals = {path.stem: read_waveform(path, rate) for path in unheard}
    yield "Through the model", "A sound that it has never heard, as codes and back.", [
        (name, [
            Clip("original", sound),
            Clip("all levels", model.reconstruct(sound)),
            Clip("the first level", model.reconstruct(sound, levels=1)),
        ])
        for name, sound in originals.items()
    ]  # fmt: skip
    new = [Clip(f"seed {seed}", sound) for seed, sound in enumerate(model.generate(8))]
    yield "New", "Nobody chose these: they are the first eight seeds.", [("new", new[:4]), ("more new", new[4:])]
    strengths = (0.2, 0.4, 0.7)
    yield (
        "Varied",
        "Like a sound, but another one; the more so the greater the strength.",
        [
            (f"{name} varied", [Clip(f"strength {s}", next(model.vary(sound, s, seed=1))) for s in strengths])
            for name, sound in originals.items()
        ],
    )
    first, second = originals["kick_tight"], originals["pad_f3_major_clear"]
    steps = [Clip(f"step {n}", sound) for n, sound in enumerate(model.morph(first, second, steps=5), 1)]
    yield "Morphed", "From a kick to a pad, each step a sound of its own.", [("kick to pad", steps)]


def _row(folder: Path, rate: int, name: str, clips: list[Clip]) -> str:
    """Write the clips of a row beside the page; returns the row as HTML."""
    cells = [f"<th>{name.replace('_', ' ')}</th>"]
    for clip in clips:
        file = f"{name} {clip.title}.wav".replace(" ", "_")
        distill.write_wav(folder / file, clip.samples, rate, bits="16")
        label = f"{name.replace('_', ' ')}, {clip.title}"
        cells.append(
            f'<td>{clip.title}<br><audio controls preload="none" aria-label="{label}" src="{file}"></audio></td>'
        )
    return f"<tr>{''.join(cells)}</tr>"


if __name__ == "__main__":
    main()

"""The measurements of `docs/quality.md`: distances, bit rates, the first plan, and the report from rows to page."""

import dataclasses
import json
import math
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench.quality import anchors
from bench.quality.artefacts import artefacts, medians
from bench.quality.codes import entropy_coded_bits, fully_coded_bits, level_usage, plain_bits
from bench.quality.first_plan import FirstPlan, Preset, train_first_plan
from bench.quality.mel_distance import mel_distance
from bench.quality.models import warning_kind
from bench.quality.opus import packet_bytes
from bench.quality.phase import with_reconstructed_phase, with_true_phase
from bench.quality.pictures import Pair, decibels, draw
from bench.quality.report import report
from bench.quality.split import Distances, Split
from bench.quality.stft_distance import stft_distance
from bench.quality.tables import cell
from bench.quality.variants import VARIANTS, _delay, _noise, _tilt
from bench.shared import rows
from bench.shared.collection import Collection
from bench.shared.markdown import fill_section
from distill.audio.spectrogram import AudioSpectrogram, mark_end
from distill.models.quantizer import NO_CODE, ResidualQuantizer
from distill.models.vqvae import ConvVQVAE
from distill.training.config import get_adaptive_vqvae_config
from support.runs import ticking
from support.sounds import tone, write_collection

SOUND = torch.from_numpy(tone(330, 0.4))
OTHER = torch.from_numpy(tone(550, 0.4, seed=1))


@pytest.mark.parametrize("distance", [mel_distance, stft_distance])
def test_a_distance_is_zero_for_the_same_sound_and_grows_with_the_difference(distance):
    assert distance(SOUND, SOUND) == 0
    assert 0 < distance(SOUND, 0.9 * SOUND) < distance(SOUND, OTHER)


@pytest.mark.parametrize("distance", [mel_distance, stft_distance])
def test_a_distance_takes_sounds_shorter_than_its_windows_and_refuses_another_length(distance):
    assert distance(SOUND[:900], OTHER[:900]) > 0
    with pytest.raises(ValueError, match="lengths differ"):
        distance(SOUND, SOUND[: len(SOUND) // 2])


def test_the_stft_distance_of_half_the_level_is_what_its_definition_says():
    loud = torch.randn(48_000, generator=torch.Generator().manual_seed(0))
    assert stft_distance(loud, loud / 2) == pytest.approx(0.5 + math.log(2), rel=1e-3)


def test_a_collection_is_split_and_every_copy_is_measured_against_its_original(tmp_path):
    folder = write_collection(tmp_path / "tones", count=10)
    collection = Collection.parse(f"{folder}")
    assert collection == Collection("tones", folder)
    assert Collection.parse(f"T={folder}").name == "T"
    split = Split.of(collection, tmp_path / "work")
    assert [path.name for path in split.test] == ["000.wav", "001.wav"]
    assert len(list(split.train.iterdir())) == 8
    same = split.distances(split.originals)
    assert dataclasses.replace(same, artefacts={}) == Distances(0, 0, 0, 0, {})
    assert same.artefacts["loud"] == same.artefacts["level"] == 0
    quiet = split.distances(sound / 2 for sound in split.originals)
    assert min(quiet.mel, quiet.mel_mean, quiet.stft, quiet.stft_mean) > 0
    assert quiet.artefacts["level"] == pytest.approx(-6.02, abs=0.01)


def hit(seconds: float = 1.0) -> torch.Tensor:
    """Noise that begins at once, rings on for a while, and is preceded by silence."""
    time = torch.arange(int(seconds * 48_000)) / 48_000
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    return torch.where(time >= 0.2, noise * torch.exp(-4 * (time - 0.2).clamp(min=0)), 0.0) * 0.2


def test_a_sound_has_no_artefact_beside_itself():
    found = artefacts(hit(), hit())
    assert (found.loud, found.level, found.tone, found.pre_echo) == (0, 0, 0, 0)
    assert (found.texture, found.flutter, found.attack) == (1, 1, 1)


def test_each_artefact_is_seen_by_its_own_figure():
    sound = hit()
    smeared = sound + 0.3 * torch.roll(sound, -480)  # a part of it comes 10 ms too early
    assert artefacts(sound, smeared).attack < 0.99
    assert artefacts(sound, smeared).pre_echo > 20
    assert artefacts(sound, sound / 2).level == pytest.approx(-6.02, abs=0.01)
    assert artefacts(sound, sound / 2).loud == pytest.approx(6.02, abs=0.01)
    ring = torch.sin(2 * torch.pi * 3000 * torch.arange(48_000) / 48_000) * 0.2
    assert artefacts(sound, ring).tone < -10
    assert artefacts(ring, ring + 0.05 * sound).tone > 10
    beating = sound * (1 + 0.5 * torch.sign(torch.sin(2 * torch.pi * 6 * torch.arange(48_000) / 48_000)))
    assert artefacts(sound, beating).flutter > 1.05
    tones = torch.linspace(300, 12_000, 40)[:, None] * torch.arange(48_000) / 48_000
    frozen = torch.sin(2 * torch.pi * tones).mean(dim=0)
    assert artefacts(hit(1.0)[9600:], frozen[9600:]).texture < 0.7


def test_a_figure_that_no_sound_shows_is_left_out():
    short = SOUND[:4000]
    assert "texture" not in medians([artefacts(short, short)])
    assert medians([artefacts(hit(), hit()), artefacts(short, short)])["texture"] == 1


def test_an_even_histogram_costs_as_much_as_plain_codes_and_a_skewed_one_its_entropy():
    codes = torch.arange(4).repeat(100)[:, None]  # [N, 1]
    assert entropy_coded_bits(codes, torch.full((1, 4), 1000)) == pytest.approx(plain_bits(codes, 4)) == 800
    skewed = torch.tensor([0] * 50 + [1] * 25 + [2] * 25)[:, None]
    counts = torch.tensor([[2_000_000, 1_000_000, 1_000_000, 0]])
    assert entropy_coded_bits(skewed, counts) == pytest.approx(150, rel=1e-4)
    assert math.isfinite(entropy_coded_bits(codes, counts))  # a code that training never used still has a price


def test_the_figures_of_a_level_are_those_of_its_histogram():
    quantizer = ResidualQuantizer(dim=2, size=8, levels=2)
    codes = torch.stack([torch.arange(4).repeat(10), torch.zeros(40, dtype=torch.int64)], dim=-1)
    even, one = level_usage(quantizer, codes)
    assert (even.utilization, one.utilization) == (0.5, 0.125)
    assert even.perplexity_share == pytest.approx(0.5)
    assert even.efficiency == pytest.approx(2 / 3)  # 2 bits of 3
    assert one.efficiency == pytest.approx(0, abs=1e-6)


def test_a_place_without_a_code_costs_nothing():
    assert plain_bits(torch.tensor([[1, 2], [NO_CODE, NO_CODE]]), 16) == 8


def test_sound_without_a_pause_fills_the_grid():
    model = ConvVQVAE(codebook_size=256).eval()
    loaded = SimpleNamespace(model=model, spectrogram=AudioSpectrogram())
    codes = model.encode_to_codes(torch.zeros(1, 1, 128, 96))
    seconds = 96 * 512 / 48_000
    assert fully_coded_bits(loaded) == pytest.approx((codes.shape[1] - 8) * 3 * 8 / seconds)  # but for the first column


def test_sound_from_a_mel_is_as_long_as_the_original_and_closer_with_its_phases():
    spectrogram = AudioSpectrogram()
    mel = spectrogram.waveform_to_mel(mark_end(SOUND)[None, None])
    found, true = with_reconstructed_phase(spectrogram, mel, SOUND), with_true_phase(spectrogram, mel, SOUND)
    assert found.shape == true.shape == SOUND.shape
    assert mel_distance(SOUND, true) < mel_distance(SOUND, found)


def test_the_first_plan_learns_and_gives_back_sounds_of_the_right_length(tmp_path):
    folder = write_collection(tmp_path / "tones", count=4)
    trained = train_first_plan(folder, minutes=2 / 60, seed=0, clock=ticking(0.5))
    assert trained.steps == 3  # those that begin after 0.5, 1 and 1.5 of the 2 seconds
    assert trained.kbits == pytest.approx(0.84375)  # 3 levels of 64 codes
    assert trained.epochs == trained.steps  # all four chunks fit one batch
    for sound in (SOUND, SOUND[:3000]):
        assert trained.model.reconstruct(sound).shape == sound.shape


def test_the_first_plan_follows_its_table_and_plays_its_own_mel_well():
    assert [Preset.for_files(count).codebook_size for count in (20, 21, 100, 101)] == [64, 128, 128, 256]
    model = FirstPlan(Preset.for_files(5)).eval()
    played = model.sound(model.mel(SOUND[None]), len(SOUND))
    assert mel_distance(SOUND, played) < 0.5 * mel_distance(SOUND, OTHER)


def test_only_the_packets_of_an_opus_file_are_counted():
    def page(*segments: int) -> bytes:
        header = b"OggS" + bytes(22) + struct.pack("B", len(segments)) + bytes(segments)
        return header + bytes(sum(segments))

    assert packet_bytes(page(19) + page(255, 40) + page(15, 16, 17) + page(9)) == 57


def test_without_opus_tools_the_rows_are_left_out_and_it_is_said(monkeypatch, capsys):
    monkeypatch.setattr(anchors, "available", lambda: False)
    assert list(anchors.opus_rows(Split(Path("train"), (), ()))) == []
    assert "Debian: opus-tools" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("warning", "kind"),
    [
        ("Level 1: utilization 12% (below 30% threshold) (epoch 3)", "low utilization"),
        (
            "validation loss is 40% above; the model is learning the training files by heart",
            "overfitting",
        ),
        ("in epoch 5 the loss on the sounds set aside jumped from 0.0100 to 0.0200.", "sudden jump"),
        ("something new", "other"),
    ],
)
def test_warnings_are_counted_by_kind(warning, kind):
    assert warning_kind(warning) == kind


def test_every_variant_has_a_name_of_its_own():
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_the_settings_of_a_variant_change_the_preset(variant):
    changed = [
        dataclasses.replace(preset, **variant.overrides(preset)) != preset
        for preset in (get_adaptive_vqvae_config(20), get_adaptive_vqvae_config(200))
    ]
    assert any(changed) == bool(variant.settings)


@pytest.mark.parametrize("vary", [_noise, _tilt, _delay])
def test_a_varied_chunk_is_another_sound_of_the_same_length_and_loudness(vary):
    chunk = SOUND[None, :20_000]
    varied = vary(chunk, np.random.default_rng(0))
    assert varied.shape == chunk.shape
    assert varied.dtype == chunk.dtype
    assert not torch.equal(varied, chunk)
    assert float(varied.abs().max()) == pytest.approx(float(chunk.abs().max()), rel=0.02)


def row(system: str, mel: float, minutes: float | None = None, seed: int | None = None, **more) -> dict:
    distances = {"mel": mel, "mel_mean": mel + 0.1, "stft": mel + 0.2, "stft_mean": mel + 0.3}
    distances["artefacts"] = {"loud": 1.25, "attack": 0.9} if system != "first plan" else {}
    common = {"collection": "drums", "files": 4, "seconds": 9.3}
    return common | {"system": system, "minutes": minutes, "seed": seed, "distances": distances} | more


def distill_row(mel: float, minutes: float, seed: int) -> dict:
    level = {"utilization": 0.5, "perplexity": 8.0, "perplexity_share": 0.125, "efficiency": 0.5}
    more = {
        "run": {"epochs": 9, "kept": 7, "steps": 90, "elapsed": 58.0, "warnings": {"overfitting": 1}},
        "rates": {"fully_coded": 0.84, "nominal": 0.87, "entropy_coded": 0.55},
        "codes": {"test": [level] * 3, "train": [level] * 3},
        "by_levels": [{"mel": mel + more, "artefacts": {"loud": 2.5 + more}} for more in (0.5, 0.2, 0.0)],
        "true_phase": {"mel": mel - 0.1},
    }
    return row("distill", mel, minutes, seed, **more)


@pytest.fixture
def measured(tmp_path):
    path = tmp_path / "results" / "quality.jsonl"
    for one in (
        row("Opus 6", 2.9, kbits=4.5),
        row("mel inversion", 0.4, true_phase={"mel": 0.18}),
        row("first plan", 2.3, 1.0, 0, kbits=0.84),
        distill_row(9.99, 1.0, 0),  # measured again below: the later one counts
        distill_row(1.6, 1.0, 0),
        distill_row(1.5, 1.0, 1),
        distill_row(1.7, 1.0, 2),
        distill_row(1.2, 10.0, 0),
    ):
        rows.append(path, one)
    return rows.by_seed(rows.read(path))


def test_rows_keep_what_they_were_measured_with_and_the_delayst_of_each_seed_wins(measured):
    seeds = measured[rows.Key("drums", "distill", 1.0)]
    assert rows.sorted_values(seeds, "distances", "mel") == [1.5, 1.6, 1.7]
    assert seeds[0]["made"].keys() == {"distill", "commit", "torch", "threads", "cpus"}
    assert cell(seeds, "distances", "mel") == "1.60 (1.50–1.70)"
    assert cell(seeds, "rates", "nominal") == "0.87"
    assert cell(None, "distances", "mel") == "–"
    json.dumps(seeds, allow_nan=False)


def test_the_report_fills_the_page_and_leaves_its_prose(measured, tmp_path):
    page = tmp_path / "quality.md"
    page.write_text("# Quality\n<!-- quality: begin -->\nold\n<!-- quality: end -->\nprose\n")
    report(page, measured, {})
    text = page.read_text()
    assert text.startswith("# Quality\n")
    assert text.endswith("-->\nprose\n")
    assert "old" not in text
    assert "![Mel distance against kbit/s, for each collection](quality.png)" in text
    assert "| distill, 1 min | 1.60 (1.50–1.70) |" in text
    assert "| Opus 6 | 2.90 |" in text
    assert "### Error of what is loud, dB, median" in text
    assert "| Opus 6 | 1.25 |" in text
    assert text.count("| first plan, 1 min |") == 4  # it has none of the figures of artefacts
    assert "| drums | 60 | 1.60 (1.50–1.70) | 1.25 | – | – | 0.90 | distance |" in text
    assert "| drums | 600 | 1.20 | 1.25 | – | – | 0.90 | the longest |" in text
    assert "| drums | 10 | 1–2 | 0.6 | 1.40 | 2.70 | – | – | – | – | – | – |" in text
    assert "| drums | 10 | Structure | 50% · 50% |" in text
    assert "| distill | drums | 1 | 9 | 7 | 90 | 58 | 3 overfitting |" in text
    assert "nan" not in text
    for name in ("quality.png", "quality-seconds.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    report(page, measured, {})
    assert page.read_text() == text


def test_without_several_lengths_of_training_nothing_is_said_of_them(measured, tmp_path):
    page = tmp_path / "quality.md"
    page.write_text("<!-- quality: begin --><!-- quality: end -->")
    report(page, {key: seeds for key, seeds in measured.items() if key.minutes != 10}, {})
    assert "How soon" not in page.read_text()
    assert "seconds.png" not in page.read_text()
    assert not (tmp_path / "quality-seconds.png").exists()


def test_an_ablation_compares_each_variant_with_the_default_of_the_same_seed(tmp_path):
    page = tmp_path / "quality.md"
    page.write_text("<!-- ablation: begin --><!-- ablation: end -->")
    path = tmp_path / "ablation.jsonl"
    for variant, mel, seed in [
        ("no dropout", 1.7, 0), ("as it is", 1.6, 0), ("no dropout", 2.5, 1), ("as it is", 2.0, 1),
        ("no noise", 1.5, 1), ("no gain", 1.5, 2),
    ]:  # fmt: skip
        rows.append(path, row(variant, mel, 3.0, seed))
    report(page, {}, rows.by_seed(rows.read(path)))
    body = "| as it is | 1.80 (1.60–2.00) |\n| no dropout | +16% (+6% to +25%) |\n| no noise | -25% |\n| no gain | – |"
    assert f"| variant | drums, 3 min |\n| --- | --: |\n{body}" in page.read_text()


def test_a_page_without_the_markers_is_refused():
    with pytest.raises(ValueError, match="quality: begin"):
        fill_section("prose", "quality", "tables")


def test_a_picture_has_the_same_colours_for_a_sound_and_its_copy_and_darker_ones_for_a_softer(tmp_path):
    sound = torch.from_numpy(tone(440, 0.5))
    first, second = decibels(Pair("tone", sound, sound / 10))
    assert (first.max(), second.max()) == pytest.approx((0, -20), abs=0.01)
    assert first.min() == second.min() == -80
    pairs = [Pair("tone", sound, sound), Pair("half as long", sound[: len(sound) // 2], sound)]
    assert draw(tmp_path / "picture.png", pairs, seconds=0.4).read_bytes().startswith(b"\x89PNG")

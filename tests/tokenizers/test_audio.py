"""Sound of every form to tokens of its log-mel spectrogram, and refusal of what is none."""

import io
import sys

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.transforms import MelSpectrogram

from metatx import SampleError, create
from metatx.backbone.stem import Stem, StemConfig
from metatx.cli import main
from metatx.encoding.collate import collate
from metatx.layers.resampling import resample
from metatx.reading.audio import read_audio

DIM, RATE = 48, 16_000
RNG = np.random.default_rng(0)


def chirp(seconds=0.5, rate=RATE, noise=0.0):
    at = np.arange(round(seconds * rate)) / rate
    return (0.4 * np.sin(2 * np.pi * (300 + 800 * at) * at) + noise * RNG.normal(size=len(at))).astype(np.float32)


def rgb_stem():
    torch.manual_seed(0)
    config = StemConfig(patch_size=16, image_size=64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    stem = Stem(DIM, config).requires_grad_(False)
    torch.nn.init.normal_(stem.positions)
    return stem


def fitted(**options):
    torch.manual_seed(0)
    tokenizer = create("tokenizers", "audio", DIM, stem=rgb_stem(), **options)
    return tokenizer.learn([chirp(noise=0.01 * i) for i in range(6)]).eval()


@torch.no_grad()
def tokens(tokenizer, *samples):
    return tokenizer(collate([tokenizer.encode(sample) for sample in samples]))


def encoded_file(form, values=None, rate=RATE):
    buffer = io.BytesIO()
    soundfile.write(buffer, chirp() if values is None else values, rate, format=form)
    return buffer.getvalue()


# Reading


@pytest.mark.parametrize(("form", "tolerance"), [("WAV", 1e-4), ("FLAC", 1e-4), ("OGG", 0.05), ("MP3", 0.1)])
def test_every_file_type_from_path_bytes_and_dict(form, tolerance, tmp_path):
    content = encoded_file(form)
    path = tmp_path / f"clip.{form.lower()}"
    path.write_bytes(content)
    for sample in (path, str(path), content, {"bytes": content, "path": None}, {"bytes": None, "path": str(path)}):
        values, rate = read_audio(sample, 8_000)
        assert rate == RATE and values.shape == (8_000,)
        assert np.abs(values - chirp())[400:-400].max() < tolerance


def test_arrays_of_every_layout_and_type_are_the_same_sound():
    mono = chirp()
    stereo = np.stack([mono + 0.1, mono - 0.1])
    whole = np.round(mono * 32_768).astype(np.int16)
    forms = [mono, mono.tolist(), torch.tensor(mono), mono[None], mono[:, None], stereo, stereo.T, whole]
    forms += [whole.astype(np.int32) * 65_536, {"array": mono.astype(np.float64), "sampling_rate": RATE}]
    for sample in forms:
        values, rate = read_audio(sample, RATE)
        assert rate == RATE and values.dtype == np.float32
        np.testing.assert_allclose(values, mono, atol=2e-5)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000])
def test_any_rate_gives_the_same_tokens(rate):
    # Bands above half of the lowest rate hold nothing that all could share.
    tokenizer = fitted(sample_rate=8_000)
    there = tokens(tokenizer, {"array": chirp(1.0, rate), "sampling_rate": rate}).embeddings
    here = tokens(tokenizer, {"array": chirp(1.0, 32_000), "sampling_rate": 32_000}).embeddings
    inner = (there - here)[2:-2].square().mean().sqrt() / here.square().mean().sqrt()
    assert there.shape == here.shape and inner < 0.05


@pytest.mark.parametrize(("rate", "wanted"), [(44_100, 16_000), (8_000, 16_000), (100.0, 50.0)])
def test_a_resampled_sine_is_the_sine_at_the_other_rate(rate, wanted):
    frequency = 0.07 * min(rate, wanted)

    def sine(at, count):
        return 3 + np.sin(2 * np.pi * frequency / at * np.arange(count))

    found = resample(sine(rate, 2_000)[None], rate, wanted)[0]
    assert abs(len(found) - 2_000 * wanted / rate) <= 1
    expected = sine(wanted, len(found))
    np.testing.assert_allclose(found[50:-50], expected[50:-50], atol=5e-3)
    np.testing.assert_allclose(found, expected, atol=0.3)  # no ringing from 3 to 0 at the ends


def test_nearly_equal_rates_are_taken_as_equal():
    # The exact filter for 16,000 / 16,001 would be gigabytes long.
    assert np.array_equal(resample(chirp(), 16_001, 16_000), chirp())


# The spectrogram


def test_the_spectrogram_is_torchaudios():
    tokenizer = fitted(tokens="frames")
    wave = torch.tensor(chirp())
    reference = MelSpectrogram(RATE, 512, 400, 160, n_mels=64)(wave)  # frames centred on multiples of the hop
    ours = tokenizer.log_power(torch.nn.functional.pad(wave, (80, 0))[None])[0]  # ours on the middle of each hop
    assert ours.shape == (64, 51)
    torch.testing.assert_close(ours[:, 2:-2], (reference + 1e-6).log()[:, 2:-2], atol=2e-3, rtol=0)


def test_statistics_standardise_the_training_split():
    samples = [chirp(noise=0.01 * i) for i in range(6)]
    tokenizer = fitted()
    power = torch.cat([tokenizer.log_power(torch.tensor(sample)[None])[0] for sample in samples[:3]], dim=1)
    alone = create("tokenizers", "audio", DIM, stem=None).learn([*samples[:3], "nowhere.wav"])
    torch.testing.assert_close(alone.centre[:, 0], power.mean(1), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(alone.spread[:, 0], power.std(1, correction=0), atol=1e-3, rtol=1e-3)


def test_patches_are_the_rgb_stem_on_the_grey_spectrogram():
    tokenizer, stem = fitted(tokens="patches"), rgb_stem()
    wave = torch.tensor(chirp(0.64))
    with torch.no_grad():
        picture = (tokenizer.log_power(wave[None]) - tokenizer.centre) / tokenizer.spread
        expected = stem((0.5 + 0.25 * picture)[:, None].expand(1, 3, 64, 64))[0]
    torch.testing.assert_close(tokens(tokenizer, wave).embeddings, expected, atol=1e-4, rtol=1e-4)
    assert tokenizer.uses_stem_tokens and not fitted(tokens="both").uses_stem_tokens


def test_frames_move_with_the_sound():
    tokenizer = fitted()
    with torch.no_grad():
        tokenizer.views[0].gain.zero_()
    silence, sound = np.zeros(6_400, np.float32), chirp(0.4)
    early = tokens(tokenizer, np.concatenate([silence, sound, silence, silence])).embeddings
    late = tokens(tokenizer, np.concatenate([silence, silence, sound, silence])).embeddings
    torch.testing.assert_close(early[8:22], late[18:32], atol=1e-4, rtol=0)  # 0.4 s are ten tokens
    assert (early[8:22] - late[8:22]).abs().max() > 0.1


@given(st.integers(1, 30_000), st.sampled_from(["frames", "patches"]))
@settings(max_examples=12, deadline=None)
def test_every_length_gives_its_number_of_finite_tokens(length, kind):
    frames = -(-length // 160)
    expected = -(-frames // 4) if kind == "frames" else 4 * max(1, (frames + 8) // 16)
    found = tokens(fitted(tokens=kind), RNG.normal(size=length).astype(np.float32) / 9)
    assert found.lengths == (expected,) and found.embeddings.isfinite().all()


def test_what_is_longer_than_the_window_becomes_parts():
    tokenizer = fitted(window=1.0)
    long, short = chirp(2.5, noise=0.1), chirp(0.5)
    both = tokens(tokenizer, short, long)
    assert both.sequences_per_sample == (1, 3) and both.lengths == (13, 21, 21, 21)
    pieces = tokens(tokenizer, long[:13_440], long[13_440:26_880], long[26_880:])
    torch.testing.assert_close(both.embeddings[13:], pieces.embeddings, atol=1e-5, rtol=0)


def test_silence_is_a_sound_like_any_other():
    found = tokens(fitted(), np.zeros(8_000, np.float32), chirp())
    assert found.embeddings.isfinite().all()
    silent = create("tokenizers", "audio", DIM, stem=None).learn([np.zeros(8_000, np.float32)] * 2)
    assert tokens(silent, chirp()).embeddings.isfinite().all()
    assert np.isfinite(silent.baseline_features(np.zeros(8_000, np.float32))).all()


def test_masks_hide_in_training_only_and_little():
    tokenizer = fitted()
    batch = collate([tokenizer.encode(chirp(noise=0.1))] * 8)
    seen = []
    tokenizer.views[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    tokenizer(batch)
    tokenizer.train()(batch)
    hidden = (seen[1] == 0).float().mean((1, 2))
    assert (seen[0] == 0).float().mean() < 0.01
    assert hidden.max() <= 4 * 0.08 + 0.05 and hidden.max() > 0.02
    assert len(set(hidden.tolist())) > 1  # each sample has its own
    light = fitted(augment="light").train()
    assert torch.equal(light(batch).embeddings, light.eval()(batch).embeddings)


def test_shifts_and_gains_stay_in_their_range():
    tokenizer = fitted()
    wave = torch.zeros(8_000)
    wave[4_000] = 0.5
    places, heights = [], []
    for seed in range(40):
        torch.manual_seed(seed)
        varied = tokenizer.augment({"waveform": wave})["waveform"]
        places.append(int(varied.argmax()) - 4_000)
        heights.append(varied.max().item() / 0.5)
    assert -1_600 <= min(places) < -800 and 800 < max(places) <= 1_600
    assert 0.5 <= min(heights) < 0.7 and 1.5 < max(heights) <= 2.0


# What cannot be used


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.wav", b"", "a.wav is empty"),
        ("a.flac", b"these are words", "a.flac is damaged, or none of .wav, .flac"),
        ("a.wav", encoded_file("WAV")[:3_000], r"truncated: 3000 of 16044 bytes"),
        ("a.flac", encoded_file("FLAC")[:2_000], "a.flac is damaged"),
        ("a.ogg", encoded_file("OGG")[:2_000], "a.ogg is damaged"),
        ("a.mp3", encoded_file("MP3")[:1_200], "a.mp3 is (truncated|damaged)"),
        ("a.wav", encoded_file("WAV", np.zeros((0, 1))), "a.wav holds no audio"),
        (
            "a.wav",
            encoded_file("WAV", np.zeros(600_001), 1_000),
            "a.wav has 600 seconds of audio; .* at most 600",
        ),
        ("a.wav", encoded_file("WAV", np.zeros(9), 500), "a.wav has a sampling rate of 500; expected 1000 to"),
    ],
)
def test_bad_files_are_named(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SampleError, match=message) as caught:
        fitted().encode(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ("nowhere.wav", "nowhere.wav does not exist"),
        (".", "is a folder"),
        (np.zeros((2, 0)), "holds no audio"),
        ([], "holds no audio"),
        (np.array([0, np.nan]), r"NaN or infinite at 0.000 s"),
        (np.array([0.0] * 16_000 + [np.inf]), r"NaN or infinite at 1.000 s"),
        (np.array([0, 20_000.0]), "reaches 20000; expected floats in -1..1, or int16"),
        (np.array([0, 200], np.uint8), "array of uint8; expected floats"),
        (np.zeros((2, 2, 2)), r"array \(2, 2, 2\); expected a path"),
        ({"array": np.zeros(9), "sampling_rate": None}, "sampling rate of None"),
        (None, "audio is a NoneType; expected a path"),
    ],
)
def test_bad_samples_are_named(sample, message):
    with pytest.raises(SampleError, match=message):
        fitted().encode(sample)


def test_no_good_clip_is_told():
    with pytest.raises(ValueError, match=r"No sample can be used; the first: audio file a.wav does not exist"):
        create("tokenizers", "audio", DIM, stem=None).learn(["a.wav", "b.wav"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": "words"}, "tokens is 'words'; expected one of 'frames', 'patches', 'both'"),
        ({"augment": "much"}, "augment is 'much'; expected one of 'none', 'light', 'strong'"),
        ({"sample_rate": 10}, "sample_rate is 10; it must be 1000 to"),
        ({"window": 0.1}, "window is 0.1 s; it must be at least 1"),
        ({"token_rms_factor": 0}, "token_rms_factor is 0; it must be above 0"),
        ({"tokens": "patches", "num_mels": 40}, "num_mels is 40; patches of 16 need a multiple"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        create("tokenizers", "audio", DIM, stem=rgb_stem(), **options)


@pytest.mark.parametrize("package", ["torchaudio.transforms", "soundfile"])
def test_missing_packages_are_told(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install 'metatx\[audio\]'"):
        create("tokenizers", "audio", DIM, stem=None).encode(encoded_file("WAV"))


# On disk


def test_folders_of_clips_are_trained_on_and_predicted(tmp_path, capsys):
    for word, pitch in (("low", 200), ("high", 2_000)):
        (tmp_path / "data" / word).mkdir(parents=True)
        for i in range(40):  # an epoch must be enough: the first one that is right on the validation split is kept
            at = np.arange(4_000 + 100 * (i % 12))
            tone = np.sin(2 * np.pi * pitch * at / RATE) / 2 + RNG.normal(size=len(at)) / 50
            soundfile.write(tmp_path / "data" / word / f"{i}.{('wav', 'flac', 'ogg')[i % 3]}", tone, RATE)
    out = tmp_path / "out"
    main(f"train {tmp_path / 'data'} --modality audio --epochs 6 --lr 3e-3 --batch_size 4 --out {out}".split())
    capsys.readouterr()
    main(["predict", str(out / "task"), str(tmp_path / "data" / "high" / "0.wav")])
    assert capsys.readouterr().out.splitlines()[1].split(",")[1] == "high"

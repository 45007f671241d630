"""Videos are read and written with their times, sound, size and rotation."""

from fractions import Fraction

import av
import numpy as np
import pytest
from clips import packets_of, portrait_pictures, sound_of, write_clip

from regaze.video.reading import Camera, Film, is_camera
from regaze.video.writing import Writer


@pytest.fixture(scope="module")
def pictures():
    return portrait_pictures(12, (96, 64), step=6)


def copied(path, out, **options):
    film = Film(path)
    with Writer(out, film, **options) as writer:
        for frame in film:
            writer.write(frame.picture, frame.ticks)
    return Film(out), writer


def apart(ours, theirs):
    """Mean difference in grey levels of two videos' frames."""
    pairs = zip(ours, theirs, strict=True)
    return np.mean([np.abs(a.astype(float) - b).mean() for a, b in pairs])


def test_a_video_comes_out_as_it_went_in(tmp_path, pictures):
    path = write_clip(tmp_path / "a.mp4", pictures, options={"bf": "3", "crf": "12"}, sound="aac")
    film = Film(path)
    assert film.size == (96, 64) and film.rate == 25 and film.count == 12
    before = [frame.picture for frame in film]
    assert apart(before, pictures) < 4
    made, writer = copied(path, tmp_path / "b.mp4")
    assert writer.codec == "h264"
    assert [frame.time for frame in made] == [frame.time for frame in film]
    assert apart([frame.picture for frame in made], before) < 2.5
    # The sound is the very same.
    assert packets_of(tmp_path / "b.mp4") == packets_of(path)


@pytest.mark.parametrize("space", [None, 1, 5])
def test_light_and_colours_stay(tmp_path, pictures, space):
    """Whatever the matrix of a file's colours is (1: BT.709, 5: BT.601)."""
    tags = {} if space is None else {"colorspace": str(space)}
    path = write_clip(tmp_path / "a.mp4", pictures, options={"crf": "8", **tags})
    film = Film(path)
    assert space is None or int(film.colours["colorspace"]) == space
    made, _ = copied(path, tmp_path / "b.mp4")
    assert made.colours == film.colours
    levels = [np.mean([one.picture for one in each], axis=(0, 1, 2)) for each in (film, made)]
    assert np.abs(levels[1] - levels[0]).max() < 0.3


def test_frames_that_differ_in_length_keep_their_times(tmp_path, pictures):
    ticks = [0, 20, 31, 60, 200, 215, 230, 245, 400, 401, 420, 600]
    path = write_clip(tmp_path / "a.mp4", pictures, ticks=ticks)
    for out, worst in (("b.mp4", 0.0), ("b.mov", 0.0), ("b.mkv", 0.0011)):
        made, _ = copied(path, tmp_path / out)
        times = np.array([frame.time for frame in made])
        assert np.abs(times - times[0] - np.array(ticks) / 600).max() <= worst
        with av.open(str(tmp_path / out)) as file:
            assert file.duration / av.time_base >= 1.0


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_telephones_held_otherwise(tmp_path, pictures, turn):
    path = write_clip(tmp_path / "a.mp4", pictures, turn=turn, options={"crf": "12"})
    film = Film(path)
    assert film.size == ((64, 96) if turn != 180 else (96, 64))
    upright = [np.rot90(one, turn // 90) for one in pictures]
    assert apart([frame.picture for frame in film], upright) < 4
    for out in ("b.mp4", "b.mov", "b.mkv"):
        made, _ = copied(path, tmp_path / out)
        assert made.size == film.size
        assert apart([frame.picture for frame in made], upright) < 6
        with av.open(str(tmp_path / out)) as file:
            kept = file.streams.video[0].width == 96 and out != "b.mkv"
        assert made.rotation == (turn if kept else 0)


def test_odd_sizes_stay_odd(tmp_path):
    odd = portrait_pictures(5, (95, 63))
    path = write_clip(tmp_path / "a.mkv", odd, codec="ffv1")
    for out, codec in (("b.mp4", "vp9"), ("b.mov", "mpeg4"), ("b.webm", "vp9")):
        made, writer = copied(path, tmp_path / out)
        assert made.size == (95, 63) and writer.codec == codec
        assert apart([frame.picture for frame in made], odd) < 6


def test_files_without_times_of_their_own(tmp_path, pictures):
    path = write_clip(
        *(tmp_path / "a.avi", pictures), codec="mpeg4", base=Fraction(1, 25), options={"bf": "2"},
        ticks=list(range(12)),
    )  # fmt: skip
    film = Film(path)
    times = np.diff([frame.time for frame in film])
    np.testing.assert_allclose(times, 0.04, atol=1e-6)
    made, _ = copied(path, tmp_path / "b.mp4")
    np.testing.assert_allclose(np.diff([frame.time for frame in made]), 0.04, atol=1e-4)


@pytest.mark.parametrize(
    "name, sound, out, kept",
    [
        ("a.mkv", "pcm_s16le", "b.webm", "opus"),
        ("a.avi", "wmav2", "b.mp4", "aac"),
        ("a.mov", "adpcm_ima_qt", "b.mp4", "aac"),
        ("a.mkv", "flac", "b.mkv", "flac"),
        ("a.mp4", "libmp3lame", "b.mp4", "mp3"),
    ],
)
def test_sound_that_a_file_cannot_hold_is_encoded_anew(tmp_path, pictures, name, sound, out, kept):
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    base = Fraction(1, 25) if name.endswith("avi") else Fraction(1, 600)
    ticks = list(range(12)) if name.endswith("avi") else None
    path = write_clip(tmp_path / name, pictures, codec=codec, sound=sound, base=base, ticks=ticks)
    copied(path, tmp_path / out)
    before, _ = sound_of(path)
    after, found = sound_of(tmp_path / out)
    assert found == kept

    def pitch(samples):
        with av.open(str(path if samples is before else tmp_path / out)) as file:
            rate = file.streams.audio[0].codec_context.sample_rate
        return np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples)

    assert pitch(before) == pytest.approx(440, abs=5) and pitch(after) == pytest.approx(440, abs=5)


def test_a_video_without_sound_has_none(tmp_path, pictures):
    path = write_clip(tmp_path / "a.mp4", pictures, sound="aac")
    copied(path, tmp_path / "b.mp4", sound=False)
    with av.open(str(tmp_path / "b.mp4")) as file:
        assert not file.streams.audio


@pytest.mark.parametrize("name", ["a.mp4", "fast.mp4", "a.mkv"])
def test_a_video_that_is_cut_off_is_refused(tmp_path, name):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(50)]
    tags = {"movflags": "faststart"} if name == "fast.mp4" else None
    path = write_clip(tmp_path / name, noise, tags=tags)
    assert len(list(Film(path))) == 50
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"{name}: expected a whole video"):
        list(Film(path))


def test_files_that_are_no_videos(tmp_path, pictures):
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(ValueError, match="a.mp4: expected a whole video, found it damaged"):
        Film(tmp_path / "a.mp4")
    with pytest.raises(FileNotFoundError):
        Film(tmp_path / "none.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        heard = file.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        heard.codec_context.layout = "mono"
        file.mux(heard.encode(frame))
        file.mux(heard.encode(None))
    with pytest.raises(ValueError, match="sound.mp4: expected a video, found none"):
        Film(tmp_path / "sound.mp4")
    for name, found in (("none.mp4", "a video, found none"), ("none.mkv", "a whole video, found")):
        with av.open(str(tmp_path / name), "w") as file:
            stream = file.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            file.start_encoding()
        with pytest.raises(ValueError, match=f"{name}: expected {found}"):
            Film(tmp_path / name)


def test_nothing_is_left_of_a_video_that_failed(tmp_path, pictures):
    film = Film(write_clip(tmp_path / "a.mp4", pictures, sound="aac"))
    (tmp_path / "b.mp4").write_bytes(b"before")
    with pytest.raises(RuntimeError), Writer(tmp_path / "b.mp4", film) as writer:
        writer.write(pictures[0], 0)
        raise RuntimeError
    with pytest.raises(ValueError, match="expected frames"), Writer(tmp_path / "c.mp4", film):
        pass
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]
    assert (tmp_path / "b.mp4").read_bytes() == b"before"
    with pytest.raises(ValueError, match="a video is written to a .mp4 or"):
        Writer(tmp_path / "c.gif", film)


def test_a_source_that_opencv_opens(tmp_path, pictures, monkeypatch):
    path = write_clip(tmp_path / "a.mp4", pictures, options={"crf": "12"})
    source = Camera(path)
    assert source.size == (96, 64) and source.rate == 25
    seen = list(source)
    assert apart([frame.picture for frame in seen], pictures) < 5
    np.testing.assert_allclose([frame.time for frame in seen], np.arange(12) / 25, atol=1e-3)
    with pytest.raises(ValueError, match="camera 77: expected a source that OpenCV can open"):
        Camera(77)
    monkeypatch.chdir(tmp_path)
    assert is_camera("0") and not is_camera("a.mp4") and not is_camera("x")
    (tmp_path / "0").write_text("a file")
    assert not is_camera("0")

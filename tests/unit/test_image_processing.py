"""IMAGE_PROCESSING: what its role asks for, what its program makes, and how a program's findings
become AVUs. The program runs as a plain process here; ``tests/examples`` has it in its sandbox."""

from __future__ import annotations

import importlib.util
import json
import random
import re
import subprocess
import sys
import zlib
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.site import COMPUTE, HOME, TrialSite

from compute_to_data import site_file
from compute_to_data.configuration import Attributes
from compute_to_data.documents import request
from compute_to_data.errors import ConfigurationError, InvalidRequest, ReasonCode, TaskFailed
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.pipeline.results import output_metadata
from compute_to_data.pipeline.vault.outputs import inventory
from compute_to_data.roles.image_processing import ImageProcessing
from compute_to_data.task import Task

Image = pytest.importorskip("PIL.Image")

CONTAINER = Path(__file__).parents[2] / "containers" / "image-processing"
IMAGE = "compute-to-data/image-processing:1"
SIZES = (128, 256, 512, 1024)
EVERYTHING = {"images": {IMAGE: str(CONTAINER)}, "name": "process"}


def _load_program() -> Any:
    """The program; it is part of no package and its name is no module's."""
    loader = SourceFileLoader("make_thumbnails", str(CONTAINER / "make-thumbnails"))
    specification = importlib.util.spec_from_loader("make_thumbnails", loader)
    assert specification is not None
    module = importlib.util.module_from_spec(specification)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


program: Any = _load_program()


# The role


def _task(**more: Any) -> Task:
    return request.parse({"resource": "r", "inputs": ["/z/a/x.jpg"], "output_collection": "/z/out", **more})


@pytest.mark.parametrize(
    ("name", "stem"),
    [("photo.jpg", "photo"), ("a.tar.gz", "a.tar"), ("photo", "photo"), (".jpg", ".jpg"), ("it's a.png", "it's a")],
)
def test_results_are_named_after_the_input(name: str, stem: str) -> None:
    role = ImageProcessing("IMAGE_PROCESSING", {"image": "i"})
    asked = role.program(_task(), (f"/inputs/{name}",), {})
    metadata_file = f"{stem}_thumbnails/{stem}_metadata.json"
    assert asked.steps[0].image == "i"
    assert asked.commands == (
        (
            "make-thumbnails",
            "--metadata",
            f"/outputs/{metadata_file}",
            f"/inputs/{name}",
            f"/outputs/{stem}_thumbnails",
        ),
    )
    assert role.metadata_output(_task(), (f"/inputs/{name}",)) == metadata_file
    assert Path(name).stem == stem, "as the program names them"


def test_where_it_was_taken_is_the_sites_to_ask() -> None:
    role = ImageProcessing("IMAGE_PROCESSING", {"image": "i", "gps": True})
    assert "--gps" in role.program(_task(), ("/inputs/x",), {}).commands[0]


def test_it_is_one_image_and_the_site_says_which_program() -> None:
    with pytest.raises(InvalidRequest, match="found 2"):
        ImageProcessing("IMAGE_PROCESSING", {"image": "i"}).program(_task(), ("/inputs/x", "/inputs/y"), {})
    with pytest.raises(ConfigurationError, match="`image`"):
        ImageProcessing("IMAGE_PROCESSING", {}).program(_task(), ("/inputs/x",), {})


def test_a_task_with_a_process_runs_that() -> None:
    role = ImageProcessing("IMAGE_PROCESSING", {})
    asked = _task(process={"image": "i", "exec": "identify", "argv": []})
    assert role.program(asked, ("/inputs/x",), {}).commands == (("identify",),)
    assert role.metadata_output(asked, ("/inputs/x",)) == ""


# The program


def _photo(size: tuple[int, int] = (1200, 900)) -> Any:
    """Orange above left, the rest blue."""
    photo = Image.new("RGB", size, "blue")
    photo.paste("orange", (0, 0, size[0] // 2, size[1] // 2))
    return photo


def _make(tmp_path: Path, image: Any, name: str, **how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metadata, and the thumbnails by the ends of their names."""
    image.save(tmp_path / name, **how)
    found = program.process(tmp_path / name, tmp_path / "made")
    thumbnails = {}
    for path in sorted((tmp_path / "made").iterdir()):
        with Image.open(path) as opened:
            opened.load()
            thumbnails[path.name.rpartition("_")[2]] = opened
    return found, thumbnails


def test_the_longest_side_is_the_size_and_proportions_stay(tmp_path: Path) -> None:
    _, made = _make(tmp_path, _photo((3000, 2000)), "photo.png")
    assert {name: image.size for name, image in made.items()} == {
        "1024.jpg": (1024, 683),
        "512.jpg": (512, 341),
        "256.jpg": (256, 171),
        "128.jpg": (128, 85),
    }


def test_a_smaller_image_is_never_enlarged(tmp_path: Path) -> None:
    _, made = _make(tmp_path, _photo((300, 200)), "photo.png")
    assert made["128.jpg"].size == (128, 85)
    assert made["256.jpg"].size == (256, 171)
    assert made["512.jpg"].size == made["1024.jpg"].size == (300, 200)


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1)])
def test_no_side_vanishes(tmp_path: Path, size: tuple[int, int]) -> None:
    _, made = _make(tmp_path, Image.new("RGB", size), "line.png")
    assert all(min(image.size) >= 1 and max(image.size) <= 1024 for image in made.values())


@pytest.mark.parametrize(
    ("orientation", "orange_at"),
    [(1, "tl"), (2, "tr"), (3, "br"), (4, "bl"), (5, "tl"), (6, "tr"), (7, "br"), (8, "bl"), (9, "tl"), (0, "tl")],
)
def test_it_is_turned_the_way_the_camera_was_held(tmp_path: Path, orientation: int, orange_at: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    facts, made = _make(tmp_path, _photo(), "photo.jpg", exif=exif)
    thumbnail = made["128.jpg"]
    assert thumbnail.size == ((96, 128) if 5 <= orientation <= 8 else (128, 96))
    near, far = (10, 10), (thumbnail.width - 10, thumbnail.height - 10)
    red, _, blue = thumbnail.getpixel(((far if "r" in orange_at else near)[0], (far if "b" in orange_at else near)[1]))
    assert red > 200 > 100 > blue
    assert facts.get("exif::orientation") == (orientation if 1 <= orientation <= 8 else None)
    assert facts["image::width"] == {"value": 1200, "units": "pixels"}, "as it is stored"


@pytest.mark.parametrize(
    ("mode", "name", "ending", "mode_made"),
    [
        ("1", "a.png", "jpg", "L"),
        ("L", "a.png", "jpg", "L"),
        ("LA", "a.png", "png", "LA"),
        ("P", "a.png", "jpg", "RGB"),
        ("RGBA", "a.png", "png", "RGBA"),
        ("CMYK", "a.jpg", "jpg", "RGB"),
        ("CMYK", "a.tif", "jpg", "RGB"),
        ("LAB", "a.tif", "jpg", "RGB"),
        ("RGB", "a.webp", "jpg", "RGB"),
        ("RGB", "a.bmp", "jpg", "RGB"),
        ("RGB", "a.ppm", "jpg", "RGB"),
    ],
)
def test_every_mode_ends_well(tmp_path: Path, mode: str, name: str, ending: str, mode_made: str) -> None:
    _, made = _make(tmp_path, _photo().convert(mode), name)
    assert set(made) == {f"{size}.{ending}" for size in SIZES}
    assert {image.mode for image in made.values()} == {mode_made}


def test_a_transparent_palette_keeps_its_transparency(tmp_path: Path) -> None:
    _, made = _make(tmp_path, _photo().quantize(4), "a.png", transparency=0)
    assert {image.mode for image in made.values()} == {"RGBA"}
    assert made["128.png"].getextrema()[3] == (0, 255)


@pytest.mark.parametrize(("sample", "grey"), [(0, 0), (0x8080, 0x80), (65535, 255)])
def test_sixteen_bits_become_their_upper_eight(tmp_path: Path, sample: int, grey: int) -> None:
    _, made = _make(tmp_path, Image.new("I;16", (300, 200), sample), "deep.png")
    assert made["128.jpg"].getpixel((60, 40)) == grey


def test_samples_of_a_range_of_their_own_are_spread_over_it(tmp_path: Path) -> None:
    heights = Image.new("F", (200, 200), -3.5)
    heights.paste(1e6, (0, 0, 100, 200))
    _, made = _make(tmp_path, heights, "heights.tif")
    assert made["128.jpg"].getpixel((20, 64)) > 250
    assert made["128.jpg"].getpixel((108, 64)) < 5


def test_of_an_animation_the_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (300, 200), colour) for colour in ("red", "green")]
    facts, made = _make(tmp_path, frames[0], "moving.gif", save_all=True, append_images=frames[1:])
    assert facts["image::animated"] is True
    red, green, _ = made["128.jpg"].getpixel((60, 40))
    assert red > 250 > 5 > green


def _camera() -> Any:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker\0 ", "M\x07odel 1"
    exif[0x0132] = "2020:01:02 03:04:05"
    exif.get_ifd(0x8769)[0x9003] = "2026:11:21 09:30:00"
    exif.get_ifd(0x8769)[0x9011] = "+01:00"
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2], gps[3], gps[4] = "S", (33.0, 51.0, 36.0), "W", (151.0, 12.0, 36.0)
    gps[5], gps[6] = b"\x01", 12.5
    return exif


def test_what_the_camera_said(tmp_path: Path) -> None:
    facts, made = _make(tmp_path, _photo(), "photo.jpg", exif=_camera(), comment=b"secret", xmp=b"<secret/>")
    assert {name: value for name, value in facts.items() if name.startswith("exif")} == {
        "exif::make": "Maker",
        "exif::model": "M odel 1",
        "exif::date_taken": "2026-11-21T09:30:00+01:00",
    }
    for path in (tmp_path / "made").iterdir():
        assert b"secret" not in path.read_bytes()
        assert b"Exif" not in path.read_bytes()
    assert all(not dict(image.getexif()) for image in made.values())


@pytest.mark.parametrize(
    ("said", "offset", "written"),
    [
        ("2015:08:22 10:08:19", "+02:00", "2015-08-22T10:08:19+02:00"),
        ("2015:08:22 10:08:19", "+99:00", "2015-08-22T10:08:19"),
        ("2015:08:22 10:08:19", "+02:75", "2015-08-22T10:08:19"),
        ("2015:08:22 10:08:19.25", None, "2015-08-22T10:08:19.25"),
        ("2015-08-22T10:08:19Z", "+02:00", "2015-08-22T10:08:19Z"),
        ("2016:02:29 00:00:00", None, "2016-02-29T00:00:00"),
        ("2015:08:22 24:08:19", None, None),
        ("2015:08:22 10:60:19", None, None),
        ("2015:08:22 10:08:61", None, None),
        ("2015:13:22 10:08:19", None, None),
        ("2015:02:29 10:08:19", None, None),
        ("2015:00:00 00:00:00", None, None),
        ("0000:00:00 00:00:00", None, None),
        ("    :  :     :  :  ", None, None),
        ("2015:08:22", None, None),
        ("\u0662015:08:22 10:08:19", None, None),
    ],
)
@pytest.mark.parametrize("ending", ["jpg", "webp"])
def test_only_a_valid_date_is_said_as_iso_8601(
    tmp_path: Path, ending: str, said: str, offset: str | None, written: str | None
) -> None:
    exif = Image.Exif()
    details = exif.get_ifd(0x8769)
    details[0x9003] = said
    if offset:
        details[0x9011] = offset
    Image.new("RGB", (40, 30)).save(tmp_path / f"a.{ending}", exif=exif)
    facts = program.process(tmp_path / f"a.{ending}", tmp_path / "made")
    assert facts.get("exif::date_taken") == written


def test_a_damaged_date_of_the_picture_leaves_that_of_its_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003], exif[0x0132] = "2015:08:22 24:08:19", "2016:01:02 03:04:05"
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", exif=exif)
    assert program.process(tmp_path / "a.jpg", tmp_path / "made")["exif::date_taken"] == "2016-01-02T03:04:05"


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return len(content).to_bytes(4, "big") + kind + content + checksum.to_bytes(4, "big")


_BOMB = zlib.compress(bytes(50_000_000))


@pytest.mark.parametrize(
    "chunks",
    [
        _chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * 1_100_000)),
        _chunk(b"iTXt", b"workflow\0\1\0\0\0" + _BOMB),
        _chunk(b"tEXt", b"workflow\0" + b"x" * 3_000_000),
        _chunk(b"tEXt", b"workflow\0" + b"x" * 1_000_000) * 70,
        _chunk(b"zTXt", b"Raw profile type exif\0\0" + _BOMB),
        _chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"x" * 100)[:-4]),
        _chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + _BOMB),
        _chunk(b"iCCP", b"profile\0\0" + _BOMB),
        _chunk(b"iCCP", b"profile\0\0" + zlib.compress(b"x" * 4000)[:-30]),
        _chunk(b"iCCP", b"profile\0\7" + zlib.compress(b"x" * 4000)),
        _chunk(b"iCCP", b"no end"),
        _chunk(b"eXIf", b"MM\0*damaged"),
        _chunk(b"eXIf", b"x" * 3_000_000),
        _chunk(b"tEXt", b"workflow\0x")[:-1] + b"?",
        _chunk(b"gAMA", b"damaged"),
        _chunk(b"pHYs", b""),
    ],
    ids=range(16),
)
def test_what_a_png_holds_beside_its_pixels_never_hinders(tmp_path: Path, chunks: bytes) -> None:
    Image.new("RGB", (40, 30), "orange").save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:33] + chunks + content[33:])
    facts = program.process(tmp_path / "a.png", tmp_path / "made")
    assert (facts["image::width"]["value"], facts["image::format"]) == (40, "PNG")
    with Image.open(tmp_path / "made" / "a_128.jpg") as made:
        assert made.size == (40, 30)
        assert "icc_profile" not in made.info


def test_a_png_keeps_its_orientation_profile_frames_and_transparency(tmp_path: Path) -> None:
    cms = pytest.importorskip("PIL.ImageCms")
    exif, profile = Image.Exif(), cms.ImageCmsProfile(cms.createProfile("sRGB")).tobytes()
    exif[0x0112] = 6
    frame = Image.new("RGBA", (40, 30), (255, 0, 0, 128))
    more = [Image.new("RGBA", (40, 30), "blue")]
    frame.save(tmp_path / "a.png", exif=exif, icc_profile=profile, save_all=True, append_images=more)
    facts = program.process(tmp_path / "a.png", tmp_path / "made")
    assert (facts["exif::orientation"], facts["image::animated"]) == (6, True)
    with Image.open(tmp_path / "made" / "a_128.png") as made:
        assert (made.size, made.mode, made.info["icc_profile"]) == ((30, 40), "RGBA", profile)


@pytest.mark.parametrize("damaged", [b"", b"x" * 200, b"\0\0\x10\0" + bytes(32) + b"acsp" + bytes(200)])
def test_a_profile_that_is_not_whole_is_left_out(tmp_path: Path, damaged: bytes) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", icc_profile=damaged)
    program.process(tmp_path / "a.jpg", tmp_path / "made")
    with Image.open(tmp_path / "made" / "a_128.jpg") as made:
        assert "icc_profile" not in made.info


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_there_is_not_is_left_out(tmp_path: Path, ending: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 30)).save(tmp_path / f"a.{ending}", exif=exif)
    facts = program.process(tmp_path / f"a.{ending}", tmp_path / "made")
    assert "exif::orientation" not in facts
    with Image.open(tmp_path / "made" / "a_128.jpg") as made:
        assert made.size == (40, 30)


def test_where_it_was_taken_is_said_only_if_asked(tmp_path: Path) -> None:
    _photo().save(tmp_path / "photo.jpg", exif=_camera())
    facts = program.process(tmp_path / "photo.jpg", tmp_path / "made", gps=True)
    assert {name: value for name, value in facts.items() if "gps" in name} == {
        "exif::gps_latitude": {"value": -33.86, "units": "degrees"},
        "exif::gps_longitude": {"value": -151.21, "units": "degrees"},
        "exif::gps_altitude": {"value": -12.5, "units": "m"},
    }


@pytest.mark.parametrize(
    "change",
    [
        {1: "X"},
        {2: (33.0, 51.0)},
        {2: (400.0, 0.0, 0.0)},
        {2: (float("nan"), 0.0, 0.0)},
        {4: "here"},
        {3: None},
    ],
)
def test_a_place_that_makes_no_sense_is_left_out(change: dict[int, Any]) -> None:
    gps = {1: "N", 2: (33.0, 51.0, 36.0), 3: "E", 4: (151.0, 12.0, 36.0)}
    assert dict(program.place(gps))
    assert not dict(program.place({**gps, **change}))


@pytest.mark.parametrize("taken", ["0000:00:00 00:00:00", "yesterday", "", 7, None])
def test_a_date_that_is_none_is_left_out(taken: Any) -> None:
    assert program.date(taken, "+01:00") == ""


def test_metadata_is_never_more_than_a_catalog_holds(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "é" * 40_000
    facts, _ = _make(tmp_path, _photo(), "photo.jpg", exif=exif)
    found = output_metadata.parse(json.dumps(facts).encode(), "m.json")
    assert len(next(avu.value for avu in found if avu.attribute == "exif::make")) == 255


def _refusal(path: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, CONTAINER / "make-thumbnails", *options, path, path.parent / "made"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"make-thumbnails: {path.name}: ")
    return line


def test_what_is_no_image_is_named_with_its_cause(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"These are notes.")
    assert "is not an image of a kind that is read here (JPEG, PNG" in _refusal(path)
    _photo().save(path)
    assert "it has more than 1000 pixels" in _refusal(path, "--max-pixels", "1000")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "it is damaged (image file is truncated" in _refusal(path)
    path.unlink()
    assert "No such file or directory" in _refusal(path)


def test_nothing_that_would_run_a_program_is_read(tmp_path: Path) -> None:
    path = tmp_path / "drawing.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    assert "is not an image of a kind" in _refusal(path)


def test_damage_anywhere_ends_well_or_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes changed at random: thumbnails or one line, never a traceback."""
    chance = random.Random(3)
    endings = set()
    for name, how in (("a.jpg", {"exif": _camera()}), ("a.png", {}), ("a.gif", {}), ("a.tif", {}), ("a.webp", {})):
        _photo((60, 40)).save(tmp_path / name, **how)
        whole = (tmp_path / name).read_bytes()
        for _ in range(40):
            damaged = bytearray(whole)
            for _ in range(chance.randint(1, 8)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            (tmp_path / name).write_bytes(damaged[: chance.randint(1, 2 * len(damaged))])
            sys.argv[:] = ["make-thumbnails", str(tmp_path / name), str(tmp_path / "made"), "--max-pixels", "1000000"]
            status = program.main()
            said = capsys.readouterr().err
            endings.add(status)
            assert (status, said.count("\n")) in ((0, 0), (1, 1)), said
    assert endings == {0, 1}


# Findings that become AVUs


def test_values_with_and_without_units() -> None:
    said = b'{"a": "text", "b": 3, "c": {"value": 2.5, "units": "m"}, "d": {"value": true}, "\xc3\xa9": "\xc3\xa9"}'
    assert output_metadata.parse(said, "m.json") == (
        Avu("a", "text"),
        Avu("b", "3"),
        Avu("c", "2.5", "m"),
        Avu("d", "true"),
        Avu("é", "é"),
    )


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"[]", "expected an object"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": null}', "null, expected a string"),
        (b'{"a": [1]}', "a list of 1 item"),
        (b'{"a": {"units": "m"}}', 'expected one with "value"'),
        (b'{"a": {"value": 1, "unit": "m"}}', 'expected one with "value"'),
        (b'{"a": {"value": {}}}', "expected a string"),
        (b'{"a": {"value": 1, "units": 2}}', "for units"),
        (b'{"a": ""}', "an empty value"),
        (b'{"": "a"}', "an empty attribute"),
        (b'{"a": "b\\u0000"}', "control character"),
        (b'{"a": "b\\nc"}', "control character"),
        (b'{"a\\u0085": "b"}', "control character"),
        (b'{"a": "\\ud800"}', "half a character"),
        (b'{"a": NaN}', "not a JSON number"),
        (b'{"irods::compute_to_data::state": "COMPLETED"}', "reserved for the system"),
        (b'{"site::state": "COMPLETED"}', "reserved for the system"),
        (json.dumps({"a": "x" * 2701}).encode(), "more than 2700 bytes"),
        (json.dumps({"x" * 2701: "a"}).encode(), "more than 2700 bytes"),
        (json.dumps({"a": "é" * 1351}).encode(), "more than 2700 bytes"),
        (json.dumps({"a": {"value": 1, "units": "u" * 251}}).encode(), "more than 250 bytes"),
        (json.dumps({str(number): 1 for number in range(101)}).encode(), "at most 100"),
    ],
)
def test_what_cannot_or_must_not_be_an_avu_is_refused(said: bytes, words: str) -> None:
    with pytest.raises(TaskFailed, match=r"output 'm\.json'") as caught:
        output_metadata.parse(said, "m.json", ("site::",))
    assert words in str(caught.value)
    assert caught.value.reason is ReasonCode.OUTPUT_REFUSED


@pytest.mark.parametrize("exchanged_for", ["other bytes", "a link", "a linked folder", "nothing"])
def test_findings_are_read_from_the_very_file_that_was_taken_in(tmp_path: Path, exchanged_for: str) -> None:
    (tmp_path / "about").mkdir()
    place = tmp_path / "about" / "it.json"
    place.write_bytes(b'{"k": 1}')
    files = inventory(str(tmp_path), "/z/c", size_limit=1000, file_limit=10, reserved=frozenset()).files
    execution: Any = SimpleNamespace(
        files=files,
        job=SimpleNamespace(outputs=str(tmp_path)),
        context=SimpleNamespace(configuration=SimpleNamespace(attributes=Attributes())),
    )
    assert output_metadata.read(execution, "about/it.json") == (Avu("k", "1"),)
    if exchanged_for == "other bytes":
        place.write_bytes(b'{"k": 2}')
    elif exchanged_for == "a linked folder":
        place.parent.rename(tmp_path / "moved")
        place.parent.symlink_to(tmp_path / "moved")
    else:
        place.rename(tmp_path / "moved")
        if exchanged_for == "a link":
            place.symlink_to(tmp_path / "moved")
    with pytest.raises(TaskFailed, match="changed while it was read"):
        output_metadata.read(execution, "about/it.json")


@pytest.fixture
def describing(tmp_path: Path) -> TrialSite:
    """A role whose program leaves AVUs in ``about/it.json``."""
    (tmp_path / "tools").mkdir()
    engine = {"name": "process", "images": {"tools": str(tmp_path / "tools")}}
    roles = {"CONTAINER": {"implementation": "support.metadata_role:Describing"}}
    return TrialSite(tmp_path, engine, "tools", roles=roles)


def test_findings_stand_on_the_collection_and_every_output(describing: TrialSite) -> None:
    said = '{"k": {"value": 7, "units": "m"}}'
    script = f"mkdir /outputs/about; echo 1 > /outputs/one; echo '{said}' > /outputs/about/it.json"
    facts = describing.run(describing.request("/bin/sh", "-c", script))
    assert facts["state"] == "COMPLETED", facts
    for entity in (
        Entity(EntityKind.COLLECTION, facts["collection"]),
        Entity(EntityKind.DATA_OBJECT, f"{facts['collection']}/one"),
        Entity(EntityKind.DATA_OBJECT, f"{facts['collection']}/about/it.json"),
    ):
        assert Avu("k", "7", "m") in describing.alice.avus(entity)


@pytest.mark.parametrize(
    ("script", "reason", "words"),
    [
        ("true", "output_missing", "about/it.json"),
        ("""echo '{"irods::x": 1}' > /outputs/about/it.json""", "output_refused", "reserved for the system"),
        ("head -c 65537 /dev/zero > /outputs/about/it.json", "output_refused", "at most 65536"),
        ("ln -s /etc/hostname /outputs/about/it.json", "output_refused", "symbolic link"),
        ("mkdir /outputs/about/it.json", "output_missing", "about/it.json"),
    ],
)
def test_a_task_with_unusable_findings_fails_as_a_whole(
    describing: TrialSite, script: str, reason: str, words: str
) -> None:
    submitted = describing.submit(describing.request("/bin/sh", "-c", f"mkdir /outputs/about; {script}"))
    before = describing.snapshot(without=submitted.collection)
    with describing.working():
        facts = describing.ended(submitted)
    assert (facts["state"], facts["reason_code"]) == ("FAILED", reason), facts
    assert words in facts["reason"]
    assert describing.snapshot(without=submitted.collection) == before
    assert describing.leftovers(submitted) == []
    assert set(describing.contents(submitted.collection)) - {"failed/about/it.json"} == {"task.json"}


# Documentation


def test_every_example_in_the_documentation_is_accepted() -> None:
    text = (Path(__file__).parents[2] / "docs" / "roles.md").read_text("utf-8")
    configurations = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    assert len(configurations) == 2
    for block in configurations:
        site_file.parse(json.loads(block), "documentation")
    (module,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(module, names)
    role = names["Sharpness"]("SHARPNESS", {"image": "i"})
    assert role.program(_task(), ("/inputs/x",), {}).commands == (("sharpness", "--threshold", "0.5", "/inputs/x"),)
    for hook in re.findall(r"^\| `(\w+)\(", text, re.MULTILINE):
        assert callable(getattr(role, hook))


# A whole task


@pytest.fixture
def studio(tmp_path: Path) -> TrialSite:
    site = TrialSite(tmp_path, EVERYTHING, IMAGE, roles={"IMAGE_PROCESSING": {"image": IMAGE}})
    site.take_role(COMPUTE, "CONTAINER")
    site.give_role(COMPUTE, "IMAGE_PROCESSING")
    return site


def _run(site: TrialSite, content: bytes) -> dict[str, str]:
    site.alice.write(f"{HOME}/photo.jpg", content)
    return site.run({"resource": COMPUTE, "inputs": [f"{HOME}/photo.jpg"], "output_collection": f"{HOME}/out"})


def test_a_photo_becomes_thumbnails_and_avus(studio: TrialSite, tmp_path: Path) -> None:
    _photo().save(tmp_path / "photo.jpg", exif=_camera())
    facts = _run(studio, (tmp_path / "photo.jpg").read_bytes())
    assert facts["state"] == "COMPLETED", facts
    folder = "photo_thumbnails/photo"
    made = {name for name in studio.contents(facts["collection"]) if "/" in name}
    assert made == {f"{folder}_metadata.json", *(f"{folder}_{size}.jpg" for size in SIZES)}
    avus = {*studio.alice.avus(Entity(EntityKind.DATA_OBJECT, f"{facts['collection']}/{folder}_512.jpg"))}
    assert {Avu("image::width", "1200", "pixels"), Avu("exif::make", "Maker")} <= avus
    assert not [avu for avu in avus if "gps" in avu.attribute]


def test_a_task_on_what_is_no_image_says_so(studio: TrialSite) -> None:
    facts = _run(studio, b"These are notes.")
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "nonzero_exit")
    assert "make-thumbnails: photo.jpg: it is not an image" in facts["reason"]

"""Kinds of files, by name and by their first bytes: what a user calls a picture, and why one cannot be read."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import PurePosixPath

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM")
"""Formats that are opened. The list leaves out formats that run programs (EPS) and formats that no camera writes."""
GRAY = {"pgm": "PGM", "pfm": "PFM"}
"""Output formats that hold gray only, by extension; the input is a PPM to Pillow."""
BITMAP = "pbm"
"""Extension of a format that holds black and white only."""

WRITTEN = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP", "tiff": "TIFF"}
"""Formats that `output_format` names; with `keep` an output has its input's."""
_ADDED = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "TIFF": ".tif"}

EXTRAS = {"HEIC": ("heif", "pillow-heif", "pillow_heif"), "JPEG XL": ("jxl", "pillow-jxl-plugin", "pillow_jxl"),
          "camera RAW": ("raw", "rawpy", "rawpy")}  # fmt: skip
"""Kinds that a package reads, if it is installed: jaxstyle's extra with it, its name, and the module. Their outputs
have another format: PNG, unless their names claim one."""

CONVERT = "Convert it to JPEG, PNG or TIFF."
DEVELOP = "Develop it to TIFF or JPEG with a RAW converter."
EXPORT = "Export it as PNG or TIFF."

_OWN = {
    "JPEG": "jpg jpeg jpe jfif mpo", "PNG": "png apng", "WEBP": "webp", "TIFF": "tif tiff", "BMP": "bmp dib",
    "GIF": "gif", "AVIF": "avif avifs", "JPEG2000": "jp2 j2k j2c jpc jpf jpx jpt", "PPM": "ppm pgm pbm pnm pfm",
}  # fmt: skip
_RAW = (
    "dng nef nrw cr2 cr3 crw arw arq srf sr2 orf ori rw2 rwl raf pef ptx srw x3f 3fr fff iiq mef mos mrw kdc dcr dcs "
    "dc2 k25 erf gpr cap eip bay cs1 rwz lfr mdc obm nksc raw"
)
_FOREIGN = {
    "HEIC": ("heic heif hif heics heifs", CONVERT),
    "JPEG XL": ("jxl", CONVERT),
    "JPEG XR": ("jxr wdp hdp", CONVERT),
    "a compound JPEG 2000": ("jpm mj2", CONVERT),
    "camera RAW": (_RAW, DEVELOP),
    "a layered file of an editor": ("psd psb xcf kra ora clip pdn afphoto procreate sai", EXPORT),
    "a vector drawing": ("svg svgz eps ai wmf emf", EXPORT),
    "OpenEXR": ("exr", CONVERT),
    "Radiance HDR": ("hdr rgbe", CONVERT),
    "DPX or Cineon": ("dpx cin", CONVERT),
    "Truevision TGA": ("tga icb vda vst", CONVERT),
    "a picture format that is not read": (
        "pcx dcx qoi flif bpg dds sgi rgb rgba bw ras sun xbm xpm ico icns cur pcd pict pct iff ilbm lbm fits fit fts "
        "dcm insp livp hips flc fli pam jls jng mng",
        CONVERT,
    ),
}
_FORMAT_OF = {extension: format for format, names in _OWN.items() for extension in names.split()}
_FOREIGN_OF = {name: (kind, remedy) for kind, (names, remedy) in _FOREIGN.items() for name in names.split()}

_MAGIC = (
    (rb"\xff\xd8\xff", "JPEG"), (rb"\x89PNG\r\n\x1a\n", "PNG"), (rb"RIFF....WEBP", "WEBP"), (rb"GIF8[79]a", "GIF"),
    (rb"II\*\0.{4}(?:CR|IIII)", "camera RAW"),
    (rb"II[*+]\0|MM\0[*+]", "TIFF"), (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "BMP"),
    (rb"....ftypavi[fs]", "AVIF"), (rb"P[1-6fF][\s#]", "PPM"), (rb"\0\0\0\x0cjP  \r\n|\xff\x4f\xff\x51", "JPEG2000"),
    (rb"....ftyp(?:hei[cfmsx]|hev[cms]|mif[12]|msf1|vvic)", "HEIC"), (rb"....ftypcrx ", "camera RAW"),
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n", "JPEG XL"), (rb"II\xbc", "JPEG XR"),
    (rb"IIR[OS]|MMOR|IIU\0|FUJIFILMCCD-RAW|II\x1a\0\0\0HEAPCCDR|FOVb|\0MRM", "camera RAW"),
    (rb"8BPS|gimp xcf", "a layered file of an editor"), (rb"\x76\x2f\x31\x01", "OpenEXR"),
    (rb"#\?RADIANCE|#\?RGBE", "Radiance HDR"),
    (rb"SDPX|XPDS|\x80\x2a\x5f\xd7", "DPX or Cineon"), (rb"%!PS-Adobe.{0,20}EPS", "a vector drawing"),
    (rb"qoif|FLIF|BPG\xfb|DDS |SIMPLE  =|\x8aMNG|\x8bJNG|P7\n|.{128}DICM", "a picture format that is not read"),
)  # fmt: skip
_PATTERNS = [(re.compile(pattern, re.DOTALL), kind) for pattern, kind in _MAGIC]
MAGIC_BYTES = 132
"""Bytes at the start of a file that decide its kind by content."""


def extension(name: str) -> str:
    """Returns the extension of a name in folded case, without its dot; "" if it has none."""
    return PurePosixPath(name).suffix.casefold().removeprefix(".")


def by_content(start: bytes) -> str:
    """Returns the kind of picture that a file's first `MAGIC_BYTES` bytes show, a format or another; "" if none."""
    return next((kind for pattern, kind in _PATTERNS if pattern.match(start)), "")


def usual_extension(format: str) -> str:
    """Returns the extension that files of a format usually have."""
    return {"MPO": "jpg", "TIFF": "tif"}.get(format) or _OWN[format].split()[0]


def by_name(name: str) -> str:
    """Returns the kind of picture that a file's name claims, a format or another; "" if none."""
    end = extension(name)
    return _FORMAT_OF.get(end) or _FOREIGN_OF.get(end, ("", ""))[0]


@cache
def is_read(kind: str) -> bool:
    """Whether pictures of a kind are read: a format of Pillow's, or a kind whose package is installed."""
    return kind in FORMATS or (kind in EXTRAS and find_spec(EXTRAS[kind][2]) is not None)


def remedy(kind: str) -> str:
    """Returns what helps with a picture of a kind that is not read."""
    found = next((remedy for known, (_, remedy) in _FOREIGN.items() if known == kind), CONVERT)
    if kind not in EXTRAS or is_read(kind):
        return found
    extra, package, _ = EXTRAS[kind]
    return f"{found} Or install jaxstyle's extra {extra!r}, which reads it: `pip install {package}`."


def refused(name: str, format: str, chosen: str = "keep") -> str:
    """Returns why a whole picture cannot be rendered under its name, with the remedy; "" if it can.

    Outputs have their inputs' names. A RAW file's thumbnail must not become an output that is called RAW.

    Args:
        format: that the content has.
        chosen: the setting `output_format`.
    """
    kind = by_name(name)
    if kind in EXTRAS and kind == format:
        return ""
    if kind == "camera RAW":
        return f"is camera RAW by its name; the {format} that can be read in it may be its thumbnail. {DEVELOP}"
    if extension(name) == BITMAP and format == "PPM" and chosen == "keep":
        return "its output would be in colour, and a .pbm holds black and white only. Convert it to .ppm or PNG."
    if kind and kind not in FORMATS:
        return f"is {kind} by its name, and a {format} by its content. Rename it."
    return ""


def output_format(name: str, format: str) -> str:
    """Returns the format of the output for an input's name and format.

    The format is the input's, except that MPO becomes JPEG and that a PPM called .pgm or .pfm becomes that. What only
    `EXTRAS` read becomes what its name claims, such as a HEIC called .jpg, or else a PNG.
    """
    if format in EXTRAS:
        claimed = by_name(name)
        return output_format(name, claimed) if claimed in FORMATS else "PNG"
    if format == "PPM":
        return GRAY.get(extension(name), "PPM")
    return "JPEG" if format == "MPO" else format


def output_name(key: str, chosen: str) -> str:
    """Returns the key of an output for its key in its input's format.

    A name that ends as the format does stays; others get the format's extension added: a.jpg becomes a.jpg.png, so that
    a.jpg and a.png have two outputs. No two keys become one, whatever else there is. Therefore a name that could be
    such an output, as a.jpg.png, gets the extension too, and a name without a picture's extension gets it twice.

    With the format of the input, names of kinds that only `EXTRAS` read get .png: a.heic becomes a.heic.png, and
    a.heic.png becomes a.heic.png.png.

    Args:
        chosen: the setting `output_format`.
    """
    format = WRITTEN.get(chosen)
    if format is None:
        return key + _ADDED["PNG"] if by_name(_without_png(key.casefold())) in EXTRAS else key
    plain = key.casefold()  # names that a file system takes for one are treated alike
    if by_name(plain) == format and not by_name(plain.removesuffix(PurePosixPath(plain).suffix)):
        return key
    return key + _ADDED[format] * (1 if by_name(plain) else 2)


def _without_png(name: str) -> str:
    while name.endswith(_ADDED["PNG"]):
        name = name.removesuffix(_ADDED["PNG"])
    return name


def naming_note(name: str, format: str, chosen: str = "keep") -> str:
    """Returns a note where a picture's name claims another format than it has, or where its output is gray; or "".

    Args:
        chosen: the setting `output_format`; if it names a format, that decides the output's name.
    """
    if chosen != "keep":
        return ""
    claimed, written = by_name(name), output_format(name, format)
    if written in GRAY.values():
        return f"the output is gray: a .{extension(name)} holds no colour"
    if claimed in FORMATS and format in EXTRAS:
        return f"is {format} in spite of its name, and its output is a {written}"
    if claimed in FORMATS and claimed != written:
        return f"is a {format} in spite of its name, and so is its output"
    return ""

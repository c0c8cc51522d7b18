"""The JPEG-LS decoder: pyjpegls, or imagecodecs for the Python versions that pyjpegls has no wheel for.

Both bring CharLS. This module is a decoding plugin of pydicom for imagecodecs, which pydicom itself does not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import Decoder, DecodeRunner
    from pydicom.uid import UID

# The two transfer syntaxes (PS3.6, table A-1), lossless and near-lossless.
SYNTAXES = frozenset({"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"})
# What pydicom asks of a plugin: its requirements by transfer syntax, `is_available`, and the function that decodes.
DECODER_DEPENDENCIES = dict.fromkeys(SYNTAXES, ("imagecodecs>=2026.3.6",))


def find_decoder(syntax: UID) -> Decoder:
    """Find the decoder of a JPEG-LS transfer syntax; its ``is_available`` says whether a package for it is installed.

    It is an instance of its own: pydicom's decoders, which the application may use too, stay as they are.
    """
    from pydicom.pixels.decoders.base import Decoder

    decoder = Decoder(syntax)
    decoder.add_plugin("pyjpegls", ("pydicom.pixels.decoders.pyjpegls", "_decode_frame"))
    if not decoder.is_available:
        decoder.add_plugin("imagecodecs", (__name__, "_decode_frame"))
    return decoder


def is_available(syntax: str) -> bool:
    """Whether imagecodecs is installed with its JPEG-LS part."""
    try:
        import imagecodecs
    except ImportError:
        return False
    return syntax in SYNTAXES and bool(imagecodecs.JPEGLS.available)


def _decode_frame(source: bytes, runner: DecodeRunner) -> bytes:
    """Decode one codestream (ITU-T T.87) of 2 to 16 bits a sample; raises what imagecodecs raises on damaged bytes."""
    import imagecodecs

    decoded = imagecodecs.jpegls_decode(source)
    runner.set_option("bits_allocated", 8 * decoded.dtype.itemsize)
    if decoded.ndim == 3:  # colour by pixel, whatever the interleave mode of the codestream
        runner.set_option("planar_configuration", 0)
    return bytes(decoded.tobytes())

# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write small ONNX files byte by byte, also such as the package onnx would refuse to write."""

from __future__ import annotations


def varint(value: int) -> bytes:
    data = b""
    while value > 0x7F:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + bytes([value])


def field(number: int, value: int | str | bytes) -> bytes:
    """One field of a protobuf message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def external(name: str, location: str, offset: object = 0, length: object = 4) -> bytes:
    """A float tensor whose number lies in another file."""
    pairs = (("location", location), ("offset", str(offset)), ("length", str(length)))
    said = b"".join(field(13, field(1, key) + field(2, value)) for key, value in pairs)
    return field(1, 1) + field(2, 1) + field(8, name) + said + field(14, 1)


def model(*parts: bytes, opset: int = 17) -> bytes:
    """A model with these parts of a graph."""
    return (
        field(1, 8)
        + field(2, "by-hand")
        + field(8, field(1, "") + field(2, opset))
        + field(7, b"".join(parts))
    )


def initializer(tensor: bytes) -> bytes:
    return field(5, tensor)


def in_attribute(tensor: bytes) -> bytes:
    """A node that holds a tensor in an attribute, as Constant does."""
    return field(1, field(4, "Constant") + field(5, field(1, "value") + field(5, tensor)))


def in_subgraph(*parts: bytes) -> bytes:
    """A node that holds a graph in an attribute, as If does."""
    return field(1, field(4, "If") + field(5, field(1, "then") + field(6, b"".join(parts))))

"""Records that the Python client cannot send, but a producer in C can."""

import ctypes
from collections.abc import Sequence
from pathlib import Path

import confluent_kafka

_END, _TOPIC, _PARTITION, _VALUE, _KEY, _TIMESTAMP, _HEADERS = 0, 1, 3, 4, 5, 8, 10
_COPY = 2
_VTYPE_MSGFLAGS = 7
_TIMEOUT_MS = 30_000


class NativeProducer:
    """A producer of the C library that the Python client brings. Names of headers are bytes."""

    def __init__(self, bootstrap_servers: str, **config: str) -> None:
        self._lib = _library()
        conf = self._lib.rd_kafka_conf_new()
        for name, value in {"bootstrap.servers": bootstrap_servers, **config}.items():
            error = ctypes.create_string_buffer(512)
            assert not self._lib.rd_kafka_conf_set(conf, name.encode(), value.encode(), error, 512)
        error = ctypes.create_string_buffer(512)
        self._handle = self._lib.rd_kafka_new(0, conf, error, 512)
        assert self._handle, error.value

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Sequence[tuple[bytes, bytes | None]] = (),
        partition: int = -1,
        timestamp_ms: int = 0,
    ) -> None:
        """Queue a record."""
        lib = self._lib
        of_record = lib.rd_kafka_headers_new(len(headers))
        for name, content in headers:
            size = -1 if content is None else len(content)
            lib.rd_kafka_header_add(of_record, name, len(name), content, size)
        error = lib.rd_kafka_producev(
            ctypes.c_void_p(self._handle),
            *(_TOPIC, ctypes.c_char_p(topic.encode())),
            *(_PARTITION, ctypes.c_int32(partition)),
            *(_VTYPE_MSGFLAGS, ctypes.c_int(_COPY)),
            *(_VALUE, ctypes.c_char_p(value), ctypes.c_size_t(len(value or b""))),
            *(_KEY, ctypes.c_char_p(key), ctypes.c_size_t(len(key or b""))),
            *(_TIMESTAMP, ctypes.c_int64(timestamp_ms)),
            *(_HEADERS, ctypes.c_void_p(of_record)),
            ctypes.c_int(_END),
        )
        assert error == 0, error

    def flush(self) -> None:
        """Wait until the brokers have everything."""
        assert self._lib.rd_kafka_flush(ctypes.c_void_p(self._handle), _TIMEOUT_MS) == 0

    def close(self) -> None:
        """End the client."""
        self._lib.rd_kafka_destroy(ctypes.c_void_p(self._handle))


def _library() -> ctypes.CDLL:
    folder = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    lib = ctypes.CDLL(str(next(folder.glob("librdkafka*"))))
    pointer = ctypes.c_void_p
    lib.rd_kafka_conf_new.restype = pointer
    lib.rd_kafka_conf_set.argtypes = [
        pointer,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    lib.rd_kafka_new.restype = pointer
    lib.rd_kafka_new.argtypes = [ctypes.c_int, pointer, ctypes.c_char_p, ctypes.c_size_t]
    lib.rd_kafka_headers_new.restype = pointer
    lib.rd_kafka_header_add.argtypes = [
        pointer,
        ctypes.c_char_p,
        ctypes.c_ssize_t,
        ctypes.c_char_p,
        ctypes.c_ssize_t,
    ]
    return lib

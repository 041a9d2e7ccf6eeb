"""What the client's group metadata says about our membership."""

from infra.kafka.errors import ConsumerFailed

_MAGIC = b"CGMDv2:"


def member_id(metadata: bytes) -> bytes:
    """The member's id in the client's group metadata; empty when it is no member.

    Raises:
        ConsumerFailed: the client library writes it in a form that is not known here.
    """
    if not metadata.startswith(_MAGIC):
        raise ConsumerFailed(
            "the client library's group metadata has an unknown form",
            hint="use a version of confluent-kafka that the lock file names",
        )
    # the magic, the generation in four bytes, then group and member, each ended by a zero byte
    return metadata[len(_MAGIC) + 4 :].split(b"\0")[1]
